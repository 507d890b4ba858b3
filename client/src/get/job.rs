//! Fetching chunks of one version, each from a node that has it, and from another one when that
//! fails.

use std::ops::Range;

use dfs_proto::chunk::{ChunkId, ChunkSet, block_count};
use dfs_proto::name::FilePath;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::fetch::Fetch;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Here;
use super::part::blocks;
use crate::error::{Error, NodeError};
use crate::partial::Prefix;
use crate::sink::{PartFile, Place, StreamSink};
use crate::transfer::{Failure, Piece, Transfer};

/// The fetching of one version.
pub(super) struct Job<'a> {
    pub(super) transfer: Transfer<'a>,
    pub(super) sources: Sources,
    /// How far a stream has come.
    pub(super) reached: Piece,
}

/// Who can be asked, and why others cannot.
pub(super) struct Sources {
    fetch: Fetch,
    errors: Vec<NodeError>,
    /// Chunks of which a bad copy was found.
    damaged: ChunkSet,
    /// Nodes that broke off while they were asked.
    pub(super) broke: Vec<NodeId>,
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
        let Self { transfer, sources, .. } = self;
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
                    next.push(sources.replace(transfer.path, failure)?);
                }
            }
        }
    }

    /// All chunks in order, on from where the stream is. `here` are those that have come.
    pub(super) async fn fetch_to_stream(
        &mut self,
        mut here: Here,
        sink: &mut StreamSink,
    ) -> Result<(), Error> {
        for chunk in ChunkId::ALL.into_iter().skip(self.reached.chunk.index()) {
            if chunk != self.reached.chunk {
                self.reached = Piece::start(chunk);
            }
            let come = here.iter().position(|(come, _)| *come == chunk);
            match come.filter(|_| self.reached.next == 0) {
                Some(place) => {
                    let data = here.swap_remove(place).1;
                    self.advance(data.len() as u64);
                    sink.write(data).await?;
                }
                None if self.transfer.manifest.chunk(chunk).length == 0 => {}
                None => self.fetch_rest(sink).await?,
            }
        }
        Ok(())
    }

    /// The rest of the chunk that the stream is in.
    async fn fetch_rest(&mut self, sink: &mut StreamSink) -> Result<(), Error> {
        let chunk = self.reached.chunk;
        let mut id = self.first(ChunkSet::EMPTY.with(chunk), chunk)?;
        loop {
            let place = Place::Stream(&mut *sink);
            let Err(failure) = self.transfer.run(id, self.reached, place).await else {
                return Ok(());
            };
            if let Failure::Node { piece, .. } = &failure {
                self.reached = *piece;
            }
            (id, _) = self.sources.replace(self.transfer.path, failure)?;
        }
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
        let Self { transfer, sources, .. } = self;
        loop {
            let place = Place::Part { stream: &mut *sink, part: part.clone() };
            let Err(failure) = transfer.run(id, piece, place).await else { return Ok(()) };
            (id, piece) = sources.replace(transfer.path, failure)?;
        }
    }

    /// Whom to ask for `chunk` when all of `wanted` are to be fetched.
    fn first(&self, wanted: ChunkSet, chunk: ChunkId) -> Result<NodeId, Error> {
        let Self { transfer, sources, .. } = self;
        let planned = sources.fetch.plan(wanted)[chunk.index()];
        let missing = || sources.missing(transfer.path, chunk);
        planned.or_else(|| sources.fetch.next(chunk)).ok_or_else(missing)
    }
}

impl Sources {
    pub(super) fn new(fetch: Fetch, errors: Vec<NodeError>) -> Self {
        Self { fetch, errors, damaged: ChunkSet::EMPTY, broke: Vec::new() }
    }

    /// Finds another node for the rest of a piece.
    fn replace(&mut self, path: &FilePath, failure: Failure) -> Result<(NodeId, Piece), Error> {
        match failure {
            Failure::Local(error) => Err(error),
            Failure::Node { piece, error, node_is_gone, broke, bad } => {
                if bad {
                    self.damaged = self.damaged.with(piece.chunk);
                }
                if broke {
                    self.broke.push(error.node);
                }
                if node_is_gone {
                    self.fetch.lost(error.node);
                }
                let next = self.fetch.failed(error.node, piece.chunk);
                self.errors.retain(|old| old.node != error.node);
                self.errors.push(error);
                let next = next.map(|id| (id, piece));
                next.ok_or_else(|| self.missing(path, piece.chunk))
            }
        }
    }

    fn missing(&self, path: &FilePath, chunk: ChunkId) -> Error {
        let (path, nodes) = (path.clone(), self.errors.clone());
        if self.damaged.contains(chunk) && self.broke.is_empty() {
            let what = format!("no node that answered has a good copy of chunk {chunk}");
            Error::Corrupt { path, what, nodes }
        } else {
            Error::Incomplete { path, chunks: ChunkSet::EMPTY.with(chunk), nodes }
        }
    }
}
