//! GET: decide which version counts, fetch its four chunks once, check every block.

mod job;
mod part;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::{Manifest, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::fetch::{Fetch, Source};
use dfs_proto::protocol::read::Outcome;
use dfs_proto::tag::Tag;
use dfs_proto::wire::pb::Selection;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connect::Notice;
use crate::error::{Error, Operation};
use crate::look::Look;
use crate::nodes::Nodes;
use crate::pairs::{Pair, Turn};
use crate::sink::{Memory, PartFile, Sink, StreamSink, WrongDigest};
use crate::transfer::{Piece, Transfer};
use crate::upload::{Progress, REVIVE_LIMIT, Traffic};
use crate::whole::Whole;
use job::{Job, Sources};
pub(crate) use part::get_range;

/// How long a decided GET waits for nodes that have not answered, so that four nodes share the
/// work; after that the others do theirs.
const LINGER: Duration = Duration::from_millis(500);

/// How often nodes may go away while one GET is under way, and be there again.
const MAX_BREAKS: u32 = 8;

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
    /// Which bytes of the file were asked for: all, unless a range was.
    pub range: Range<u64>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where a GET writes.
pub(crate) enum Output<'a> {
    File(&'a Path),
    Memory(&'a Memory),
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
    let mut read = Get::start(nodes, path, options);
    if let Output::Memory(memory) = output {
        read.limit = memory.limit();
    }
    let (mut look, mut version, mut unconfirmed) = read.decide().await?;
    if let (Some(progress), Some(manifest)) = (&read.options.progress, version.manifest()) {
        progress.start(manifest.size());
    }
    let size = version.manifest().map_or(0, Manifest::size);
    let mut here = read.gather(&mut look, &version).await;
    // Nothing local is touched before the file is known to exist.
    let come: u64 = here.iter().map(|(_, data)| data.len() as u64).sum();
    let sink = place.insert(match output {
        Output::File(target) if come == size => {
            return read.write_whole(target, here, &version, unconfirmed).await;
        }
        Output::File(target) => Sink::File(PartFile::create(target, size)?),
        Output::Memory(memory) if come == size && !read.options.verify => {
            memory.hold(here.iter().map(|(_, data)| data));
            return read.all_came(&version, unconfirmed);
        }
        Output::Memory(memory) => {
            Sink::Stream(StreamSink::new(Box::new(memory.clone()), read.options.verify))
        }
        Output::Stream(stream) => Sink::Stream(StreamSink::new(stream, read.options.verify)),
    });
    while let Err(error) = read.fetch(&mut look, &version, here, sink).await {
        (look, version, unconfirmed) = read.again((version, unconfirmed), error, sink).await?;
        here = read.gather(&mut look, &version).await;
    }
    let Some(manifest) = version.manifest() else {
        return Err(Error::NotFound { path: read.path, unconfirmed });
    };
    let checked = sink.check(manifest, read.options.verify).await?;
    read.right(manifest, checked)?;
    if let Some(sink) = place.take() {
        sink.finish(manifest)?;
    }
    Ok(read.report(version.tag, manifest, unconfirmed))
}

/// Chunks that came with the first answers.
type Here = Vec<(ChunkId, Bytes)>;

struct Get {
    nodes: Arc<Nodes>,
    path: FilePath,
    options: GetOptions,
    traffic: Arc<Traffic>,
    turn: Turn,
    /// The longest file that there is room for, in bytes.
    limit: u64,
    rounds: u32,
    resumed: u64,
    /// How far a stream has come.
    reached: Piece,
    /// Nodes that broke off while they were sending.
    broke: Vec<NodeId>,
    /// How often it went on after that.
    breaks: u32,
    /// It has begun once more, with a newer version.
    begun_again: bool,
    started: Instant,
}

impl Get {
    fn start(nodes: &Arc<Nodes>, path: FilePath, options: GetOptions) -> Self {
        let turn = nodes.turns().take(options.pair);
        let (nodes, traffic) = (nodes.clone(), Arc::default());
        Self {
            nodes,
            path,
            options,
            traffic,
            turn,
            limit: u64::MAX,
            rounds: 0,
            resumed: 0,
            reached: Piece::start(ChunkId::C1),
            broke: Vec::new(),
            breaks: 0,
            begun_again: false,
            started: Instant::now(),
        }
    }

    fn report(&self, tag: Tag, manifest: &Manifest, unconfirmed: bool) -> GetReport {
        GetReport {
            tag,
            manifest: manifest.clone(),
            unconfirmed,
            resumed: self.resumed,
            per_node: self.traffic.per_node(),
            rounds: self.rounds,
            range: 0..manifest.size(),
            elapsed: self.started.elapsed(),
        }
    }

    fn right(&self, manifest: &Manifest, checked: Result<(), WrongDigest>) -> Result<(), Error> {
        checked.map_err(|wrong| {
            let what = format!("its MD5 is {}, stored was {}", wrong.0, manifest.md5());
            Error::Corrupt { path: self.path.clone(), what, nodes: Vec::new() }
        })
    }

    /// Finds out which version counts.
    async fn decide(&mut self) -> Result<(Look, Version, bool), Error> {
        // In a second attempt nobody is held back.
        let first = self.turn.pair.take();
        let selection = NodeId::ALL.map(|id| match first.or(self.options.pair) {
            None => Selection::FirstHome,
            Some(pair) if pair.contains(id) => Selection::BothHomes,
            Some(_) => Selection::Unspecified,
        });
        let (nodes, traffic) = (self.nodes.clone(), self.traffic.clone());
        let mut look = Look::start(nodes, self.path.clone(), selection, first, traffic);
        let outcome = look.decide().await;
        let path = self.path.clone();
        match outcome {
            Outcome::Unavailable => {
                Err(Error::unavailable(Operation::Get, Some(path), look.errors()))
            }
            // A removal too may be seen by this reader and missed by the next one.
            Outcome::Decided { unconfirmed: true, .. } if self.options.strict => {
                Err(Error::Unconfirmed { path })
            }
            Outcome::Decided { version, unconfirmed } => {
                let found = version.and_then(|v| Some((v.manifest()?.size(), v)));
                let Some((size, version)) = found else {
                    return Err(Error::NotFound { path, unconfirmed });
                };
                if size > self.limit {
                    return Err(Error::TooLarge { path, size, limit: self.limit });
                }
                Ok((look, version, unconfirmed))
            }
        }
    }

    /// The chosen version could not be fetched. If nodes broke off while they were sending it goes on
    /// when they are there again; if it was replaced meanwhile it begins once more, with the newer one.
    async fn again(
        &mut self,
        old: (Version, bool),
        error: Error,
        sink: &mut Sink,
    ) -> Result<(Look, Version, bool), Error> {
        if !matches!(error, Error::Incomplete { .. }) {
            return Err(error);
        }
        let broke = std::mem::take(&mut self.broke);
        let revived = broke.iter().map(|id| self.nodes.get(*id).node().revive(REVIVE_LIMIT));
        // Where some do not come there is what the others have.
        let _ = timeout(REVIVE_LIMIT, join_all(revived)).await;
        let began = matches!(sink, Sink::Stream(stream) if stream.began());
        // For the version that it has there is no need to show it once more.
        let strict = std::mem::take(&mut self.options.strict);
        let (look, version, unconfirmed) = match self.decide().await {
            Err(Error::NotFound { path, .. }) if began => return Err(Error::Replaced { path }),
            decided => decided?,
        };
        self.options.strict = strict;
        if version.upload == old.0.upload {
            if broke.is_empty() || self.breaks == MAX_BREAKS {
                return Err(error);
            }
            self.breaks += 1;
            return Ok((look, version, unconfirmed && old.1));
        }
        if began {
            return Err(Error::Replaced { path: self.path.clone() });
        }
        if std::mem::replace(&mut self.begun_again, true) {
            return Err(error);
        }
        if strict && unconfirmed {
            return Err(Error::Unconfirmed { path: self.path.clone() });
        }
        self.reached = Piece::start(ChunkId::C1);
        Ok((look, version, unconfirmed))
    }

    /// Waits for the answers that are worth it; what has come with them.
    async fn gather(&mut self, look: &mut Look, version: &Version) -> Here {
        let used = |id: NodeId| self.options.pair.is_none_or(|pair| pair.contains(id));
        if !look.has_come(version) {
            look.ask_others();
            look.linger(LINGER, used).await;
            look.await_chunks(version, used).await;
        }
        self.rounds += look.rounds;
        let here = look.take_chunks(version.upload);
        // For what came with the answers.
        self.nodes.get(NodeId::ALL[0]).node().take(0).await;
        here
    }

    /// All of it has come: writes the file.
    async fn write_whole(
        &self,
        target: &Path,
        here: Here,
        version: &Version,
        unconfirmed: bool,
    ) -> Result<GetReport, Error> {
        let Some(manifest) = version.manifest() else {
            return Err(Error::NotFound { path: self.path.clone(), unconfirmed });
        };
        let file = Whole {
            target: target.to_owned(),
            manifest: manifest.clone(),
            pieces: here.into_iter().map(|(_, data)| data).collect(),
            verify: self.options.verify,
        };
        let written = self.nodes.write(file).await?;
        self.right(manifest, written)?;
        self.all_came(version, unconfirmed)
    }

    /// All of it has come and is where it belongs.
    fn all_came(&self, version: &Version, unconfirmed: bool) -> Result<GetReport, Error> {
        let Some(manifest) = version.manifest() else {
            return Err(Error::NotFound { path: self.path.clone(), unconfirmed });
        };
        if let Some(progress) = &self.options.progress {
            progress.advance(manifest.size());
        }
        Ok(self.report(version.tag, manifest, unconfirmed))
    }

    /// The fetching of a version from the nodes that have answered.
    fn job<'a>(&'a self, look: &Look, version: &'a Version, manifest: &'a Manifest) -> Job<'a> {
        let used = |id: NodeId| self.options.pair.is_none_or(|pair| pair.contains(id));
        let have = look.have(version);
        let sources = NodeId::ALL.map(|id| match have[id.index()] {
            Some(have) if used(id) => Source::Up(have),
            _ => Source::Out,
        });
        let transfer = Transfer {
            nodes: &self.nodes,
            path: &self.path,
            version,
            manifest,
            traffic: &self.traffic,
            progress: self.options.progress.as_ref(),
        };
        let sources = Sources::new(Fetch::new(sources), look.errors());
        Job { transfer, sources, reached: self.reached }
    }

    /// Fetches what has not come with the first answers.
    async fn fetch(
        &mut self,
        look: &mut Look,
        version: &Version,
        here: Here,
        sink: &mut Sink,
    ) -> Result<(), Error> {
        let Some(manifest) = version.manifest() else {
            return Ok(());
        };
        let come = match sink {
            Sink::File(file) => file.begin(version, manifest).await?,
            Sink::Stream(_) => Default::default(),
        };
        let first = self.breaks == 0 && !self.begun_again;
        if first {
            self.resumed = come.iter().map(|prefix| prefix.bytes).sum();
            if self.resumed > 0 {
                self.nodes.notify(Notice::Resumed(self.path.clone(), self.resumed));
            }
        }
        let come_whole = |chunk: ChunkId| come[chunk.index()].bytes == manifest.chunk(chunk).length;
        let present = |chunk: &ChunkId| come_whole(*chunk) || here.iter().any(|(c, _)| c == chunk);
        let wanted: ChunkSet = ChunkId::ALL.into_iter().filter(|chunk| !present(chunk)).collect();
        if !wanted.is_empty() {
            self.rounds += 1;
        }
        let mut job = self.job(look, version, manifest);
        if first {
            job.advance(self.resumed);
        }
        let bytes = here.iter().map(|(_, data)| data.len() as u64).sum();
        let fetched = match sink {
            Sink::File(file) => {
                let start = |chunk: ChunkId| chunk.range(manifest.size()).start;
                let pieces = here.into_iter().map(|(chunk, data)| (start(chunk), data));
                file.write_all(pieces.collect()).await?;
                job.advance(bytes);
                job.fetch_to_file(wanted, file, come).await
            }
            Sink::Stream(stream) if wanted.is_empty() && first => {
                job.advance(bytes);
                stream.write_whole(here.into_iter().map(|(_, data)| data).collect()).await
            }
            Sink::Stream(stream) => job.fetch_to_stream(here, stream).await,
        };
        (self.reached, self.broke) = (job.reached, job.sources.broke);
        fetched
    }
}
