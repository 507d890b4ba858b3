//! `dfsd cert`: an authority and certificates for those who have none. Never overwrites a file.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CliError, say};
use crate::secret;
use crate::tls::issue::{self, Holder, Issued};

/// Anybody may read a certificate, nobody but its owner a key.
const CERT_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;
const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Subcommand)]
pub(super) enum CertCommand {
    /// Make the authority of a cluster: DIR/ca.pem for all, DIR/ca.key to be kept safe.
    CreateCa(CreateArgs),
    /// Make a certificate for a node or a client, signed by that authority.
    Issue(IssueArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Where it goes; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until it ends; then every certificate that it signed is worthless.
    #[arg(long, value_name = "DAYS", default_value_t = 3650,
          value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Args)]
pub(super) struct IssueArgs {
    /// Where `dfsd cert create-ca` put the authority.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// For the node at this position, 1 to 4: DIR/nodeN.pem and DIR/nodeN.key.
    #[arg(long, value_name = "N", required_unless_present = "client", conflicts_with = "client",
          requires = "host", value_parser = clap::value_parser!(u8).range(1..=4))]
    node: Option<u8>,
    /// Under which names and addresses others call the node, as in 'peers' and in the clients'
    /// 'nodes', without the port; may be given several times.
    #[arg(long, value_name = "NAME/IP", num_args = 1..)]
    host: Vec<String>,
    /// For a client, where nodes want certificates of their clients: DIR/NAME.pem and
    /// DIR/NAME.key.
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    client: Option<String>,
    /// Where they go; made if it is not there. `ca.pem` is put beside them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until it ends. Issue the next one before: running nodes take it over.
    #[arg(long, value_name = "DAYS", default_value_t = 825,
          value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

pub(super) fn run(command: &CertCommand) -> Result<(), CliError> {
    match command {
        CertCommand::CreateCa(args) => {
            create_ca(&args.out, DAY * args.days)?;
            let next = "dfsd cert issue";
            say(format_args!("next, for each node: {next} --ca {} …", args.out.display()));
            Ok(())
        }
        CertCommand::Issue(args) => issue(args),
    }
}

/// Makes an authority in `dir`.
pub(super) fn create_ca(dir: &Path, life: Duration) -> Result<(), CliError> {
    let made = issue::authority(life).map_err(failed)?;
    write_pair(dir, (CA_CERT, CA_KEY), &made)
}

/// Makes a node's certificate in `dir`.
pub(super) fn issue_node(
    ca: &Path,
    dir: &Path,
    node: u8,
    hosts: &[String],
    life: Duration,
) -> Result<(), CliError> {
    make(ca, dir, Holder::Node, &format!("node{node}"), hosts, life)
}

fn issue(args: &IssueArgs) -> Result<(), CliError> {
    let life = DAY * args.days;
    match (&args.client, args.node) {
        (Some(client), _) => {
            let plain = client.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if client.is_empty() || client.starts_with('.') || !plain {
                let text = "a client's name is made of a-z, A-Z, 0-9, '.', '_' and '-'";
                return Err(CliError::Usage(text.to_owned()));
            }
            make(&args.ca, &args.out, Holder::Client, client, &[], life)
        }
        (None, Some(node)) => issue_node(&args.ca, &args.out, node, &args.host, life),
        (None, None) => Err(CliError::Usage("give --node or --client".to_owned())),
    }
}

fn make(
    ca: &Path,
    dir: &Path,
    holder: Holder,
    name: &str,
    hosts: &[String],
    life: Duration,
) -> Result<(), CliError> {
    let ca_key = secret::read(&ca.join(CA_KEY)).map_err(|error| {
        CliError::Usage(format!("{error}; 'dfsd cert create-ca' makes an authority"))
    })?;
    let ca_path = ca.join(CA_CERT);
    let ca_cert = std::fs::read_to_string(&ca_path)
        .map_err(|source| CliError::Io { path: ca_path.clone(), source })?;
    let made = issue::certificate(&ca_key, holder, name, hosts, life).map_err(failed)?;
    if !issue::is_signed_by(&made, &ca_cert) {
        let text = format!(
            "{} and {CA_KEY} beside it were not made together by 'dfsd cert create-ca'",
            ca_path.display()
        );
        return Err(CliError::Usage(text));
    }
    write_pair(dir, (&format!("{name}.pem"), &format!("{name}.key")), &made)?;
    let beside = dir.join(CA_CERT);
    match std::fs::read_to_string(&beside) {
        Ok(there) if there == ca_cert => Ok(()),
        Ok(_) => Err(CliError::Usage(format!("{} is another authority's", beside.display()))),
        Err(_) => write_new(&beside, &ca_cert, CERT_MODE),
    }
}

fn write_pair(dir: &Path, names: (&str, &str), made: &Issued) -> Result<(), CliError> {
    let made_dir = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made_dir.map_err(|source| CliError::Io { path: dir.to_owned(), source })?;
    let (cert, key) = (dir.join(names.0), dir.join(names.1));
    // The key first: a certificate without one is of no use to anybody.
    write_new(&key, &made.key, KEY_MODE)?;
    write_new(&cert, &made.cert, CERT_MODE)?;
    say(format_args!("{} and {}: good until {}", cert.display(), key.display(), made.last_day));
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Usage(format!(
            "{} is there already and is not overwritten; move it away or choose another --out",
            path.display()
        )),
        _ => CliError::Io { path: path.to_owned(), source },
    })
}

fn failed(error: rcgen::Error) -> CliError {
    CliError::Usage(format!("no certificate can be made: {error}"))
}
