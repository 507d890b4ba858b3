//! What healing does on one node: give up spilled chunks, put copied ones in, take versions
//! over from other nodes, and tell of everything it holds.

use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Record, UploadId, Version};
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::protocol::Refused;
use dfs_proto::protocol::row::{Current, ReleaseOrder, Row, Upload, UploadState};
use tokio::task::JoinHandle;

use super::commit::{change, forget};
use super::prepare::{Purpose, SmallChunk};
use super::{INLINE_BYTES, Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::index::IndexError;
use crate::index::txn::{Lookup, Txn};
use crate::store::format::Header;
use crate::store::writer::{BlockCheck, ChunkWriter, WriteError};

/// Most abandoned uploads that are told of at a time.
const MAX_ABANDONED: usize = 1000;

/// An upload that nobody came back for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) user: UserName,
    pub(crate) path: FilePath,
    pub(crate) upload: UploadId,
}

/// Where a page of rows begins: after this user, path and, of fences, upload.
pub(crate) type After = Option<(UserName, FilePath, UploadId)>;

/// A chunk that is being copied in.
pub(crate) struct Restoring {
    node: Arc<Node>,
    chunk: ChunkId,
    target: Target,
}

enum Target {
    Index { header: Box<Header>, check: BlockCheck, data: Bytes },
    File(JoinHandle<Result<ChunkWriter, WriteError>>),
}

impl Node {
    /// The version that an upload of a path is, if it is committed here, and what is held of it.
    pub(crate) fn committed(
        &self,
        user: &UserName,
        path: &FilePath,
        upload: UploadId,
    ) -> Result<Option<Record>, NodeError> {
        Ok(self.index.view().row(user, path, &[upload])?.committed(upload))
    }

    /// Gives up chunks that live on other nodes: first in the index, then their files.
    pub(crate) async fn release(
        self: &Arc<Self>,
        user: UserName,
        path: FilePath,
        order: ReleaseOrder,
    ) -> Result<Result<(), Refused>, NodeError> {
        self.check_poison()?;
        let node = Arc::clone(self);
        self.to_end(async move {
            let outlook = node.outlook.clone();
            let release = move |txn: &mut Txn<'_>| {
                let view = outlook.view();
                let rule = |row: &mut Row| row.release(&view, &order);
                Ok(match change(txn, &user, &path, order.upload, rule)? {
                    Ok(chunks) => Ok(forget(txn, ChunkKey::each(&user, order.upload, chunks))?),
                    Err(refused) => Err(refused),
                })
            };
            match node.index.update(release).await? {
                Ok(files) => Ok(Ok(node.remove_files(files).await?)),
                Err(refused) => Ok(Err(refused)),
            }
        })
        .await
    }

    /// Starts to copy in a chunk of a version that is committed here; `None` where it is here
    /// already.
    pub(crate) async fn start_restore(
        self: &Arc<Self>,
        user: UserName,
        path: FilePath,
        version: &Version,
        chunk: ChunkId,
    ) -> Result<Result<Option<Restoring>, Refused>, NodeError> {
        self.check_poison()?;
        let Some(manifest) = version.manifest().cloned() else {
            return Ok(Err(Refused::NotCommitted));
        };
        let key = ChunkKey { user, upload: version.upload, chunk };
        let header = Header { key, path, manifest, written_ms: now_ms() };
        match self.already_prepared(&header, Purpose::Restore)? {
            Some(Ok(())) => return Ok(Ok(None)),
            Some(Err(refused)) => return Ok(Err(refused)),
            None => {}
        }
        let length = header.sum().length;
        self.check_room(length)?;
        let target = if length <= INLINE_BYTES {
            let check = BlockCheck::new(header.sum());
            Target::Index { header: Box::new(header), check, data: Bytes::new() }
        } else {
            let store = Arc::clone(&self.store);
            Target::File(self.tasks.spawn_blocking(move || store.start(header)))
        };
        Ok(Ok(Some(Restoring { node: Arc::clone(self), chunk, target })))
    }

    /// Whether the file of a chunk that the index does not know is there and good, as after a
    /// rejoin that kept the chunks. Then the index knows it again. Goes on to its end: who asks may
    /// have less patience than it takes to read a large chunk.
    pub(crate) async fn reclaim(
        self: &Arc<Self>,
        user: UserName,
        path: FilePath,
        version: &Version,
        chunk: ChunkId,
    ) -> Result<bool, NodeError> {
        let Some(manifest) = version.manifest().cloned() else { return Ok(false) };
        let sum = manifest.chunk(chunk);
        if sum.length <= INLINE_BYTES {
            return Ok(false);
        }
        let key = ChunkKey { user, upload: version.upload, chunk };
        let header = Header { key: key.clone(), path, manifest, written_ms: now_ms() };
        let node = Arc::clone(self);
        self.to_end(async move {
            // Who asks again meanwhile does not have it read twice.
            let _checking = node.checking(&key).await;
            if node.already_prepared(&header, Purpose::Restore)?.is_some() {
                return Ok(false);
            }
            let (store, opened) = (Arc::clone(&node.store), key.clone());
            let good = move || store.open_chunk(&opened, sum).and_then(|reader| reader.verify());
            if node.blocking(good).await?.is_err() {
                return Ok(false);
            }
            // Nobody but a copy of the same chunk writes this file, and that is as good.
            let _publishing = node.publishing(&key).await;
            if node.already_prepared(&header, Purpose::Restore)?.is_some() {
                return Ok(false);
            }
            Ok(node.record_file(header, Purpose::Restore, None).await?.is_ok())
        })
        .await
    }

    /// Takes over what another node knows of paths, as a node that rejoins does: versions that
    /// are newer than those here. Durable when answered.
    pub(crate) async fn adopt(
        &self,
        records: Vec<(UserName, FilePath, Version, bool)>,
    ) -> Result<(), NodeError> {
        self.check_poison()?;
        let adopt = move |txn: &mut Txn<'_>| {
            for (user, path, version, confirmed) in &records {
                let before = txn.row(user, path, &[version.upload])?;
                let mut row = before.clone();
                row.adopt(now_ms(), version.clone(), *confirmed);
                txn.put_row(user, path, &before, &row);
            }
            Ok(())
        };
        Ok(self.index.update(adopt).await?)
    }

    /// Takes over fences of another node. Durable when answered.
    pub(crate) async fn adopt_fences(
        &self,
        fences: Vec<(UserName, FilePath, UploadId)>,
    ) -> Result<(), NodeError> {
        self.check_poison()?;
        let adopt = move |txn: &mut Txn<'_>| {
            for (user, path, upload) in &fences {
                let before = txn.row(user, path, &[*upload])?;
                let mut row = before.clone();
                row.adopt_fence(now_ms(), *upload);
                txn.put_row(user, path, &before, &row);
            }
            Ok(())
        };
        Ok(self.index.update(adopt).await?)
    }

    /// A page of the newest versions, of one user and prefix or of all.
    pub(crate) async fn records(
        &self,
        of: Option<(UserName, Prefix)>,
        after: After,
        (entries, bytes): (usize, usize),
    ) -> Result<(Vec<(UserName, FilePath, Current)>, bool), NodeError> {
        let view = self.index.view();
        let list = move || {
            let of = of.as_ref().map(|(user, prefix)| (user, prefix));
            let after = after.as_ref().map(|(user, path, _)| (user, path));
            let mut page: Vec<(UserName, FilePath, Current)> = Vec::new();
            let mut size = 0;
            for row in view.records(of, after) {
                if page.len() >= entries || size >= bytes {
                    return Ok::<_, IndexError>((page, true));
                }
                let (user, path, current) = row?;
                size += super::look::encoded_bytes(&path, &current);
                page.push((user, path, current));
            }
            Ok((page, false))
        };
        Ok(self.blocking(list).await??)
    }

    /// A page of fenced uploads, and after which row the next one begins, if there is one.
    pub(crate) async fn fences(
        &self,
        after: After,
        rows: usize,
    ) -> Result<(Vec<(UserName, FilePath, UploadId)>, After), NodeError> {
        let view = self.index.view();
        let list = move || {
            let after = after.as_ref().map(|(user, path, upload)| (user, path, *upload));
            let mut page = Vec::new();
            // Bounded by what is looked at: most uploads are no fences.
            for (row, looked) in view.uploads_after(after).zip(1..) {
                let (user, path, id, upload) = row?;
                if upload.state == UploadState::Fenced {
                    page.push((user.clone(), path.clone(), id));
                }
                if looked >= rows {
                    return Ok::<_, IndexError>((page, Some((user, path, id))));
                }
            }
            Ok((page, None))
        };
        Ok(self.blocking(list).await??)
    }

    /// Uploads whose chunks have been here for longer than `age_ms` without a Commit.
    pub(crate) async fn abandoned(&self, age_ms: u64) -> Result<Vec<Abandoned>, NodeError> {
        let view = self.index.view();
        let list = move || {
            let mut found = Vec::new();
            for row in view.uploads_after(None) {
                let (user, path, upload, Upload { state, have, since_ms }) = row?;
                let waits = match state {
                    UploadState::Prepared => true,
                    UploadState::Fenced => !have.is_empty(),
                    UploadState::Superseded(_) => false,
                };
                if waits && now_ms().saturating_sub(since_ms) >= age_ms {
                    found.push(Abandoned { user, path, upload });
                }
                if found.len() >= MAX_ABANDONED {
                    break;
                }
            }
            Ok::<_, IndexError>(found)
        };
        Ok(self.blocking(list).await??)
    }
}

impl Restoring {
    /// Takes the next block.
    pub(crate) async fn block(
        &mut self,
        index: u64,
        block: Bytes,
        crc: Crc32c,
    ) -> Result<(), NodeError> {
        match &mut self.target {
            Target::Index { check, data, .. } => {
                let taken = check.take(index, &block, crc);
                self.node.written(self.chunk, taken)?;
                *data = block;
            }
            Target::File(last) => {
                let writer = (&mut *last).await.map_err(|_| NodeError::Task)?;
                let mut writer = self.node.written(self.chunk, writer)?;
                *last = self.node.tasks.spawn_blocking(move || {
                    writer.append(index, &block, crc)?;
                    Ok(writer)
                });
            }
        }
        Ok(())
    }

    /// Makes the chunk durable.
    pub(crate) async fn finish(self) -> Result<Result<(), Refused>, NodeError> {
        let node = self.node;
        match self.target {
            Target::Index { header, check, data } => {
                node.written(self.chunk, check.finish())?;
                let chunks = vec![SmallChunk { header: *header, data, room: None }];
                let stored = node.prepare_small(chunks, Purpose::Restore).await.done().await?;
                stored.into_iter().next().ok_or(NodeError::Task)
            }
            Target::File(last) => {
                let writer = last.await.map_err(|_| NodeError::Task)?;
                let writer = node.written(self.chunk, writer)?;
                let publisher = Arc::clone(&node);
                let publish =
                    async move { publisher.prepare_large(writer, Purpose::Restore, None).await };
                node.to_end(publish).await
            }
        }
    }
}
