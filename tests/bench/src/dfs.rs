//! Four nodes of dfs, as `dfsd dev` sets them up, and its two clients: the library for many small
//! files, dfsctl for large ones and folders.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use dfs_client::{Client, Config, Credentials, FilePath, GetOptions, Prefix, PutOptions};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::server::{self, Server};

/// The admin ports of a development cluster are this far above the others.
const ADMIN_OFFSET: u16 = 1000;

/// No file that is read into memory is longer.
const LARGEST_BYTES: u64 = 1 << 20;

/// Four nodes.
pub(crate) struct Dfs {
    dfsctl: PathBuf,
    config: PathBuf,
    /// Where dfsctl keeps the tokens of its logins.
    cache: PathBuf,
    client: Client,
    nodes: Vec<Server>,
}

impl Dfs {
    /// Starts four nodes with their data in `dir`, and logs in.
    pub(crate) async fn start(bin: &Path, dir: &Path) -> Result<Self, Error> {
        let dfsd = bin.join("dfsd");
        let base = server::free_ports(4, ADMIN_OFFSET)?;
        let root = dir.join("cluster");
        let write = |command: &mut Command| {
            command.args(["dev", "--init-only", "--base-port", &base.to_string(), "--dir"]);
            command.arg(&root);
        };
        server::ask_tool(&dfsd, write).await?;
        let mut nodes = Vec::new();
        for node in 1..=4 {
            let config = root.join(format!("dfs{node}.yaml"));
            let serve = |command: &mut Command| {
                command.args(["serve", "--config"]).arg(config);
            };
            let log = dir.join(format!("dfs{node}.log"));
            nodes.push(Server::start(&dfsd, serve, &log)?);
        }
        for port in base..base + 4 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            server::listens(address, "dfsd").await?;
        }
        let config = root.join("dfs.yaml");
        let client = connect(&config).await?;
        Ok(Self { dfsctl: bin.join("dfsctl"), config, cache: dir.join("cache"), client, nodes })
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Server::pid).collect()
    }

    /// Kills a node, and lets the client notice.
    pub(crate) async fn lose_one(&mut self) -> Result<(), Error> {
        drop(self.nodes.pop());
        self.client = connect(&self.config).await?;
        Ok(())
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs dfsctl and returns the most memory it had resident, in KiB.
    pub(crate) async fn ctl(
        &self,
        set_up: impl FnOnce(&mut Command),
        limit: Duration,
    ) -> Result<u64, Error> {
        let set_up = |command: &mut Command| {
            command.env("XDG_CACHE_HOME", &self.cache).arg("--config").arg(&self.config);
            set_up(command);
        };
        server::run_tool(&self.dfsctl, set_up, limit).await
    }
}

/// Connects and logs in as the user of a development cluster.
async fn connect(config: &Path) -> Result<Client, Error> {
    let config = Config::load(config).map_err(said)?;
    let missing = || Error::refused("dfs", "the configuration names no user or password");
    let user = config.user.clone().ok_or_else(missing)?;
    let password = config.password_file.as_deref().ok_or_else(missing)?;
    let password = Config::read_password(password).map_err(said)?;
    Client::connect(&config, Credentials::new(user, password)).await.map_err(said)
}

pub(crate) async fn put(client: &Client, name: &str, body: Bytes) -> Result<(), Error> {
    let path = FilePath::new(name).map_err(said)?;
    client.put_bytes(path, body, PutOptions::default()).await.map(drop).map_err(said)
}

pub(crate) async fn get(client: &Client, name: &str) -> Result<u64, Error> {
    let path = FilePath::new(name).map_err(said)?;
    let read = client.get_bytes(path, LARGEST_BYTES, GetOptions::default()).await;
    Ok(read.map_err(said)?.0.len() as u64)
}

/// Reads a file that is not there.
pub(crate) async fn miss(client: &Client, name: &str) -> Result<(), Error> {
    let path = FilePath::new(name).map_err(said)?;
    match client.get_bytes(path, LARGEST_BYTES, GetOptions::default()).await {
        Err(dfs_client::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(said(error)),
        Ok(_) => Err(Error::refused(name, "is there")),
    }
}

pub(crate) async fn get_to(client: &Client, name: &str, local: &Path) -> Result<(), Error> {
    let path = FilePath::new(name).map_err(said)?;
    client.get(path, local, GetOptions::default()).await.map(drop).map_err(said)
}

pub(crate) async fn remove(client: &Client, name: &str) -> Result<(), Error> {
    let path = FilePath::new(name).map_err(said)?;
    client.remove(path, &CancellationToken::new()).await.map_err(said)
}

/// Tells `seen` of each file in a folder.
pub(crate) async fn list(
    client: &Client,
    folder: &str,
    mut seen: impl FnMut(usize),
) -> Result<(), Error> {
    let prefix = Prefix::new(format!("{folder}/")).map_err(said)?;
    let mut files = client.list(prefix, false);
    while files.next().await.map_err(said)?.is_some() {
        seen(1);
    }
    Ok(())
}

fn said(error: impl std::fmt::Display) -> Error {
    Error::refused("dfs", error)
}
