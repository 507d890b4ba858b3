//! Re-reading chunks from the disk. A bad one is first no longer counted as held, durably, and
//! then moved out of the way: "bad" is never read as "deleted".

use std::sync::Arc;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};

use super::commit::forget;
use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::index::codec::ChunkEntry;
use crate::index::txn::{Lookup, Txn};
use crate::store::reader::ReadError;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Chunks held now.
    pub(crate) have: ChunkSet,
    /// Chunks found bad.
    pub(crate) bad: ChunkSet,
}

impl Node {
    /// Re-reads chunks of an upload.
    pub(crate) async fn check_chunks(
        self: &Arc<Self>,
        user: UserName,
        path: FilePath,
        upload: UploadId,
        chunks: ChunkSet,
    ) -> Result<Checked, NodeError> {
        self.check_poison()?;
        let node = Arc::clone(self);
        self.to_end(async move {
            let mut bad = ChunkSet::EMPTY;
            for key in ChunkKey::each(&user, upload, chunks) {
                if !node.check_chunk(&key, &path).await? {
                    bad = bad.with(key.chunk);
                }
            }
            let row = node.index.view().row(&user, &path, &[upload])?;
            let have = row.have(upload);
            Ok(Checked { have, bad })
        })
        .await
    }

    /// Whether a chunk is good, or not here. Removes a bad one.
    async fn check_chunk(&self, key: &ChunkKey, path: &FilePath) -> Result<bool, NodeError> {
        let _checking = self.checking(key).await;
        let entry = self.index.view().chunk(key)?;
        let Some(entry) = entry.filter(|entry| entry.path == *path) else {
            return Ok(true);
        };
        let error = match self.verify(key, &entry).await? {
            Ok(()) => return Ok(true),
            Err(error) if error.is_bad_chunk() => error,
            Err(ReadError::Io(error)) => return Err(NodeError::Io(error)),
            Err(_) => return Err(NodeError::Task),
        };
        if !self.give_up(key, path).await? {
            return Ok(true);
        }
        tracing::error!(
            user = %key.user, %path, upload = %key.upload, chunk = %key.chunk, %error,
            "a chunk is bad"
        );
        self.suspects.add(&key.user, path);
        Ok(false)
    }

    async fn verify(
        &self,
        key: &ChunkKey,
        entry: &ChunkEntry,
    ) -> Result<Result<(), ReadError>, NodeError> {
        let sum = entry.sum;
        if let Some(data) = &entry.inline {
            let good = Crc32c::of(data) == sum.crc;
            return Ok(if good { Ok(()) } else { Err(ReadError::Sum) });
        }
        let (store, key) = (Arc::clone(&self.store), key.clone());
        self.blocking(move || store.open_chunk(&key, sum)?.verify()).await
    }

    /// Takes a bad chunk out of the index, then moves its file away. False where it is not in
    /// the index any more: it was removed while it was read.
    async fn give_up(&self, key: &ChunkKey, path: &FilePath) -> Result<bool, NodeError> {
        let _publishing = self.publishing(key).await;
        let (gone, path) = (key.clone(), path.clone());
        let lose = move |txn: &mut Txn<'_>| {
            if txn.chunk(&gone)?.is_none() {
                return Ok(None);
            }
            let before = txn.row(&gone.user, &path, &[gone.upload])?;
            let mut row = before.clone();
            row.lose_chunks(gone.upload, ChunkSet::EMPTY.with(gone.chunk));
            txn.put_row(&gone.user, &path, &before, &row);
            forget(txn, vec![gone]).map(Some)
        };
        let Some(lost) = self.index.update(lose).await? else { return Ok(false) };
        for file in lost {
            let store = Arc::clone(&self.store);
            let moved = self.blocking(move || store.quarantine(&file, now_ms())).await?;
            if let Err(error) = moved {
                // It is nobody's file now; the sweep at the next start moves it.
                tracing::warn!(%error, "a bad chunk file stays where it was");
            }
        }
        Ok(true)
    }
}
