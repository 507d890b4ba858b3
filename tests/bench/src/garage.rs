//! Garage: four nodes, every block on two of them, S3.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;

use crate::error::Error;
use crate::s3::Bucket;
use crate::server::{self, START_LIMIT, Server};
use crate::sign::Keys;

/// Four ports for what the nodes say to each other, four for S3.
const PORTS: u16 = 8;

/// A cluster.
pub(crate) struct Garage {
    pub(crate) bucket: Bucket,
    nodes: Vec<Server>,
}

impl Garage {
    /// Starts a cluster with its data in `dir`. With `fsync` it syncs what it acknowledges.
    pub(crate) async fn start(garage: &Path, dir: &Path, fsync: bool) -> Result<Self, Error> {
        let base = server::free_ports(PORTS, 0)?;
        let at = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, base + offset));
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| Error::refused("garage", error))?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut nodes = Vec::new();
        for node in 0..4 {
            let home = dir.join(format!("garage{}", node + 1));
            fs::create_dir_all(&home).map_err(Error::file("make", &home))?;
            let (rpc, api) = (at(node), at(4 + node));
            let config = home.join("garage.toml");
            let text = settings(&home, &secret, rpc, api, fsync);
            fs::write(&config, text).map_err(Error::file("write", &config))?;
            let serve = |command: &mut Command| {
                command.arg("-c").arg(&config).arg("server");
            };
            nodes.push(Server::start(garage, serve, &home.join("log"))?);
            server::listens(rpc, "garage").await?;
            server::listens(api, "garage").await?;
        }
        let shell = Shell { garage, dir };
        let mut ids = Vec::new();
        for node in 1..=4 {
            ids.push(shell.ask(node, &["node", "id", "-q"]).await?.trim().to_owned());
        }
        for id in &ids[1..] {
            shell.ask(1, &["node", "connect", id]).await?;
        }
        for id in &ids {
            let id = id.split('@').next().unwrap_or_default();
            shell.ask(1, &["layout", "assign", "-z", "dc1", "-c", "20G", id]).await?;
        }
        shell.ask(1, &["layout", "apply", "--version", "1"]).await?;
        let key = shell.ask(1, &["key", "create", "bench"]).await?;
        let field = |name: &str| {
            let line = key.lines().find_map(|line| line.trim().strip_prefix(name));
            let value = line.map(|value| value.trim().to_owned());
            value.ok_or_else(|| Error::refused("garage key create", &key))
        };
        let keys = Keys {
            id: field("Key ID:")?,
            secret: field("Secret key:")?,
            region: "garage".to_owned(),
        };
        shell.ask(1, &["bucket", "create", "bench"]).await?;
        let rights =
            ["bucket", "allow", "--read", "--write", "--owner", "bench", "--key", &keys.id];
        shell.ask(1, &rights).await?;
        let bucket = Bucket { addresses: (4..8).map(at).collect(), name: "bench".to_owned(), keys };
        let cluster = Self { bucket, nodes };
        cluster.await_ready().await?;
        Ok(cluster)
    }

    /// Waits until a file can be stored by way of each node.
    async fn await_ready(&self) -> Result<(), Error> {
        let began = Instant::now();
        for node in 0..self.nodes.len() {
            let body = || Bytes::from_static(b"x");
            while let Err(error) = self.bucket.connect(node).put("ready", body()).await {
                if began.elapsed() > START_LIMIT {
                    return Err(error);
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Server::pid).collect()
    }

    /// Kills a node; from then on nobody asks it.
    pub(crate) fn lose_one(&mut self) {
        drop(self.nodes.pop());
        self.bucket.addresses.pop();
    }
}

struct Shell<'a> {
    garage: &'a Path,
    dir: &'a Path,
}

impl Shell<'_> {
    async fn ask(&self, node: usize, args: &[&str]) -> Result<String, Error> {
        let config: PathBuf = self.dir.join(format!("garage{node}/garage.toml"));
        let set_up = |command: &mut Command| {
            command.arg("-c").arg(config).args(args);
        };
        server::ask_tool(self.garage, set_up).await
    }
}

fn settings(home: &Path, secret: &str, rpc: SocketAddr, api: SocketAddr, fsync: bool) -> String {
    let home = home.display();
    format!(
        r#"metadata_dir = "{home}/meta"
data_dir = "{home}/data"
db_engine = "lmdb"
metadata_fsync = {fsync}
data_fsync = {fsync}
replication_factor = 2
rpc_bind_addr = "{rpc}"
rpc_public_addr = "{rpc}"
rpc_secret = "{secret}"

[s3_api]
s3_region = "garage"
api_bind_addr = "{api}"
"#
    )
}
