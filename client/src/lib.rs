//! The client of dfs: stores, reads, lists and removes files on four nodes.
//!
//! ```no_run
//! # async fn example() -> Result<(), dfs_client::Error> {
//! use dfs_client::{Client, Config, Credentials, FilePath, GetOptions, PutOptions, UserName};
//!
//! let config = Config::load("dfs.yaml".as_ref())?;
//! let user = UserName::new("alice").expect("a valid user name");
//! let client = Client::connect(&config, Credentials::new(user, "secret")).await?;
//!
//! let path = FilePath::new("notes/today.txt").expect("a valid path");
//! client.put_bytes(path.clone(), "hello".into(), PutOptions::default()).await?;
//! client.get(path, "today.txt".as_ref(), GetOptions::default()).await?;
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/roundtrip.rs` is the same as a program.
//!
//! The client talks to all four nodes itself. What must be decided is decided by the machines
//! of [`dfs_proto::protocol`]; the modules here carry their messages. Every wait has a
//! deadline. A client may be shared by any number of tasks; what they do at the same time
//! shares round trips.

#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the program has layers"))]
mod origin;

mod bandwidth;

mod config;

mod tls;

mod error;

mod random;

mod trace;

mod stop;

mod drive;

mod connect;

mod lane;

mod source;

mod room;

mod upload;

mod ask;

mod pairs;

mod nodes;

mod put;

mod locked;

mod swap;

mod partial;

mod note;

mod tokens;

mod sink;

mod whole;

mod look;

mod transfer;

mod range;

mod get;

mod list;

mod folders;

mod remove;

mod info;

mod repair;

mod verify;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(feature = "cli")]
pub mod cli;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::placement::PerNode;
use dfs_proto::wire::network::{self, Network};
use tokio_util::sync::CancellationToken;

pub use bandwidth::Bandwidth;
pub use config::{Config, ConfigError};
pub use connect::{Credentials, Notice, Notify};
pub use dfs_proto::name::{FilePath, Prefix, UserName};
pub use dfs_proto::protocol::health::{Health, readable_without};
pub use dfs_proto::protocol::listing::Listed;
pub use error::{Cause, Error, NodeError, Operation};
pub use folders::{FolderLister, Item};
pub use get::{GetOptions, GetReport};
pub use info::{Limited, NodeInfo, Usage};
pub use list::{Lister, PathState};
pub use pairs::Pair;
pub use put::{PutOptions, PutReport};
pub use range::{ByteRange, RangeError};
pub use repair::{
    RepairMode, RepairNews, RepairOptions, RepairReport, RepairState, RepairSummary, RepairedPath,
};
pub use tls::Tls;
pub use tokens::TokenCache;
pub use upload::Progress;
pub use verify::{Condition, CopyFault, Fault, Verified, VerifyOptions, VerifyReport};

use get::Output;
use nodes::Nodes;
use put::Input;
use sink::Memory;

/// How long [`Client::close`] waits for what goes on behind.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A connection to a cluster, for one user.
#[derive(Clone)]
pub struct Client {
    nodes: Arc<Nodes>,
}

impl Client {
    /// Connects to the four nodes at once and logs in.
    ///
    /// Nodes that do not answer are left out; they are asked again when they are needed. Fails
    /// only if every node that answered refused the credentials, or if a node is not the one
    /// that the configuration says.
    pub async fn connect(config: &Config, credentials: Credentials) -> Result<Self, Error> {
        Self::connect_with(config, credentials, Arc::new(|_| {})).await
    }

    /// Connects as [`Client::connect`] does and tells `notify` about nodes that are left out.
    pub async fn connect_with(
        config: &Config,
        credentials: Credentials,
        notify: Notify,
    ) -> Result<Self, Error> {
        Self::connect_over(network::system(), config, credentials, notify).await
    }

    /// Connects as [`Client::connect_with`] does, by another network than the system's.
    pub async fn connect_over(
        network: Arc<dyn Network>,
        config: &Config,
        credentials: Credentials,
        notify: Notify,
    ) -> Result<Self, Error> {
        let nodes = Arc::new(Nodes::new(config, credentials, notify, &network));
        let errors: Vec<NodeError> = nodes.connect().await.into_iter().flatten().collect();
        let wrong = |error: &&NodeError| matches!(error.cause, Cause::WrongNode { .. });
        if let Some(wrong) = errors.iter().find(wrong) {
            let nodes_from = config.nodes_from.clone();
            return Err(Error::WrongNode { nodes_from, error: wrong.clone() });
        }
        let refused =
            |error: &NodeError| matches!(error.cause, Cause::Credentials | Cause::LoggedOut);
        if errors.len() == 4 && errors.iter().any(refused) {
            return Err(Error::Credentials);
        }
        Ok(Self { nodes })
    }

    /// Stores a local file under `path`.
    ///
    /// Returns when the file is on stable storage on three nodes and every chunk on two disks.
    /// [`Error::Unavailable`], [`Error::Refused`], [`Error::Changed`]: nothing happened.
    /// [`Error::Unknown`]: it may take effect, whole, or not.
    pub async fn put(
        &self,
        local: &Path,
        path: FilePath,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        trace::operation(put::put(&self.nodes, path, Input::File(local), options)).await
    }

    /// Stores bytes under `path`; else like [`Client::put`].
    pub async fn put_bytes(
        &self,
        path: FilePath,
        content: Bytes,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        trace::operation(put::put(&self.nodes, path, Input::Bytes(content), options)).await
    }

    /// Stores what `stream` yields under `path`; else like [`Client::put`]. The stream is
    /// copied to a temporary file first, because placement depends on all of it.
    pub async fn put_stream(
        &self,
        path: FilePath,
        stream: Box<dyn std::io::Read + Send>,
        options: PutOptions,
    ) -> Result<PutReport, Error> {
        trace::operation(put::put(&self.nodes, path, Input::Stream(stream), options)).await
    }

    /// Reads `path` into a local file, which appears whole or not at all.
    ///
    /// [`Error::NotFound`], [`Error::Incomplete`] and [`Error::Corrupt`] leave it as it was. What
    /// has come of a file of more than 64 MiB is kept beside it as `.dfs-NAME.partial`, and the
    /// next GET to the same place goes on from there if it is still the same version.
    pub async fn get(
        &self,
        path: FilePath,
        local: &Path,
        options: GetOptions,
    ) -> Result<GetReport, Error> {
        trace::operation(get::get(&self.nodes, path, Output::File(local), options)).await
    }

    /// Reads `path` into memory: a file of at most `limit` bytes, [`Error::TooLarge`] otherwise.
    pub async fn get_bytes(
        &self,
        path: FilePath,
        limit: u64,
        options: GetOptions,
    ) -> Result<(Bytes, GetReport), Error> {
        let read = async || {
            let memory = Memory::new(limit);
            let output = Output::Memory(&memory);
            let report = get::get(&self.nodes, path.clone(), output, options.clone()).await?;
            Ok((memory.take(), report))
        };
        trace::operation(async {
            match read().await {
                // Nobody has seen what came of it.
                Err(Error::Replaced { .. }) => read().await,
                done => done,
            }
        })
        .await
    }

    /// Reads `path` into a stream, in order. After an error some of it may have been written.
    pub async fn get_stream(
        &self,
        path: FilePath,
        stream: Box<dyn std::io::Write + Send>,
        options: GetOptions,
    ) -> Result<GetReport, Error> {
        trace::operation(get::get(&self.nodes, path, Output::Stream(stream), options)).await
    }

    /// Reads some bytes of `path` into a stream, in order: of a large file only the blocks that
    /// they are in are fetched, and each is checked. [`Error::Range`] if there are no such bytes.
    /// After an error some of them may have been written. The MD5 is not checked.
    pub async fn get_range(
        &self,
        path: FilePath,
        range: ByteRange,
        stream: Box<dyn std::io::Write + Send>,
        options: GetOptions,
    ) -> Result<GetReport, Error> {
        trace::operation(get::get_range(&self.nodes, path, range, stream, options)).await
    }

    /// Lists the files whose paths start with `prefix`. With `full`, manifests are listed too.
    pub fn list(&self, prefix: Prefix, full: bool) -> Lister {
        Lister::start(self.nodes.clone(), prefix, full)
    }

    /// Lists the files that lie directly under `prefix` and the folders there: what starts with the
    /// prefix and has a `/` after it. `prefix` is a folder with its `/`, or empty.
    pub fn list_folder(&self, prefix: Prefix, full: bool) -> FolderLister {
        let name = prefix.as_str().to_owned();
        FolderLister::new(self.list(prefix, full), name)
    }

    /// Tells what all reachable nodes know of `path`.
    pub async fn stat(&self, path: &FilePath) -> Result<PathState, Error> {
        trace::operation(list::stat(&self.nodes, path)).await
    }

    /// Removes `path`. [`Error::NotFound`] if there is no such file.
    pub async fn remove(&self, path: FilePath, cancel: &CancellationToken) -> Result<(), Error> {
        trace::operation(remove::remove(&self.nodes, path, cancel)).await
    }

    /// Reads every file whose path starts with `prefix` through both pairs of opposite nodes and
    /// checks it; tells `each` what it found. Damaged chunks are reported to their nodes.
    pub async fn verify(
        &self,
        prefix: Prefix,
        options: VerifyOptions,
        each: impl FnMut(&Verified),
    ) -> Result<VerifyReport, Error> {
        trace::operation(verify::verify(&self.nodes, prefix, options, each)).await
    }

    /// Repairs the files whose paths start with `prefix`: brings the newest versions to all
    /// nodes and each chunk home. `tell` hears what happens. Repeating it is safe.
    pub async fn repair(
        &self,
        prefix: &Prefix,
        options: RepairOptions,
        tell: impl FnMut(RepairNews<'_>),
    ) -> Result<RepairReport, Error> {
        trace::operation(repair::repair(&self.nodes, prefix, options, tell)).await
    }

    /// Ends the logins of [`Credentials::logged_in`] and of remembered passwords, at the nodes
    /// that can be reached and in the cache. Tells what did not work.
    pub async fn log_out(
        config: &Config,
        user: UserName,
        cache: Arc<TokenCache>,
    ) -> Vec<NodeError> {
        let credentials = Credentials::logged_in(user, cache);
        Nodes::new(config, credentials, Arc::new(|_| {}), &network::system()).log_out().await
    }

    /// Asks the four nodes how they are.
    pub async fn node_info(&self) -> PerNode<Result<NodeInfo, NodeError>> {
        trace::operation(info::info(&self.nodes)).await
    }

    /// Asks the four nodes how they are, each by itself: what is wrong with one does not keep the
    /// others from being asked, as it does in [`Client::connect`].
    pub async fn examine(
        config: &Config,
        credentials: Credentials,
    ) -> PerNode<Result<NodeInfo, NodeError>> {
        let nodes = Arc::new(Nodes::new(config, credentials, Arc::new(|_| {}), &network::system()));
        trace::operation(info::info(&nodes)).await
    }

    /// Gives what goes on behind (confirmations, the fourth node's commit, clean-up) up to a
    /// second to end. Nothing depends on it.
    pub async fn close(self) {
        let background = self.nodes.background();
        background.close();
        let _ = tokio::time::timeout(CLOSE_LIMIT, background.wait()).await;
    }
}
