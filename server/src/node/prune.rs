//! Forgetting superseded versions when their grace is over: rows first, then files.

use std::sync::Arc;
use std::time::Duration;

use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::row::UploadState;
use tokio_util::sync::CancellationToken;

use super::commit::forget;
use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::index::txn::{Lookup, Txn};
use crate::index::{IndexError, View};

/// Versions forgotten in one transaction.
const BATCH: usize = 1000;
/// Longest pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Shortest one.
const MIN_PAUSE: Duration = Duration::from_millis(200);

type Superseded = (UserName, FilePath, UploadId);

impl Node {
    /// Prunes again and again until `stop`.
    pub(crate) async fn keep_pruning(self: Arc<Self>, stop: CancellationToken) {
        let pause = self.prune_grace.clamp(MIN_PAUSE, MAX_PAUSE);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            match self.prune().await {
                Ok(0) => {}
                Ok(pruned) => tracing::debug!(pruned, "forgot superseded versions"),
                Err(error) => tracing::warn!(%error, "could not prune"),
            }
            let store = Arc::clone(&self.store);
            match self.blocking(move || store.expire(now_ms())).await {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(expired)) => tracing::info!(expired, "unfinished chunks are too old"),
                Ok(Err(error)) => tracing::warn!(%error, "unfinished chunks cannot be removed"),
            }
        }
    }

    /// Forgets what may be forgotten now and returns how many versions that were.
    pub(crate) async fn prune(&self) -> Result<usize, NodeError> {
        let grace_ms = u64::try_from(self.prune_grace.as_millis()).unwrap_or(u64::MAX);
        let mut pruned = 0;
        loop {
            self.check_poison()?;
            let view = self.index.view();
            let batch = self.blocking(move || prunable(&view, grace_ms)).await??;
            let full = batch.len() == BATCH;
            pruned += batch.len();
            if batch.is_empty() {
                return Ok(pruned);
            }
            let forget = move |txn: &mut Txn<'_>| forget_versions(txn, &batch, grace_ms);
            let files = self.index.update(forget).await?;
            self.remove_files(files).await?;
            if !full {
                return Ok(pruned);
            }
        }
    }
}

fn prunable(view: &View, grace_ms: u64) -> Result<Vec<Superseded>, IndexError> {
    let mut batch = Vec::new();
    for item in view.uploads() {
        let (user, path, id, upload) = item?;
        if !matches!(upload.state, UploadState::Superseded(_)) {
            continue;
        }
        let mut row = view.row(&user, &path, &[id])?;
        if row.prune(now_ms(), grace_ms, id).is_some() {
            batch.push((user, path, id));
        }
        if batch.len() == BATCH {
            break;
        }
    }
    Ok(batch)
}

fn forget_versions(
    txn: &mut Txn<'_>,
    batch: &[Superseded],
    grace_ms: u64,
) -> Result<Vec<ChunkKey>, IndexError> {
    let mut files = Vec::new();
    for (user, path, id) in batch {
        let before = txn.row(user, path, &[*id])?;
        let mut row = before.clone();
        if let Some(chunks) = row.prune(now_ms(), grace_ms, *id) {
            txn.put_row(user, path, &before, &row);
            files.extend(forget(txn, ChunkKey::each(user, *id, chunks))?);
        }
    }
    Ok(files)
}
