//! SeaweedFS by its own ways: plain HTTP to the filer for small files, `weed filer.copy` and
//! `weed filer.cat` for large ones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::http::{Body, Connection, Request};
use crate::server;

/// A folder of a filer.
#[derive(Debug, Clone)]
pub(crate) struct Filer {
    pub(crate) weed: PathBuf,
    pub(crate) address: SocketAddr,
    /// Where weed finds no configuration of anybody's.
    pub(crate) home: PathBuf,
}

/// Where everything is stored.
const ROOT: &str = "/bench";

impl Filer {
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}{ROOT}/{name}", self.address)
    }

    /// Copies a file or a folder into a folder of the filer.
    pub(crate) async fn copy(
        &self,
        local: &Path,
        folder: &str,
        limit: Duration,
    ) -> Result<u64, Error> {
        let set_up = |command: &mut Command| {
            command.current_dir(&self.home).args(["filer.copy", "-c", "64"]);
            command.arg(local).arg(self.url(folder) + "/");
        };
        server::run_tool(&self.weed, set_up, limit).await
    }

    /// Reads a file.
    pub(crate) async fn cat(
        &self,
        name: &str,
        local: &Path,
        limit: Duration,
    ) -> Result<u64, Error> {
        let set_up = |command: &mut Command| {
            command.current_dir(&self.home).args(["filer.cat", "-o"]);
            command.arg(local).arg(self.url(name));
        };
        server::run_tool(&self.weed, set_up, limit).await
    }
}

pub(crate) async fn put(to: &mut Connection, name: &str, body: Bytes) -> Result<(), Error> {
    ask(to, "PUT", name, Body::Bytes(body)).await.map(drop)
}

pub(crate) async fn get(from: &mut Connection, name: &str) -> Result<Vec<u8>, Error> {
    ask(from, "GET", name, Body::NONE).await
}

pub(crate) async fn remove(from: &mut Connection, name: &str) -> Result<(), Error> {
    ask(from, "DELETE", name, Body::NONE).await.map(drop)
}

async fn ask(
    connection: &mut Connection,
    method: &str,
    name: &str,
    body: Body<'_>,
) -> Result<Vec<u8>, Error> {
    let target = format!("{ROOT}/{name}");
    let headers = "Content-Type: application/octet-stream\r\n";
    let request = Request { method, target: &target, headers, body };
    Ok(connection.ask(request).await?.ok(&format!("{method} {target}"))?.body)
}
