//! The node: what it does for one user, and the only place that joins index and store.
//!
//! Data before rows: a chunk's file is durable and has its name before a row speaks of it, and
//! rows stop speaking of a file before it is removed. What has begun to change the disk runs to
//! its end as a tracked task, whoever goes away meanwhile.
//!
//! [`put`] takes chunks in, within what [`quota`] allows, and `prepare` makes them durable, [`commit`] moves versions, [`look`] answers questions, [`tell`]
//! those that come with a GET, [`fetch`] sends data, [`check`] re-reads it, [`prune`] forgets what is superseded, [`heal`] is
//! its part in healing, `scrub` in that of the disk; `over` finds files that are to go; [`known`] is what this node remembers of the others.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod fetch;
pub(crate) mod heal;
pub(crate) mod known;
pub(crate) mod look;
mod over;
mod prepare;
pub(crate) mod prune;
pub(crate) mod put;
pub(crate) mod quota;
mod scrub;
mod suspects;
pub(crate) mod tell;

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dfs_proto::identity::{Identity, Introduction};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::NodeView;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::task::TaskTracker;

use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::config::quota::Quotas;
use crate::index::txn::Lookup;
use crate::index::{Index, IndexError};
use crate::poison::Poison;
use crate::request_id::carried;
use crate::store::room::{NoRoom, Space};
use crate::store::writer::WriteError;
use crate::store::{ChunkStore, Swept};
use known::Known;
use quota::OverQuota;
use suspects::Suspects;

/// Chunks of at most this many bytes live in the index: no file and no sync of their own.
pub(crate) const INLINE_BYTES: u64 = 64 << 10;

/// Locks that stand for all chunks; two chunks may share one.
const LOCKS: usize = 64;

/// Why the node did not do something as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Nothing is acknowledged any more.
    #[error("the node's disk failed; it takes nothing any more")]
    Poisoned,
    #[error("the node is about to stop")]
    Stopping,
    #[error("the disk is full: {0}")]
    Full(NoRoom),
    #[error(transparent)]
    Quota(OverQuota),
    /// The client's stream contradicts itself or its manifest.
    #[error("chunk {chunk}: {source}")]
    Data { chunk: dfs_proto::chunk::ChunkId, source: WriteError },
    #[error("{0}")]
    Stream(&'static str),
    #[error(transparent)]
    Index(IndexError),
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error("a task of the node failed")]
    Task,
}

impl From<IndexError> for NodeError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Poisoned | IndexError::Failed(_) => Self::Poisoned,
            IndexError::Closed => Self::Stopping,
            IndexError::Damaged(_) => Self::Index(error),
        }
    }
}

impl From<io::Error> for NodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the rules need to know of this node, at any time and on any thread.
#[derive(Clone)]
pub(crate) struct Outlook {
    identity: Identity,
    /// Whether the node still catches up. Changes once, from true to false.
    rejoining: Arc<AtomicBool>,
    pub(crate) known: Arc<Known>,
}

impl Outlook {
    /// The node as the rules see it now. Taken inside a transaction it knows every
    /// incarnation that was recorded before.
    pub(crate) fn view(&self) -> NodeView {
        NodeView {
            now_ms: now_ms(),
            position: self.identity.node,
            rejoining: self.rejoining.load(Ordering::Acquire),
            incarnations: self.known.incarnations(&self.identity),
        }
    }
}

/// A running node.
pub(crate) struct Node {
    outlook: Outlook,
    index: Index,
    store: Arc<ChunkStore>,
    poison: Poison,
    tasks: TaskTracker,
    /// Held while a chunk's file and its row are brought in step.
    publishing: [Mutex<()>; LOCKS],
    /// Held while a chunk is re-read; a chunk found bad is not replaced before that ends.
    checking: [Mutex<()>; LOCKS],
    suspects: Suspects,
    started: Instant,
    prune_grace: Duration,
    quotas: Quotas,
}

impl Node {
    /// Joins the parts. Sweeps the store: nothing may have been served before. `keep_unknown`:
    /// there may still be use for chunk files that the index does not know yet.
    pub(crate) fn new(
        identity: Identity,
        index: Index,
        store: ChunkStore,
        poison: Poison,
        (prune_grace, quotas): (Duration, Quotas),
        keep_unknown: bool,
    ) -> Result<Arc<Self>, NodeError> {
        let view = index.view();
        let known = Known::load(&view)?;
        let swept = store.sweep(now_ms(), |key| {
            let entry = view.chunk(key).map_err(NodeError::from)?;
            Ok::<_, NodeError>(keep_unknown || entry.is_some_and(|entry| entry.inline.is_none()))
        })?;
        report(&swept);
        Ok(Arc::new(Self {
            outlook: Outlook {
                rejoining: Arc::new(AtomicBool::new(identity.rejoining)),
                known: Arc::new(known),
                identity,
            },
            index,
            store: Arc::new(store),
            poison,
            tasks: TaskTracker::new(),
            publishing: [const { Mutex::const_new(()) }; LOCKS],
            checking: [const { Mutex::const_new(()) }; LOCKS],
            suspects: Suspects::default(),
            started: Instant::now(),
            prune_grace,
            quotas,
        }))
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> Identity {
        let rejoining = self.outlook.rejoining.load(Ordering::Acquire);
        Identity { rejoining, ..self.outlook.identity.clone() }
    }

    /// How this node introduces itself.
    pub(crate) fn introduction(&self) -> Introduction {
        Introduction { identity: self.identity(), index: self.index.age() }
    }

    /// The node's position.
    pub(crate) fn position(&self) -> NodeId {
        self.outlook.identity.node
    }

    /// Takes part in everything from now on. Its identity on the disk says so already.
    pub(crate) fn end_rejoin(&self) {
        self.outlook.rejoining.store(false, Ordering::Release);
    }

    /// What it remembers of the others.
    pub(crate) fn known(&self) -> &Known {
        &self.outlook.known
    }

    /// Paths in which bad chunks were found.
    pub(crate) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// How long it has been running.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Size and free space of its disk.
    pub(crate) fn space(&self) -> Result<Space, NodeError> {
        Ok(self.store.space()?)
    }

    /// Tasks that have to end before the node may close.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Finishes what has begun, at most for `patience`, then closes the index.
    pub(crate) async fn close(&self, patience: Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks were still running at the end");
        }
        self.index.close().await;
    }

    /// Runs `work` to its end even if the caller does not wait for it.
    async fn to_end<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R, NodeError>> + Send + 'static,
    ) -> Result<R, NodeError> {
        self.tasks.spawn(carried(work)).await.map_err(|_| NodeError::Task)?
    }

    /// Runs `work` on a thread that may block.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, NodeError> {
        self.tasks.spawn_blocking(work).await.map_err(|_| NodeError::Task)
    }

    fn check_poison(&self) -> Result<(), NodeError> {
        if self.poison.is_tripped() { Err(NodeError::Poisoned) } else { Ok(()) }
    }

    async fn publishing(&self, key: &ChunkKey) -> MutexGuard<'_, ()> {
        self.publishing[lock_number(key)].lock().await
    }

    async fn checking(&self, key: &ChunkKey) -> MutexGuard<'_, ()> {
        self.checking[lock_number(key)].lock().await
    }

    /// Removes the files of chunks that no row speaks of any more, unless they were stored anew.
    async fn remove_files(&self, keys: Vec<ChunkKey>) -> Result<(), NodeError> {
        for key in keys {
            let _publishing = self.publishing(&key).await;
            self.remove_if_unknown(key).await?;
        }
        Ok(())
    }
}

/// Tells the operator what a sweep found.
fn report(swept: &Swept) {
    let Swept { staged, unknown, foreign } = *swept;
    if staged > 0 || foreign > 0 {
        tracing::info!(staged, foreign, "swept; what was being written is removed");
    }
    if unknown > 0 {
        tracing::warn!(unknown, "chunk files that the index does not know are in quarantine");
    }
}

fn lock_number(key: &ChunkKey) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
