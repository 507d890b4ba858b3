//! SeaweedFS by its own ways: plain HTTP to the filer for small files, `weed filer.copy` and
//! `weed filer.cat` for large ones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

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

/// Reads a file that is not there.
pub(crate) async fn miss(from: &mut Connection, name: &str) -> Result<(), Error> {
    let target = format!("{ROOT}/{name}");
    from.ask(request("GET", &target, "", Body::NONE)).await?.missed(name)
}

/// Names of a folder in one answer: more than any folder of the work has.
const PAGE: usize = 10_000;

/// The bit of Go's `os.FileMode` that folders have.
const FOLDER: u64 = 1 << 31;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    entries: Option<Vec<Entry>>,
    last_file_name: String,
    should_display_load_more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    full_path: String,
    mode: u64,
}

/// Goes through a folder and those in it, and tells `seen` how many files each page has.
pub(crate) async fn list(
    from: &mut Connection,
    folder: &str,
    mut seen: impl FnMut(usize),
) -> Result<(), Error> {
    let mut folders = vec![format!("{ROOT}/{folder}")];
    while let Some(folder) = folders.pop() {
        let mut last = String::new();
        loop {
            let target = format!("{folder}/?limit={PAGE}&lastFileName={last}");
            let get = request("GET", &target, "Accept: application/json\r\n", Body::NONE);
            let body = from.ask(get).await?.ok(&target)?.body;
            let wrong = |error| Error::refused(&target, error);
            let page: Page = serde_json::from_slice(&body).map_err(wrong)?;
            let entries = page.entries.unwrap_or_default();
            let (inner, files): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| entry.mode & FOLDER != 0);
            seen(files.len());
            folders.extend(inner.into_iter().map(|entry| entry.full_path));
            if !page.should_display_load_more {
                break;
            }
            last = page.last_file_name;
        }
    }
    Ok(())
}

async fn ask(
    connection: &mut Connection,
    method: &str,
    name: &str,
    body: Body<'_>,
) -> Result<Vec<u8>, Error> {
    let target = format!("{ROOT}/{name}");
    let headers = "Content-Type: application/octet-stream\r\n";
    let request = request(method, &target, headers, body);
    Ok(connection.ask(request).await?.ok(&format!("{method} {target}"))?.body)
}

fn request<'a>(method: &'a str, target: &'a str, headers: &'a str, body: Body<'a>) -> Request<'a> {
    Request { method, target, headers, body }
}
