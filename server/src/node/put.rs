//! Taking chunks in: one stream with one or many of them.
//!
//! A small chunk goes into the index with its row, and the stream goes on while that becomes
//! durable. A large one goes to a file: its blocks are written on blocking threads while the
//! next one arrives, and then synced, named and put into the index by a task of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Manifest, UploadId};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::Refused;
use dfs_proto::wire::MAX_BATCH;
use tokio::task::JoinHandle;

use super::look::Stat;
use super::{INLINE_BYTES, Node, NodeError, Outlook, now_ms};
use crate::chunk_key::ChunkKey;
use crate::index::codec::ChunkEntry;
use crate::index::txn::{Lookup, Txn};
use crate::index::{IndexError, Pending};
use crate::store::format::Header;
use crate::store::writer::{BlockCheck, ChunkWriter, StagedChunk, WriteError};

/// Most chunks in one stream: four of each file of a full batch.
const MAX_CHUNKS: usize = 4 * MAX_BATCH;
/// Small chunks that may wait for the index while the stream goes on.
const MAX_WAITING: usize = 64;
/// Their bytes, at most.
const MAX_WAITING_BYTES: u64 = 4 << 20;
/// What a large chunk counts as among them: two may become durable at a time.
const LARGE_COUNTS_AS: u64 = MAX_WAITING_BYTES / 2;

/// What a client announces.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    pub(crate) path: FilePath,
    pub(crate) upload: UploadId,
    pub(crate) chunk: ChunkId,
    pub(crate) manifest: Manifest,
}

/// The outcome for one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) upload: UploadId,
    pub(crate) chunk: ChunkId,
    pub(crate) result: Result<(), Refused>,
}

/// A stream that is coming in. Dropped on the way, it leaves only whole chunks behind.
pub(crate) struct Putting {
    node: Arc<Node>,
    user: UserName,
    incoming: Option<Incoming>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    outcomes: Vec<Outcome>,
    paths: Vec<FilePath>,
}

struct Incoming {
    chunk: ChunkId,
    /// Its outcome's place.
    place: usize,
    target: Target,
}

enum Target {
    /// Already here, or refused: the blocks are thrown away.
    Nowhere,
    Index {
        header: Header,
        check: BlockCheck,
        data: Bytes,
    },
    /// The writer is with the blocking task that writes the last block.
    File(JoinHandle<Result<ChunkWriter, WriteError>>),
}

/// A chunk that is becoming durable.
struct Waiting {
    place: usize,
    bytes: u64,
    step: Step,
}

enum Step {
    Index(Pending<Result<(), Refused>>),
    File(JoinHandle<Result<Result<(), Refused>, NodeError>>),
}

impl Node {
    /// Starts to take a stream of chunks.
    pub(crate) fn start_put(self: &Arc<Self>, user: UserName) -> Putting {
        Putting {
            node: Arc::clone(self),
            user,
            incoming: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            outcomes: Vec::new(),
            paths: Vec::new(),
        }
    }
}

impl Putting {
    /// Takes a header: the chunk before it has to be whole.
    pub(crate) async fn header(&mut self, announced: Announced) -> Result<(), NodeError> {
        self.end_chunk().await?;
        self.node.check_poison()?;
        if self.outcomes.len() >= MAX_CHUNKS {
            return Err(NodeError::Stream("more than 4000 chunks in one stream"));
        }
        let Announced { path, upload, chunk, manifest } = announced;
        let header = Header {
            key: ChunkKey { user: self.user.clone(), upload, chunk },
            path,
            manifest,
            written_ms: now_ms(),
        };
        if self.paths.last() != Some(&header.path) && !self.paths.contains(&header.path) {
            self.paths.push(header.path.clone());
        }
        let place = self.outcomes.len();
        let (target, result) = self.target(header).await?;
        self.outcomes.push(Outcome { upload, chunk, result });
        self.incoming = Some(Incoming { chunk, place, target });
        Ok(())
    }

    /// Where an announced chunk goes, and its outcome if that is certain already.
    async fn target(&self, header: Header) -> Result<(Target, Result<(), Refused>), NodeError> {
        let node = &self.node;
        let view = node.index.view();
        match already(&view, &node.outlook, &header)? {
            Some(result) => return Ok((Target::Nowhere, result)),
            None => drop(view),
        }
        let length = header.sum().length;
        let free = node.store.space()?.free;
        if length > free {
            return Err(NodeError::Full { needed: length, free });
        }
        let target = if length <= INLINE_BYTES {
            Target::Index { check: BlockCheck::new(header.sum()), header, data: Bytes::new() }
        } else {
            let store = Arc::clone(&node.store);
            Target::File(node.tasks.spawn_blocking(move || store.start(header)))
        };
        Ok((target, Ok(())))
    }

    /// Takes the next block of the chunk last announced.
    pub(crate) async fn block(
        &mut self,
        chunk: ChunkId,
        index: u64,
        block: Bytes,
        crc: Crc32c,
    ) -> Result<(), NodeError> {
        let incoming = self.incoming.as_mut();
        let incoming = incoming.ok_or(NodeError::Stream("the stream starts without a header"))?;
        if incoming.chunk != chunk {
            return Err(NodeError::Stream("a block of another chunk than announced"));
        }
        match &mut incoming.target {
            Target::Nowhere => {}
            Target::Index { check, data, .. } => {
                check
                    .take(index, &block, crc)
                    .map_err(|source| NodeError::Data { chunk, source })?;
                *data = block;
            }
            Target::File(last) => {
                let writer = (&mut *last).await.map_err(|_| NodeError::Task)?;
                let mut writer = self.node.written(chunk, writer)?;
                *last = self.node.tasks.spawn_blocking(move || {
                    writer.append(index, &block, crc)?;
                    Ok(writer)
                });
            }
        }
        Ok(())
    }

    /// Ends the chunk that is coming in and lets it become durable.
    async fn end_chunk(&mut self) -> Result<(), NodeError> {
        let Some(Incoming { chunk, place, target }) = self.incoming.take() else {
            return Ok(());
        };
        let (bytes, step) = match target {
            Target::Nowhere => return Ok(()),
            Target::Index { header, check, data } => {
                check.finish().map_err(|source| NodeError::Data { chunk, source })?;
                let bytes = header.sum().length;
                let outlook = self.node.outlook.clone();
                let store = move |txn: &mut Txn<'_>| record(txn, &outlook, &header, Some(data));
                (bytes, Step::Index(self.node.index.submit(store).await))
            }
            Target::File(last) => {
                let writer = last.await.map_err(|_| NodeError::Task)?;
                let writer = self.node.written(chunk, writer)?;
                let node = Arc::clone(&self.node);
                let publish = self.node.tasks.spawn(async move { node.publish(writer).await });
                (LARGE_COUNTS_AS, Step::File(publish))
            }
        };
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting { place, bytes, step });
        while self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            self.wait_for_first().await?;
        }
        Ok(())
    }

    async fn wait_for_first(&mut self) -> Result<(), NodeError> {
        let Some(Waiting { place, bytes, step }) = self.waiting.pop_front() else {
            return Ok(());
        };
        self.waiting_bytes -= bytes;
        let result = match step {
            Step::Index(pending) => pending.done().await?,
            Step::File(task) => task.await.map_err(|_| NodeError::Task)??,
        };
        if let Some(outcome) = self.outcomes.get_mut(place) {
            outcome.result = result;
        }
        Ok(())
    }

    /// Waits until all chunks are durable; then looks at their paths.
    pub(crate) async fn finish(mut self) -> Result<(Vec<Outcome>, Vec<Stat>), NodeError> {
        self.end_chunk().await?;
        while !self.waiting.is_empty() {
            self.wait_for_first().await?;
        }
        self.node.check_poison()?;
        let queries = self.paths.into_iter().map(|path| (path, None)).collect();
        let stats = self.node.stat(self.user, queries, false).await?;
        Ok((self.outcomes, stats))
    }
}

impl Node {
    /// Sorts out what came of writing a chunk's file.
    fn written<T>(&self, chunk: ChunkId, done: Result<T, WriteError>) -> Result<T, NodeError> {
        done.map_err(|error| match error {
            WriteError::Sync(_) => {
                self.poison.trip(&error);
                NodeError::Poisoned
            }
            WriteError::Full => {
                let free = self.store.space().map_or(0, |space| space.free);
                NodeError::Full { needed: 0, free }
            }
            WriteError::Io(error) => NodeError::Io(error),
            WriteError::Block { .. }
            | WriteError::Incomplete { .. }
            | WriteError::Checksum { .. } => NodeError::Data { chunk, source: error },
        })
    }

    /// Makes a written chunk durable: file, name, row, in this order.
    async fn publish(&self, writer: ChunkWriter) -> Result<Result<(), Refused>, NodeError> {
        let header = writer.header().clone();
        let chunk = header.key.chunk;
        let staged = self.blocking(move || writer.finish()).await?;
        let staged: StagedChunk = self.written(chunk, staged)?;
        let _publishing = self.publishing(&header.key).await;
        // Where a row speaks of this chunk already its file must not be replaced.
        if let Some(result) = already(&self.index.view(), &self.outlook, &header)? {
            return Ok(result);
        }
        let store = Arc::clone(&self.store);
        let named = self.blocking(move || store.publish(staged)).await?;
        self.written(chunk, named)?;
        let (outlook, row) = (self.outlook.clone(), header.clone());
        let result = self.index.update(move |txn| record(txn, &outlook, &row, None)).await?;
        if result.is_err() {
            let (store, view) = (Arc::clone(&self.store), self.index.view());
            if view.chunk(&header.key)?.is_none_or(|entry| entry.inline.is_some()) {
                // The sweep at the next start would find it too.
                let _ = self.blocking(move || store.remove(&header.key)).await?;
            }
        }
        Ok(result)
    }
}

/// The outcome for a chunk that is here already or may not come; `None` where it is wanted.
fn already(
    index: &impl Lookup,
    outlook: &Outlook,
    header: &Header,
) -> Result<Option<Result<(), Refused>>, IndexError> {
    let key = &header.key;
    let row = index.row(&key.user, &header.path, &[key.upload])?;
    if let Err(refused) = row.may_prepare(&outlook.view(), key.upload) {
        return Ok(Some(Err(refused)));
    }
    let same = |held: &ChunkEntry| held.path == header.path && held.sum == header.sum();
    Ok(match index.chunk(key)? {
        None => None,
        Some(held) if same(&held) => Some(Ok(())),
        Some(_) => Some(Err(Refused::TagConflict)),
    })
}

/// Puts a chunk, its data with it if it is small, and its have-bit into the index.
fn record(
    txn: &mut Txn<'_>,
    outlook: &Outlook,
    header: &Header,
    inline: Option<Bytes>,
) -> Result<Result<(), Refused>, IndexError> {
    if let Some(result) = already(txn, outlook, header)? {
        return Ok(result);
    }
    let ChunkKey { user, upload, chunk } = &header.key;
    let before = txn.row(user, &header.path, &[*upload])?;
    let mut row = before.clone();
    if let Err(refused) = row.prepare(&outlook.view(), *upload, *chunk) {
        return Ok(Err(refused));
    }
    txn.put_row(user, &header.path, &before, &row);
    let entry = ChunkEntry { path: header.path.clone(), sum: header.sum(), inline };
    txn.put_chunk(&header.key, &entry);
    debug_assert!(row.have(*upload).covers(ChunkSet::EMPTY.with(*chunk)));
    Ok(Ok(()))
}
