//! Fetching chunks of one version, each from a node that has it, and from another one when that
//! fails.

use std::ops::Range;

use dfs_proto::chunk::{ChunkId, ChunkSet, block_count};
use dfs_proto::name::FilePath;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::fetch::Fetch;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::part::blocks;
use crate::error::{Error, NodeError};
use crate::partial::Prefix;
use crate::sink::{PartFile, Place, StreamSink};
use crate::transfer::{Failure, Piece, Transfer};

/// The fetching of one version.
pub(super) struct Job<'a> {
    pub(super) transfer: Transfer<'a>,
    pub(super) fetch: Fetch,
    pub(super) errors: Vec<NodeError>,
    pub(super) damaged: bool,
}

impl Job<'_> {
    pub(super) fn advance(&self, bytes: u64) {
        if let Some(progress) = self.transfer.progress {
            progress.advance(bytes);
        }
    }

    /// All chunks at once, each from its node, written where they belong.
    pub(super) async fn fetch_to_file(
        &mut self,
        wanted: ChunkSet,
        file: &PartFile,
        come: [Prefix; 4],
    ) -> Result<(), Error> {
        let size = self.transfer.manifest.size();
        let blocks = wanted.iter().map(|chunk| block_count(chunk.length(size))).sum();
        let _turn = self.transfer.nodes.room().to_fetch(blocks).await;
        let mut next = Vec::new();
        for chunk in wanted.iter() {
            let piece = Piece::after(chunk, come[chunk.index()]);
            next.push((self.first(wanted, chunk)?, piece));
        }
        let Self { transfer, fetch, errors, damaged } = self;
        let transfer = &*transfer;
        let mut open = FuturesUnordered::new();
        loop {
            for (id, piece) in next.drain(..) {
                let place = Place::File { file, start: piece.chunk.range(size).start };
                open.push(transfer.run(id, piece, place));
            }
            match open.next().await {
                None => return Ok(()),
                Some(Ok(())) => {}
                Some(Err(failure)) => {
                    next.push(replace(transfer.path, fetch, errors, damaged, failure)?);
                }
            }
        }
    }

    /// One chunk, in order.
    pub(super) async fn fetch_to_stream(
        &mut self,
        chunk: ChunkId,
        sink: &mut StreamSink,
    ) -> Result<(), Error> {
        let mut id = self.first(ChunkSet::EMPTY.with(chunk), chunk)?;
        let mut piece = Piece::start(chunk);
        let Self { transfer, fetch, errors, damaged } = self;
        while let Err(failure) = transfer.run(id, piece, Place::Stream(sink)).await {
            (id, piece) = replace(transfer.path, fetch, errors, damaged, failure)?;
        }
        Ok(())
    }

    /// Bytes of one chunk, counted from its first one, in order.
    pub(super) async fn fetch_part(
        &mut self,
        chunk: ChunkId,
        part: Range<u64>,
        sink: &mut StreamSink,
    ) -> Result<(), Error> {
        let mut id = self.first(ChunkSet::EMPTY.with(chunk), chunk)?;
        let mut piece = Piece::blocks(chunk, blocks(&part));
        let Self { transfer, fetch, errors, damaged } = self;
        loop {
            let place = Place::Part { stream: &mut *sink, part: part.clone() };
            let Err(failure) = transfer.run(id, piece, place).await else { return Ok(()) };
            (id, piece) = replace(transfer.path, fetch, errors, damaged, failure)?;
        }
    }

    /// Whom to ask for `chunk` when all of `wanted` are to be fetched.
    fn first(&self, wanted: ChunkSet, chunk: ChunkId) -> Result<NodeId, Error> {
        let planned = self.fetch.plan(wanted)[chunk.index()];
        let missing = || missing(self.transfer.path, &self.errors, self.damaged, chunk);
        planned.or_else(|| self.fetch.next(chunk)).ok_or_else(missing)
    }
}

/// Finds another node for the rest of a piece.
fn replace(
    path: &FilePath,
    fetch: &mut Fetch,
    errors: &mut Vec<NodeError>,
    damaged: &mut bool,
    failure: Failure,
) -> Result<(NodeId, Piece), Error> {
    match failure {
        Failure::Local(error) => Err(error),
        Failure::Node { piece, error, node_is_gone, bad } => {
            *damaged |= bad;
            if node_is_gone {
                fetch.lost(error.node);
            }
            let next = fetch.failed(error.node, piece.chunk);
            errors.retain(|old| old.node != error.node);
            errors.push(error);
            let next = next.map(|id| (id, piece));
            next.ok_or_else(|| missing(path, errors, *damaged, piece.chunk))
        }
    }
}

fn missing(path: &FilePath, errors: &[NodeError], damaged: bool, chunk: ChunkId) -> Error {
    let (path, nodes) = (path.clone(), errors.to_vec());
    if damaged {
        let what = format!("no node that answered has a good copy of chunk {chunk}");
        Error::Corrupt { path, what, nodes }
    } else {
        Error::Incomplete { path, chunks: ChunkSet::EMPTY.with(chunk), nodes }
    }
}
