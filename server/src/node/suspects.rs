//! Paths in which a bad chunk was found, until healing takes them up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dfs_proto::name::{FilePath, UserName};
use tokio::sync::Notify;

/// More than this are not remembered: the next pass finds them by itself.
const MAX: usize = 10_000;

/// The paths that wait.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Held for set access only.
    paths: Mutex<BTreeSet<(UserName, FilePath)>>,
    more: Notify,
    bad_chunks: AtomicU64,
}

impl Suspects {
    fn paths(&self) -> MutexGuard<'_, BTreeSet<(UserName, FilePath)>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a path with a bad chunk.
    pub(super) fn add(&self, user: &UserName, path: &FilePath) {
        self.bad_chunks.fetch_add(1, Ordering::Relaxed);
        let mut paths = self.paths();
        if paths.len() < MAX {
            paths.insert((user.clone(), path.clone()));
        }
        self.more.notify_one();
    }

    /// Waits until a path is there.
    pub(crate) async fn wait(&self) {
        while self.paths().is_empty() {
            self.more.notified().await;
        }
    }

    /// Takes a path.
    pub(crate) fn take(&self) -> Option<(UserName, FilePath)> {
        self.paths().pop_first()
    }

    /// How many paths wait.
    pub(crate) fn waiting(&self) -> usize {
        self.paths().len()
    }

    /// Bad chunks found since the start.
    pub(crate) fn bad_chunks(&self) -> u64 {
        self.bad_chunks.load(Ordering::Relaxed)
    }
}
