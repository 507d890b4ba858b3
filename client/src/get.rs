//! GET: decide which version counts, fetch its four chunks once, check every block.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::{Manifest, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::fetch::{Fetch, Source};
use dfs_proto::protocol::read::Outcome;
use dfs_proto::tag::Tag;
use dfs_proto::wire::pb::Selection;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::connect::Notice;
use crate::error::{Error, NodeError, Operation};
use crate::look::{INLINE_BYTES, Look};
use crate::nodes::Nodes;
use crate::partial::Prefix;
use crate::sink::{PartFile, Place, Sink, StreamSink};
use crate::transfer::{Failure, Piece, Transfer};
use crate::upload::{Progress, Traffic};

/// How long a decided GET waits for nodes that have not answered, so that four nodes share the
/// work; after that the others do theirs.
const LINGER: Duration = Duration::from_millis(500);

/// Two opposite nodes, which hold a whole copy together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// Nodes 1 and 3.
    Odd,
    /// Nodes 2 and 4.
    Even,
}

impl Pair {
    fn contains(self, id: NodeId) -> bool {
        id.index().is_multiple_of(2) == (self == Self::Odd)
    }
}

/// What a GET may be told.
#[derive(Clone, Default)]
pub struct GetOptions {
    /// Take the data from these two nodes only.
    pub pair: Option<Pair>,
    /// Fail where three nodes cannot be shown to have the newest version.
    pub strict: bool,
    /// Check the MD5 of the whole as well.
    pub verify: bool,
    /// Told how far it is.
    pub progress: Option<Arc<dyn Progress>>,
    /// Stops it; a file under way is removed, or kept for the next GET of it if it is large.
    pub cancel: CancellationToken,
}

/// What a GET did.
#[derive(Debug, Clone)]
pub struct GetReport {
    /// The version that was read.
    pub tag: Tag,
    /// What it is.
    pub manifest: Manifest,
    /// Three nodes could not be shown to have it.
    pub unconfirmed: bool,
    /// Bytes of it that an interrupted GET had fetched before.
    pub resumed: u64,
    /// Payload bytes received from each node.
    pub per_node: PerNode<u64>,
    /// Rounds of messages it took.
    pub rounds: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where a GET writes.
pub(crate) enum Output<'a> {
    File(&'a Path),
    Stream(Box<dyn std::io::Write + Send>),
}

pub(crate) async fn get(
    nodes: &Arc<Nodes>,
    path: FilePath,
    output: Output<'_>,
    options: GetOptions,
) -> Result<GetReport, Error> {
    let cancel = options.cancel.clone();
    let mut sink = None;
    let done = tokio::select! {
        report = run(nodes, path, output, options, &mut sink) => report,
        () = cancel.cancelled() => Err(Error::Interrupted),
    };
    if let (Err(error), Some(Sink::File(file))) = (&done, sink) {
        let useless = matches!(error, Error::Corrupt { .. } | Error::NotFound { .. });
        if let Some(kept) = file.give_up(!useless) {
            nodes.notify(Notice::Kept(kept));
        }
    }
    done
}

async fn run(
    nodes: &Arc<Nodes>,
    path: FilePath,
    output: Output<'_>,
    options: GetOptions,
    place: &mut Option<Sink>,
) -> Result<GetReport, Error> {
    let started = Instant::now();
    let traffic = Arc::new(Traffic::default());
    let mut read = Get { nodes: nodes.clone(), path, options, traffic, rounds: 0, resumed: 0 };
    let (mut look, version, unconfirmed) = read.decide().await?;
    if let (Some(progress), Some(manifest)) = (&read.options.progress, version.manifest()) {
        progress.start(manifest.size());
    }
    // Nothing local is touched before the file is known to exist.
    let size = version.manifest().map_or(0, Manifest::size);
    let sink = place.insert(match output {
        Output::File(target) => Sink::File(PartFile::create(target, size)?),
        Output::Stream(stream) => Sink::Stream(StreamSink::new(stream, read.options.verify)),
    });
    let mut decided = (version, unconfirmed);
    if let Err(error) = read.fetch(&mut look, &decided.0, sink).await {
        decided = read.newer(&decided.0, error, sink).await?;
    }
    let (version, unconfirmed) = decided;
    let Some(manifest) = version.manifest().cloned() else {
        return Err(Error::NotFound { path: read.path, unconfirmed });
    };
    if let Err(wrong) = sink.check(&manifest, read.options.verify).await? {
        let what = format!("its MD5 is {}, stored was {}", wrong.0, manifest.md5());
        return Err(Error::Corrupt { path: read.path, what, nodes: Vec::new() });
    }
    if let Some(sink) = place.take() {
        sink.finish(&manifest)?;
    }
    Ok(GetReport {
        tag: version.tag,
        manifest,
        unconfirmed,
        resumed: read.resumed,
        per_node: read.traffic.per_node(),
        rounds: read.rounds,
        elapsed: started.elapsed(),
    })
}

struct Get {
    nodes: Arc<Nodes>,
    path: FilePath,
    options: GetOptions,
    traffic: Arc<Traffic>,
    rounds: u32,
    resumed: u64,
}

impl Get {
    /// Finds out which version counts.
    async fn decide(&mut self) -> Result<(Look, Version, bool), Error> {
        let selection = NodeId::ALL.map(|id| match self.options.pair {
            None => Selection::FirstHome,
            Some(pair) if pair.contains(id) => Selection::BothHomes,
            Some(_) => Selection::Unspecified,
        });
        let (nodes, traffic) = (self.nodes.clone(), self.traffic.clone());
        let mut look = Look::start(nodes, self.path.clone(), selection, traffic);
        let outcome = look.decide().await;
        self.rounds += look.rounds;
        let path = self.path.clone();
        match outcome {
            Outcome::Unavailable => {
                Err(Error::unavailable(Operation::Get, Some(path), look.errors()))
            }
            // A removal too may be seen by this reader and missed by the next one.
            Outcome::Decided { unconfirmed: true, .. } if self.options.strict => {
                Err(Error::Unconfirmed { path })
            }
            Outcome::Decided { version: Some(version), unconfirmed }
                if version.manifest().is_some() =>
            {
                Ok((look, version, unconfirmed))
            }
            Outcome::Decided { unconfirmed, .. } => Err(Error::NotFound { path, unconfirmed }),
        }
    }

    /// The chosen version could not be fetched: if it was replaced meanwhile, once more.
    async fn newer(
        &mut self,
        old: &Version,
        error: Error,
        sink: &mut Sink,
    ) -> Result<(Version, bool), Error> {
        if !matches!(error, Error::Incomplete { .. }) {
            return Err(error);
        }
        let began = matches!(sink, Sink::Stream(stream) if stream.began());
        let (mut look, version, unconfirmed) = match self.decide().await {
            Err(Error::NotFound { path, .. }) if began => return Err(Error::Replaced { path }),
            decided => decided?,
        };
        if version.upload == old.upload {
            return Err(error);
        }
        if began {
            return Err(Error::Replaced { path: self.path.clone() });
        }
        self.fetch(&mut look, &version, sink).await?;
        Ok((version, unconfirmed))
    }

    /// Fetches what has not come with the first answers.
    async fn fetch(
        &mut self,
        look: &mut Look,
        version: &Version,
        sink: &mut Sink,
    ) -> Result<(), Error> {
        let Some(manifest) = version.manifest() else {
            return Ok(());
        };
        let pair = self.options.pair;
        let used = |id: NodeId| pair.is_none_or(|pair| pair.contains(id));
        look.linger(LINGER, used).await;
        look.await_chunks(version, used).await;
        let mut here = look.take_chunks(version.upload);
        // For what came with the answers.
        self.nodes.get(NodeId::ALL[0]).node().take(0).await;
        let come = match sink {
            Sink::File(file) => file.begin(version, manifest).await?,
            Sink::Stream(_) => Default::default(),
        };
        self.resumed = come.iter().map(|prefix| prefix.bytes).sum();
        if self.resumed > 0 {
            self.nodes.notify(Notice::Resumed(self.path.clone(), self.resumed));
        }
        let have = look.have(version);
        let sources = NodeId::ALL.map(|id| match have[id.index()] {
            Some(have) if used(id) => Source::Up(have),
            _ => Source::Out,
        });
        let come_whole = |chunk: ChunkId| come[chunk.index()].bytes == manifest.chunk(chunk).length;
        let present = |chunk: &ChunkId| come_whole(*chunk) || here.iter().any(|(c, _)| c == chunk);
        let wanted: ChunkSet = ChunkId::ALL.into_iter().filter(|chunk| !present(chunk)).collect();
        if !wanted.is_empty() {
            self.rounds += 1;
        }
        let transfer = Transfer {
            nodes: &self.nodes,
            path: &self.path,
            version,
            manifest,
            traffic: &self.traffic,
            progress: self.options.progress.as_ref(),
        };
        let errors = look.errors();
        let mut job = Job { transfer, fetch: Fetch::new(sources), errors, damaged: false };
        job.advance(self.resumed);
        match sink {
            Sink::File(file) => {
                let mut pieces = Vec::new();
                for (chunk, blocks) in here {
                    let mut offset = chunk.range(manifest.size()).start;
                    for block in blocks {
                        let length = block.len() as u64;
                        pieces.push((offset, block));
                        offset += length;
                    }
                }
                let bytes = pieces.iter().map(|(_, block)| block.len() as u64).sum();
                file.write_all(pieces).await?;
                job.advance(bytes);
                job.fetch_to_file(wanted, file, come).await
            }
            Sink::Stream(stream) => {
                for chunk in ChunkId::ALL {
                    match here.iter().position(|(c, _)| *c == chunk) {
                        Some(place) => {
                            for block in here.swap_remove(place).1 {
                                job.advance(block.len() as u64);
                                stream.write(block).await?;
                            }
                        }
                        None if wanted.contains(chunk) => {
                            job.fetch_to_stream(chunk, stream).await?;
                        }
                        None => {}
                    }
                }
                Ok(())
            }
        }
    }
}

/// The fetching of one version.
struct Job<'a> {
    transfer: Transfer<'a>,
    fetch: Fetch,
    errors: Vec<NodeError>,
    damaged: bool,
}

impl Job<'_> {
    fn advance(&self, bytes: u64) {
        if let Some(progress) = self.transfer.progress {
            progress.advance(bytes);
        }
    }

    /// All chunks at once, each from its node, written where they belong.
    async fn fetch_to_file(
        &mut self,
        wanted: ChunkSet,
        file: &PartFile,
        come: [Prefix; 4],
    ) -> Result<(), Error> {
        let size = self.transfer.manifest.size();
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
    async fn fetch_to_stream(
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

const _: () =
    assert!(INLINE_BYTES <= dfs_proto::chunk::BLOCK_BYTES, "an inline chunk is one block");
