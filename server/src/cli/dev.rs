//! `dfsd dev`: a cluster of four nodes on this machine, to try dfs out.
//!
//! Makes all that four nodes and a client need in one directory, then runs the nodes as child
//! processes until it is told to stop.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use dfs_proto::manifest::Incarnation;
use dfs_proto::name::UserName;
use dfs_proto::placement::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::cert::{create_ca, issue_node};
use super::{CliError, random, say, tell};
use crate::config::Config;
use crate::disk::Disk;
use crate::hex;
use crate::identity::replace_file;
use crate::users::{Role, Users};

/// The admin port of a node is this far above its port.
const ADMIN_OFFSET: u16 = 1000;
/// How long the nodes may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often nodes are looked at while they start.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const USER: &str = "alice";
/// Nobody renews what was made to try things out.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

#[derive(Args)]
pub(super) struct DevArgs {
    /// Where everything goes; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".dfs-dev")]
    dir: PathBuf,
    /// Port of node 1; nodes 2 to 4 take the next ones.
    #[arg(long, value_name = "PORT", default_value_t = 10001,
          value_parser = clap::value_parser!(u16).range(1..=64532))]
    base_port: u16,
    /// Encrypt connections, with certificates for 127.0.0.1 and localhost; in a new DIR only.
    #[arg(long)]
    tls: bool,
    /// Make the directory, but start no node.
    #[arg(long)]
    init_only: bool,
}

pub(super) fn dev(args: &DevArgs) -> Result<(), CliError> {
    let dir = prepare(args)?;
    let mut addresses = Vec::new();
    for node in NodeId::ALL {
        let config = Config::load(&dir.node_file(node))?;
        say(format_args!("node {node}: {}", config.listen));
        addresses.push(config.listen);
    }
    if args.init_only {
        say(format_args!("run the nodes: dfsd dev --dir {}", dir.dir.display()));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("the system gives no threads: {error}")))?;
    runtime.block_on(run_nodes(&dir, addresses))
}

/// Makes the directory, or takes one that was made before.
fn prepare(args: &DevArgs) -> Result<Layout, CliError> {
    let dir = Layout { dir: args.dir.clone() };
    if !dir.is_whole() {
        dir.make(args.base_port, args.tls)?;
    } else if args.tls && !dir.authority().is_dir() {
        return Err(CliError::Usage(format!(
            "{} was made without --tls; choose another --dir",
            args.dir.display()
        )));
    }
    Ok(dir)
}

/// The files of a development cluster.
struct Layout {
    dir: PathBuf,
}

impl Layout {
    fn node_file(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("dfs{node}.yaml"))
    }

    fn client_file(&self) -> PathBuf {
        self.dir.join("dfs.yaml")
    }

    /// Where the authority of the certificates is.
    fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// Whether this is a directory that was made here before.
    fn is_whole(&self) -> bool {
        let shared = ["users.yaml", "dfs.yaml", "alice.pass", "cluster.secret"];
        let shared = shared.iter().all(|name| self.dir.join(name).is_file());
        let node = |node: NodeId| {
            let identity = self.dir.join(format!("dfs{node}")).join("identity");
            self.node_file(node).is_file() && identity.is_file()
        };
        shared && NodeId::ALL.into_iter().all(node)
    }

    /// Makes everything in a new or empty directory.
    fn make(&self, base_port: u16, tls: bool) -> Result<(), CliError> {
        make_empty_dir(&self.dir)?;
        if tls {
            self.make_certificates()?;
        }
        let cluster = format!("dev-{}", hex::encode(&random::<2>()?));
        let password = hex::encode(&random::<10>()?);
        self.write("cluster.secret", &(hex::encode(&random::<32>()?) + "\n"))?;
        self.write("alice.pass", &format!("{password}\n"))?;
        let mut users = Users::load_or_empty(&self.dir.join("users.yaml"))?;
        let alice = UserName::new(USER).expect("the name is valid");
        users.add(alice, &password, Role::Admin)?;
        users.save()?;

        let ports = NodeId::ALL.map(|node| base_port + u16::from(node.get()) - 1);
        let addresses = ports.map(|port| format!("127.0.0.1:{port}")).join(", ");
        let client_tls = if tls { "tls: { ca: ca.pem }\n" } else { "" };
        let client = format!(
            "cluster: {cluster}\nnodes: [{addresses}]\nuser: {USER}\npassword_file: alice.pass\n\
             {client_tls}"
        );
        for (node, port) in NodeId::ALL.into_iter().zip(ports) {
            let admin = port + ADMIN_OFFSET;
            let node_tls = if tls {
                format!("tls: {{ cert: node{node}.pem, key: node{node}.key, ca: ca.pem }}\n")
            } else {
                String::new()
            };
            let text = format!(
                "cluster: {cluster}\n\
                 node: {node}\n\
                 listen: 127.0.0.1:{port}\n\
                 data_dir: dfs{node}\n\
                 users_file: users.yaml\n\
                 peers: [{addresses}]\n\
                 cluster_secret_file: cluster.secret\n\
                 admin_listen: 127.0.0.1:{admin}\n\
                 {node_tls}"
            );
            self.write(&format!("dfs{node}.yaml"), &text)?;
            let config = Config::load(&self.node_file(node))?;
            Disk::create(&config, Incarnation::new(random()?))?;
        }
        self.write("dfs.yaml", &client)
    }

    fn make_certificates(&self) -> Result<(), CliError> {
        create_ca(&self.authority(), CERTIFICATE_LIFE)?;
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        NodeId::ALL.into_iter().try_for_each(|node| {
            issue_node(&self.authority(), &self.dir, node.get(), &hosts, CERTIFICATE_LIFE)
        })
    }

    fn write(&self, name: &str, content: &str) -> Result<(), CliError> {
        let path = self.dir.join(name);
        replace_file(&path, content.as_bytes()).map_err(|source| CliError::Io { path, source })
    }
}

fn make_empty_dir(dir: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::Io { path: dir.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(dir).map_err(failed)?.next().is_some() {
                return Err(CliError::Usage(format!(
                    "{} is not empty and no whole development cluster; remove it or choose \
                     another --dir",
                    dir.display()
                )));
            }
            Ok(())
        }
        made => made.map_err(failed),
    }
}

/// Runs the nodes until a signal, or until all of them have ended by themselves.
async fn run_nodes(dir: &Layout, addresses: Vec<SocketAddr>) -> Result<(), CliError> {
    let failed = |what: &str, error: io::Error| CliError::Failed(format!("{what}: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("dfsd is not found", error))?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| failed("signals", error))?;
    let mut nodes = JoinSet::new();
    let mut pids = Vec::new();
    for node in NodeId::ALL {
        let mut child = Command::new(&program)
            .args(["serve", "--stop-with-stdin", "--config"])
            .arg(dir.node_file(node))
            // The node watches the other end: it closes even if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl+C reaches this process only, which then stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("a node does not start", error))?;
        pids.extend(pid(&child));
        let stdin = child.stdin.take();
        let config = dir.node_file(node);
        nodes.spawn(async move {
            if let Some(stderr) = child.stderr.take() {
                forward(node, stderr).await;
            }
            let status = child.wait().await;
            drop(stdin);
            match status {
                Ok(status) if status.success() => tell(format_args!("dfs{node} | ended")),
                Ok(status) => tell(format_args!(
                    "dfs{node} | ended: {status}; to start it again: dfsd serve --config {}",
                    config.display()
                )),
                Err(error) => tell(format_args!("dfs{node} | ended: {error}")),
            }
        });
    }
    say(format_args!("user {USER}; Ctrl+C stops the nodes"));
    let told = tell_when_ready(&addresses, dir);
    tokio::pin!(told);
    let mut ready = false;
    loop {
        tokio::select! {
            () = &mut told, if !ready => ready = true,
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            ended = nodes.join_next() => match ended {
                // Without it there will never be four; those that are there go on.
                Some(_) => ready = true,
                None => return Err(CliError::Failed("all four nodes have ended".to_owned())),
            },
        }
    }
    for pid in pids {
        // A node that is gone already needs no signal.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(PATIENCE, wait_for(&mut nodes)).await.is_err() {
        // Dropping what is left kills it.
        tell(format_args!("dfsd: some nodes did not stop in time and are killed"));
    }
    Ok(())
}

/// Says what to type next once all nodes answer: a node binds its port when it can serve.
async fn tell_when_ready(addresses: &[SocketAddr], dir: &Layout) {
    for address in addresses {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    let client = dir.client_file();
    say(format_args!(
        "all four nodes are ready; in another terminal: dfsctl --config {} put FILE",
        client.display()
    ));
}

async fn wait_for(nodes: &mut JoinSet<()>) {
    while nodes.join_next().await.is_some() {}
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Prints a node's log lines with its name in front.
async fn forward(node: NodeId, log: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tell(format_args!("dfs{node} | {line}"));
    }
}

#[cfg(test)]
mod tests;
