//! The command line of `dfsd`.
//!
//! Exit codes: 0 done, 1 the node failed, 2 usage or something that the operator has to change.
//! Data goes to stdout, all else to stderr.

mod cert;
mod dev;
mod init;
mod log;
mod recover;
mod rejoin;
mod serve;
mod user;

use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, ConfigError};
use crate::disk::{Disk, DiskError};
use crate::secret;
use crate::serve::ServeError;
use crate::serve::certificates::Certificates;
use crate::tls::TlsError;
use crate::users::{Users, UsersError};
use clap::{Args, Parser, Subcommand};

/// A node of dfs, a file store of four nodes.
#[derive(Parser)]
#[command(name = "dfsd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Serve(serve::ServeArgs),
    /// Make the data directory of a node of a new cluster.
    Init(init::InitArgs),
    /// Give a node whose disk was lost, damaged or restored a new one; then serve it.
    Rejoin(rejoin::RejoinArgs),
    /// Get files out of data directories with no node running.
    Recover(recover::RecoverArgs),
    /// Check a configuration and the files it names, without starting.
    Check(ConfigArgs),
    /// Manage the users file.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make certificates for TLS.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Run a cluster of four nodes on this machine, to try dfs out.
    Dev(dev::DevArgs),
}

impl Command {
    /// Whether what it writes is nobody else's business. A certificate is, and so is what
    /// `recover` brings back.
    fn writes_secrets(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Init(_) | Self::Rejoin(_) | Self::User(_) | Self::Dev(_) => true,
            Self::Recover(_) | Self::Check(_) | Self::Cert(_) => false,
        }
    }
}

#[derive(Args)]
struct ConfigArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// What a command failed with.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Users(_)
            | Self::Disk(_)
            | Self::Tls(_)
            | Self::Io { .. }
            | Self::Usage(_) => 2,
            Self::Serve(error) if error.needs_operator() => 2,
            Self::Serve(_) | Self::Failed(_) => 1,
        }
    }
}

/// Runs the program with the arguments of the process and returns its exit code.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    if command.writes_secrets() {
        secret::keep_files_private();
    }
    let outcome = match command {
        Command::Serve(args) => serve::serve(&args),
        Command::Init(args) => init::init(&args),
        Command::Recover(args) => recover::recover(&args),
        Command::Rejoin(args) => rejoin::rejoin(&args),
        Command::Check(args) => check(&args),
        Command::User(command) => user::run(command),
        Command::Cert(command) => cert::run(&command),
        Command::Dev(args) => dev::dev(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                tell(format_args!("dfsd: {line}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Checks everything that a start would, but starts and writes nothing.
fn check(args: &ConfigArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config)?;
    let mut mistakes = Vec::new();
    let mut note = |outcome: Result<(), String>| mistakes.extend(outcome.err());
    note(config.read_secret().map(drop).map_err(|e| e.to_string()));
    note(Users::load(&config.users_file).map(drop).map_err(|e| e.to_string()));
    match Certificates::of(&config) {
        Ok(certificates) => {
            certificates.warnings().for_each(|what| tell(format_args!("dfsd: warning: {what}")));
        }
        Err(error) => note(Err(error.to_string())),
    }
    note(Disk::check(&config).map_err(|e| e.to_string()));
    if !mistakes.is_empty() {
        return Err(ConfigError { mistakes }.into());
    }
    say(format_args!("{}: ok", args.config.display()));
    Ok(())
}

/// Prints a line of data. A reader that has gone away is none of a node's business.
fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// Prints a line for people.
fn tell(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::Failed(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}
