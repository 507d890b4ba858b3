//! Making a chunk durable: "prepared". A small one is one transaction; a large one is first a
//! synced file with its name, then a transaction.

use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::UploadId;
use dfs_proto::name::UserName;
use dfs_proto::protocol::Refused;
use dfs_proto::protocol::row::{NodeView, Row};

use super::{Node, NodeError, Outlook};
use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::index::codec::ChunkEntry;
use crate::index::txn::{Lookup, Txn};
use crate::index::usage::SetAside;
use crate::index::{IndexError, Pending};
use crate::store::format::Header;
use crate::store::writer::{ChunkWriter, StagedChunk, WriteError};

/// Why a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client puts it.
    Prepare,
    /// It is copied from another node: a chunk of a version that is committed here.
    Restore,
}

impl Purpose {
    fn allows(self, row: &Row, view: &NodeView, upload: UploadId) -> Result<(), Refused> {
        match self {
            Self::Prepare => row.may_prepare(view, upload),
            Self::Restore => row.may_restore(view, upload),
        }
    }
}

/// A chunk that goes into the index, data and all.
pub(super) struct SmallChunk {
    pub(super) header: Header,
    pub(super) data: Bytes,
    /// What was set aside for it.
    pub(super) room: Option<SetAside>,
}

impl Node {
    /// Refuses data for which there is no room.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), NodeError> {
        self.store.admit(needed)?.map_err(NodeError::Full)
    }

    /// Sorts out what came of writing a chunk.
    pub(super) fn written<T>(
        &self,
        chunk: ChunkId,
        done: Result<T, WriteError>,
    ) -> Result<T, NodeError> {
        done.map_err(|error| match error {
            WriteError::Sync(_) => {
                self.poison.trip(&error);
                NodeError::Poisoned
            }
            WriteError::Full { needed } => NodeError::Full(self.store.no_room(needed)),
            WriteError::Io(error) => NodeError::Io(error),
            WriteError::Block { .. }
            | WriteError::Incomplete { .. }
            | WriteError::NotStaged { .. }
            | WriteError::Checksum { .. } => NodeError::Data { chunk, source: error },
        })
    }

    /// The outcome for a chunk that is here already or may not come; `None` where it is wanted.
    pub(super) fn already_prepared(
        &self,
        header: &Header,
        purpose: Purpose,
    ) -> Result<Option<Result<(), Refused>>, NodeError> {
        let view = self.index.view();
        let row = view.row(&header.key.user, &header.path, &[header.key.upload])?;
        Ok(already(&view, &row, &self.outlook, header, purpose)?)
    }

    /// Hands small chunks to the index, all in one transaction; each stands alone.
    pub(super) async fn prepare_small(
        &self,
        chunks: Vec<SmallChunk>,
        purpose: Purpose,
    ) -> Pending<Vec<Result<(), Refused>>> {
        let outlook = self.outlook.clone();
        let prepare = move |txn: &mut Txn<'_>| {
            let each = chunks.into_iter().map(|SmallChunk { header, data, room }| {
                record(txn, &outlook, &header, Some(data), purpose, room)
            });
            each.collect()
        };
        self.index.submit(prepare).await
    }

    /// Makes a written chunk durable: file, name, row, in this order.
    pub(super) async fn prepare_large(
        &self,
        writer: ChunkWriter,
        purpose: Purpose,
        room: Option<SetAside>,
    ) -> Result<Result<(), Refused>, NodeError> {
        let header = writer.header().clone();
        let chunk = header.key.chunk;
        let staged = self.blocking(move || writer.finish()).await?;
        let staged: StagedChunk = self.written(chunk, staged)?;
        let _publishing = self.publishing(&header.key).await;
        // Where a row speaks of this chunk already its file must not be replaced.
        if let Some(result) = self.already_prepared(&header, purpose)? {
            return Ok(result);
        }
        let store = Arc::clone(&self.store);
        let named = self.blocking(move || store.publish(staged)).await?;
        self.written(chunk, named)?;
        self.forget_partial(&header.key).await?;
        self.record_file(header, purpose, room).await
    }

    /// Has the index know a chunk whose file has its name. The caller holds the chunk's lock.
    pub(super) async fn record_file(
        &self,
        header: Header,
        purpose: Purpose,
        room: Option<SetAside>,
    ) -> Result<Result<(), Refused>, NodeError> {
        let (outlook, row) = (self.outlook.clone(), header.clone());
        let record = move |txn: &mut Txn<'_>| record(txn, &outlook, &row, None, purpose, room);
        let result = self.index.update(record).await?;
        if result.is_err() {
            self.remove_if_unknown(header.key).await?;
        }
        Ok(result)
    }

    /// Keeps what has come of a chunk, or says why not: nobody is left to be told.
    pub(super) async fn keep_or_warn(&self, writer: ChunkWriter) {
        if let Err(error) = self.keep_partial(writer).await {
            tracing::warn!(%error, "what has come of a chunk is not kept");
        }
    }

    /// Keeps what has come of a chunk whose stream broke, unless nobody may go on with it.
    async fn keep_partial(&self, writer: ChunkWriter) -> Result<(), NodeError> {
        let header = writer.header().clone();
        let chunk = header.key.chunk;
        let _publishing = self.publishing(&header.key).await;
        if self.already_prepared(&header, Purpose::Prepare)?.is_some() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let kept = self.blocking(move || store.keep(writer, now_ms())).await?;
        self.written(chunk, kept)
    }

    /// Removes what is kept of chunks of an upload with which nobody may go on any more.
    pub(super) async fn forget_partials(
        &self,
        user: &UserName,
        upload: UploadId,
    ) -> Result<(), NodeError> {
        for key in ChunkKey::each(user, upload, ChunkSet::ALL) {
            // One that is just being kept is waited for.
            let _publishing = self.publishing(&key).await;
            self.forget_partial(&key).await?;
        }
        Ok(())
    }

    async fn forget_partial(&self, key: &ChunkKey) -> Result<(), NodeError> {
        if self.store.partials_of(&key.user, key.upload).contains(key) {
            let (store, key) = (Arc::clone(&self.store), key.clone());
            if let Err(error) = self.blocking(move || store.remove_partial(&key)).await? {
                // The sweep at a start finds it when its time is over.
                tracing::warn!(%error, "an unfinished chunk file stays behind");
            }
        }
        Ok(())
    }

    /// Removes a file that no row speaks of. The caller holds the lock of its chunk.
    pub(super) async fn remove_if_unknown(&self, key: ChunkKey) -> Result<(), NodeError> {
        let entry = self.index.view().chunk(&key)?;
        if entry.is_some_and(|entry| entry.inline.is_none()) {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        if let Err(error) = self.blocking(move || store.remove(&key)).await? {
            // The sweep at the next start finds it.
            tracing::warn!(%error, "a chunk file stays behind");
        }
        Ok(())
    }
}

/// The outcome for a chunk that is here already or may not come; `None` where it is wanted.
fn already(
    index: &impl Lookup,
    row: &Row,
    outlook: &Outlook,
    header: &Header,
    purpose: Purpose,
) -> Result<Option<Result<(), Refused>>, IndexError> {
    if let Err(refused) = purpose.allows(row, &outlook.view(), header.key.upload) {
        return Ok(Some(Err(refused)));
    }
    let same = |held: &ChunkEntry| held.path == header.path && held.sum == header.sum();
    Ok(match index.chunk(&header.key)? {
        None => None,
        Some(held) if same(&held) => Some(Ok(())),
        Some(_) => Some(Err(Refused::TagConflict)),
    })
}

/// Puts a chunk, its data with it if it is small, and its have-bit into the index. What was set
/// aside for it is counted as held then.
fn record(
    txn: &mut Txn<'_>,
    outlook: &Outlook,
    header: &Header,
    inline: Option<Bytes>,
    purpose: Purpose,
    room: Option<SetAside>,
) -> Result<Result<(), Refused>, IndexError> {
    let ChunkKey { user, upload, chunk } = &header.key;
    let before = txn.row(user, &header.path, &[*upload])?;
    if let Some(result) = already(txn, &before, outlook, header, purpose)? {
        return Ok(result);
    }
    let mut row = before.clone();
    let stored = match purpose {
        Purpose::Prepare => row.prepare(&outlook.view(), *upload, *chunk),
        Purpose::Restore => row.restore(&outlook.view(), *upload, *chunk),
    };
    if let Err(refused) = stored {
        return Ok(Err(refused));
    }
    txn.put_row(user, &header.path, &before, &row);
    let entry = ChunkEntry { path: header.path.clone(), sum: header.sum(), inline };
    txn.put_chunk(&header.key, &entry);
    if let Some(room) = room {
        txn.arrived(room);
    }
    Ok(Ok(()))
}
