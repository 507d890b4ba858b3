//! Taking chunks in: one stream with one or many of them.
//!
//! Small chunks go into the index with their rows, those that come together in one transaction, and
//! the stream goes on while that becomes durable. A large one goes to a file: its blocks are written on blocking threads while the
//! next one arrives, and then made durable by a task of its own (see `prepare`).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Manifest, UploadId};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::Refused;
use dfs_proto::wire::MAX_BATCH;
use tokio::task::JoinHandle;

use super::look::Stat;
use super::prepare::{Purpose, SmallChunk};
use super::quota::{Declined, OverQuota};
use super::{INLINE_BYTES, Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::clock::now_ms;
use crate::index::Pending;
use crate::index::usage::SetAside;
use crate::store::format::Header;
use crate::store::writer::{BlockCheck, ChunkWriter, WriteError};

/// Most chunks in one stream: four of each file of a full batch.
const MAX_CHUNKS: usize = 4 * MAX_BATCH;
/// Small chunks in one transaction.
const MAX_GATHERED: usize = 256;
/// Their bytes, at most but for the last one.
const MAX_GATHERED_BYTES: u64 = 1 << 20;
/// Bytes of small chunks that may wait for the index while the stream goes on.
const MAX_WAITING_BYTES: u64 = 4 << 20;
/// Transactions and large chunks that may wait.
const MAX_WAITING: usize = 4;
/// What a large chunk counts as among them: two may become durable at a time.
const LARGE_COUNTS_AS: u64 = MAX_WAITING_BYTES / 2;

/// What a client announces.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    pub(crate) path: FilePath,
    pub(crate) upload: UploadId,
    pub(crate) chunk: ChunkId,
    pub(crate) manifest: Manifest,
    /// The first block that follows: those before it are here.
    pub(crate) first_block: u64,
}

/// The outcome for one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) upload: UploadId,
    pub(crate) chunk: ChunkId,
    pub(crate) result: Result<(), Declined>,
}

/// A stream that is coming in. Dropped on the way, it leaves whole chunks behind, but for the last
/// small ones, and of a large one the blocks that have come.
pub(crate) struct Putting {
    node: Arc<Node>,
    user: UserName,
    incoming: Option<Incoming>,
    /// Small chunks that are whole and go into the index together, and their places.
    gathered: Vec<(usize, SmallChunk)>,
    gathered_bytes: u64,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    outcomes: Vec<Outcome>,
    /// In the order in which they came, and as a set.
    paths: Vec<FilePath>,
    known_paths: HashSet<FilePath>,
    /// Bytes of small chunks that the disk was seen to have room for.
    room_seen: u64,
}

struct Incoming {
    chunk: ChunkId,
    /// Its outcome's place.
    place: usize,
    target: Target,
    /// Of the user's quota, until the chunk is held.
    room: Option<SetAside>,
}

/// Whether a chunk is wanted.
enum Admitted {
    /// With what was set aside for it, if its user has a quota.
    Yes(Option<SetAside>),
    /// It is here already, or declined.
    No(Result<(), Declined>),
}

enum Target {
    /// Already here, or refused: the blocks are thrown away.
    Nowhere,
    Index(Box<Small>),
    /// The writer is with the blocking task that writes the last block.
    File(JoinHandle<Result<ChunkWriter, WriteError>>),
}

/// A chunk that goes into the index: it has at most one block.
struct Small {
    header: Header,
    check: BlockCheck,
    data: Bytes,
}

/// What is becoming durable.
struct Waiting {
    bytes: u64,
    step: Step,
}

enum Step {
    /// Small chunks with these places.
    Index(Vec<usize>, Pending<Vec<Result<(), Refused>>>),
    File(usize, JoinHandle<Result<Result<(), Refused>, NodeError>>),
}

impl Node {
    /// Starts to take a stream of chunks.
    pub(crate) fn start_put(self: &Arc<Self>, user: UserName) -> Putting {
        Putting {
            node: Arc::clone(self),
            user,
            incoming: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            outcomes: Vec::new(),
            paths: Vec::new(),
            known_paths: HashSet::new(),
            room_seen: 0,
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
        let Announced { path, upload, chunk, manifest, first_block } = announced;
        let header = Header {
            key: ChunkKey { user: self.user.clone(), upload, chunk },
            path,
            manifest,
            written_ms: now_ms(),
        };
        if self.paths.last() != Some(&header.path) && self.known_paths.insert(header.path.clone()) {
            self.paths.push(header.path.clone());
        }
        let place = self.outcomes.len();
        let (target, room, result) = match self.admit(&header)? {
            Admitted::Yes(room) => (self.target(header, first_block)?, room, Ok(())),
            Admitted::No(result) => (Target::Nowhere, None, result),
        };
        self.outcomes.push(Outcome { upload, chunk, result });
        self.incoming = Some(Incoming { chunk, place, target, room });
        Ok(())
    }

    /// Whether an announced chunk is wanted. A small one that is declined may be followed by others
    /// that are not; the bytes of a large one are not waited for.
    fn admit(&self, header: &Header) -> Result<Admitted, NodeError> {
        let already = || {
            let result = self.node.already_prepared(header, Purpose::Prepare)?;
            Ok::<_, NodeError>(result.map(|result| result.map_err(Declined::Rule)))
        };
        let small = header.sum().length <= INLINE_BYTES;
        // Of a small one the transaction that stores it finds out.
        if !small && let Some(result) = already()? {
            return Ok(Admitted::No(result));
        }
        match self.node.set_aside(header)? {
            Ok(room) => Ok(Admitted::Yes(room)),
            Err(over) if small => {
                Ok(Admitted::No(already()?.unwrap_or(Err(Declined::Quota(over)))))
            }
            Err(over) => Err(NodeError::Quota(over)),
        }
    }

    /// Where a chunk that may come goes.
    fn target(&mut self, header: Header, first_block: u64) -> Result<Target, NodeError> {
        let length = header.sum().length;
        if length <= INLINE_BYTES {
            self.check_small_room(length)?;
        } else {
            let kept = self.kept(&header, first_block);
            self.node.check_room(length.saturating_sub(kept))?;
        }
        let node = &self.node;
        let target = if length <= INLINE_BYTES {
            let check = BlockCheck::new(header.sum());
            if first_block > 0 {
                let source = WriteError::NotStaged { first_block, staged: 0 };
                return Err(NodeError::Data { chunk: header.key.chunk, source });
            }
            Target::Index(Box::new(Small { header, check, data: Bytes::new() }))
        } else if first_block > 0 {
            let store = Arc::clone(&node.store);
            let resume = move || store.resume(&header, first_block);
            Target::File(node.tasks.spawn_blocking(resume))
        } else {
            let store = Arc::clone(&node.store);
            Target::File(node.tasks.spawn_blocking(move || store.start(header)))
        };
        Ok(target)
    }

    /// Bytes of a large chunk that are on the disk already, where it goes on.
    fn kept(&self, header: &Header, first_block: u64) -> u64 {
        match first_block {
            0 => 0,
            // The room for the others was given back when its stream broke.
            _ => self.node.store.durable_bytes(&header.key, &header.path),
        }
    }

    /// Whether the disk has room for a small chunk. It is asked for as many as go into one transaction;
    /// where it has not as much, for each of them.
    fn check_small_room(&mut self, length: u64) -> Result<(), NodeError> {
        // An empty one takes a row, too.
        let taken = length.max(1);
        if self.room_seen < taken {
            self.room_seen = if self.node.check_room(MAX_GATHERED_BYTES).is_ok() {
                MAX_GATHERED_BYTES
            } else {
                self.node.check_room(length)?;
                taken
            };
        }
        self.room_seen -= taken;
        Ok(())
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
            Target::Index(small) => {
                let taken = small.check.take(index, &block, crc);
                self.node.written(chunk, taken)?;
                small.data = block;
            }
            Target::File(last) => {
                // In its place while this waits: who drops the stream finds the writer there.
                let written = last.await.map_err(|_| NodeError::Task);
                incoming.target = Target::Nowhere;
                let mut writer = self.node.written(chunk, written?)?;
                incoming.target = Target::File(self.node.tasks.spawn_blocking(move || {
                    writer.append(index, &block, crc)?;
                    Ok(writer)
                }));
            }
        }
        Ok(())
    }

    /// Ends the chunk that is coming in and lets it become durable.
    async fn end_chunk(&mut self) -> Result<(), NodeError> {
        let written = match &mut self.incoming {
            Some(Incoming { target: Target::File(last), .. }) => Some(last.await),
            _ => None,
        };
        let Some(Incoming { chunk, place, target, room }) = self.incoming.take() else {
            return Ok(());
        };
        match target {
            Target::Nowhere => Ok(()),
            Target::Index(small) => {
                let Small { header, check, data } = *small;
                self.node.written(chunk, check.finish())?;
                self.gathered_bytes += header.sum().length;
                self.gathered.push((place, SmallChunk { header, data, room }));
                let full = self.gathered.len() >= MAX_GATHERED;
                if full || self.gathered_bytes >= MAX_GATHERED_BYTES {
                    self.store_gathered().await?;
                }
                Ok(())
            }
            Target::File(_) => {
                let writer = written.ok_or(NodeError::Task)?.map_err(|_| NodeError::Task)?;
                let writer = self.node.written(chunk, writer)?;
                let node = Arc::clone(&self.node);
                if let Some(incomplete) = writer.incomplete() {
                    // A client that goes away may look like one that has nothing more to send.
                    self.node.tasks.spawn(async move { node.keep_or_warn(writer).await });
                    return self.node.written(chunk, Err(incomplete));
                }
                let publish = self
                    .node
                    .tasks
                    .spawn(async move { node.prepare_large(writer, Purpose::Prepare, room).await });
                self.wait_for(LARGE_COUNTS_AS, Step::File(place, publish)).await
            }
        }
    }

    /// Hands the gathered chunks to the index: one transaction, and with it one sync.
    async fn store_gathered(&mut self) -> Result<(), NodeError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.gathered_bytes);
        let (places, chunks) = std::mem::take(&mut self.gathered).into_iter().unzip();
        let prepared = self.node.prepare_small(chunks, Purpose::Prepare).await;
        self.wait_for(bytes, Step::Index(places, prepared)).await
    }

    /// Adds to what is becoming durable; waits where that is too much.
    async fn wait_for(&mut self, bytes: u64, step: Step) -> Result<(), NodeError> {
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting { bytes, step });
        while self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            self.wait_for_first().await?;
        }
        Ok(())
    }

    async fn wait_for_first(&mut self) -> Result<(), NodeError> {
        let Some(Waiting { bytes, step }) = self.waiting.pop_front() else {
            return Ok(());
        };
        self.waiting_bytes -= bytes;
        let (places, results) = match step {
            Step::Index(places, pending) => (places, pending.done().await?),
            Step::File(place, task) => {
                (vec![place], vec![task.await.map_err(|_| NodeError::Task)??])
            }
        };
        for (place, result) in places.into_iter().zip(results) {
            if let Some(outcome) = self.outcomes.get_mut(place) {
                outcome.result = result.map_err(Declined::Rule);
            }
        }
        Ok(())
    }

    /// Waits until all chunks are durable; then looks at their paths. Fails where the quota was
    /// too small for each of them.
    pub(crate) async fn finish(mut self) -> Result<(Vec<Outcome>, Vec<Stat>), NodeError> {
        self.end_chunk().await?;
        self.store_gathered().await?;
        while !self.waiting.is_empty() {
            self.wait_for_first().await?;
        }
        self.node.check_poison()?;
        if let Some(over) = self.over_quota() {
            return Err(NodeError::Quota(over.clone()));
        }
        let paths = std::mem::take(&mut self.paths);
        let queries = paths.into_iter().map(|path| (path, None)).collect();
        let stats = self.node.stat(self.user.clone(), queries, false).await?;
        Ok((std::mem::take(&mut self.outcomes), stats))
    }

    /// Why nothing was taken, if that was for the quota alone.
    fn over_quota(&self) -> Option<&OverQuota> {
        let each = self.outcomes.iter().map(|outcome| match &outcome.result {
            Err(Declined::Quota(over)) => Some(over),
            Ok(()) | Err(Declined::Rule(_)) => None,
        });
        each.reduce(|all, one| all.and(one)).flatten()
    }
}

impl Drop for Putting {
    /// The blocks of a large chunk that have come are kept for one who goes on.
    fn drop(&mut self) {
        let Some(Incoming { target: Target::File(last), .. }) = self.incoming.take() else {
            return;
        };
        // Without a runtime the node is at its end, and the sweep at its next start looks.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let node = Arc::clone(&self.node);
        let keep = async move {
            // A task or a writer that failed has nothing to keep.
            if let Ok(Ok(writer)) = last.await {
                node.keep_or_warn(writer).await;
            }
        };
        self.node.tasks.spawn_on(keep, &runtime);
    }
}
