//! A way to store, read and list small files, one request at a time.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Error;
use crate::http::Connection;
use crate::s3::S3;
use crate::{dfs, filer};

/// No work stores a file of this name.
const ABSENT: &str = "absent";

/// A connection to a store.
pub(crate) enum Lane {
    Dfs(dfs_client::Client),
    Filer(Connection),
    S3(S3),
}

impl Lane {
    /// Connects, with a read of a file that is not there.
    pub(crate) async fn greet(&mut self) -> Result<(), Error> {
        match self {
            Self::Dfs(client) => dfs::miss(client, ABSENT).await,
            Self::Filer(connection) => filer::miss(connection, ABSENT).await,
            Self::S3(bucket) => bucket.miss(ABSENT).await,
        }
    }

    pub(crate) async fn put(&mut self, name: &str, body: Bytes) -> Result<(), Error> {
        match self {
            Self::Dfs(client) => dfs::put(client, name, body).await,
            Self::Filer(connection) => filer::put(connection, name, body).await,
            Self::S3(bucket) => bucket.put(name, body).await,
        }
    }

    /// Reads a file and returns its length.
    pub(crate) async fn get(&mut self, name: &str) -> Result<u64, Error> {
        match self {
            Self::Dfs(client) => dfs::get(client, name).await,
            Self::Filer(connection) => Ok(filer::get(connection, name).await?.len() as u64),
            Self::S3(bucket) => Ok(bucket.get(name).await?.len() as u64),
        }
    }

    /// Reads a file to disk.
    pub(crate) async fn get_to(&mut self, name: &str, local: &Path) -> Result<(), Error> {
        let body = match self {
            Self::Dfs(client) => return dfs::get_to(client, name, local).await,
            Self::Filer(connection) => filer::get(connection, name).await?,
            Self::S3(bucket) => bucket.get(name).await?,
        };
        fs::write(local, body).map_err(Error::file("write", local))
    }

    pub(crate) async fn remove(&mut self, name: &str) -> Result<(), Error> {
        match self {
            Self::Dfs(client) => dfs::remove(client, name).await,
            Self::Filer(connection) => filer::remove(connection, name).await,
            Self::S3(bucket) => bucket.remove(name).await,
        }
    }

    /// Lists the folder `name`: how many files, and when the first one was there.
    pub(crate) async fn list(&mut self, name: &str) -> Result<(u64, Duration), Error> {
        let began = Instant::now();
        let mut seen = Seen { began, files: 0, first: None };
        match self {
            Self::Dfs(client) => dfs::list(client, name, |files| seen.add(files)).await,
            Self::Filer(connection) => filer::list(connection, name, |files| seen.add(files)).await,
            Self::S3(bucket) => bucket.list(&format!("{name}/"), |files| seen.add(files)).await,
        }?;
        Ok((seen.files, seen.first.unwrap_or_default()))
    }
}

struct Seen {
    began: Instant,
    files: u64,
    first: Option<Duration>,
}

impl Seen {
    fn add(&mut self, files: usize) {
        if files > 0 {
            self.first = self.first.or_else(|| Some(self.began.elapsed()));
            self.files += files as u64;
        }
    }
}
