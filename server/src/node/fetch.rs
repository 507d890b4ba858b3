//! Sending data: chunks are opened one by one and their blocks read a few at a time.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, block_count};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};

use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::index::txn::Lookup;
use crate::store::reader::{ChunkReader, ReadError};
use crate::telemetry::blocks_sent;

/// Blocks read in one go on a blocking thread.
const READ_AHEAD: u64 = 2;

/// Why data could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("this node does not hold chunk {0} of the upload")]
    NotFound(ChunkId),
    #[error("chunk {chunk} is bad at block {block}: {source}")]
    Corrupt { chunk: ChunkId, block: u64, source: ReadError },
    #[error("chunk {chunk} cannot be read just now: {source}")]
    Busy { chunk: ChunkId, source: ReadError },
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// A piece of a chunk, on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) chunk: ChunkId,
    pub(crate) index: u64,
    pub(crate) crc: Crc32c,
    pub(crate) data: Bytes,
}

enum Source {
    Inline { data: Bytes, crc: Crc32c },
    File(Arc<ChunkReader>),
}

/// A chunk that is being sent.
pub(crate) struct Fetching {
    node: Arc<Node>,
    chunk: ChunkId,
    source: Source,
    next: u64,
    end: u64,
}

impl Node {
    /// Opens a chunk of an upload of a path: `count` blocks from `first` on, 0 for all.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        user: &UserName,
        path: &FilePath,
        upload: UploadId,
        chunk: ChunkId,
        (first, count): (u64, u64),
    ) -> Result<Fetching, FetchError> {
        let key = ChunkKey { user: user.clone(), upload, chunk };
        let entry = self.index.view().chunk(&key).map_err(NodeError::from)?;
        let entry = entry.filter(|entry| entry.path == *path).ok_or(FetchError::NotFound(chunk))?;
        let blocks = block_count(entry.sum.length);
        let end = match count {
            0 => blocks,
            count => first.saturating_add(count).min(blocks),
        };
        let source = match entry.inline {
            Some(data) => Source::Inline { data, crc: entry.sum.crc },
            None => {
                let store = Arc::clone(&self.store);
                let (opened, sum) = (key.clone(), entry.sum);
                let opened = self.blocking(move || store.open_chunk(&opened, sum)).await?;
                match opened {
                    Ok(reader) => Source::File(Arc::new(reader)),
                    Err(error) => return Err(self.unreadable(&key, first, error)),
                }
            }
        };
        Ok(Fetching { node: Arc::clone(self), chunk, source, next: first.min(end), end })
    }

    /// Says why a chunk that the index knew could not be opened: it may be gone by now.
    fn unreadable(&self, key: &ChunkKey, block: u64, source: ReadError) -> FetchError {
        match self.index.view().chunk(key) {
            Err(error) => FetchError::Node(error.into()),
            Ok(None) => FetchError::NotFound(key.chunk),
            Ok(Some(_)) => bad(key.chunk, block, source),
        }
    }
}

fn bad(chunk: ChunkId, block: u64, source: ReadError) -> FetchError {
    if source.is_bad_chunk() {
        FetchError::Corrupt { chunk, block, source }
    } else {
        FetchError::Busy { chunk, source }
    }
}

impl Fetching {
    /// The next blocks; none at the end.
    pub(crate) async fn next_blocks(&mut self) -> Result<Vec<Block>, FetchError> {
        let range = self.next..self.end.min(self.next + READ_AHEAD);
        self.next = range.end;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let blocks = self.read(range).await?;
        blocks_sent(blocks.len());
        Ok(blocks)
    }

    async fn read(&self, range: Range<u64>) -> Result<Vec<Block>, FetchError> {
        let chunk = self.chunk;
        match &self.source {
            Source::Inline { data, crc } => {
                Ok(vec![Block { chunk, index: 0, crc: *crc, data: data.clone() }])
            }
            Source::File(reader) => {
                let reader = Arc::clone(reader);
                let read = move || {
                    let each = range.map(|index| match reader.read_block(index) {
                        Ok((data, crc)) => Ok(Block { chunk, index, crc, data }),
                        Err(source) => Err(bad(chunk, index, source)),
                    });
                    each.collect()
                };
                self.node.blocking(read).await?
            }
        }
    }
}
