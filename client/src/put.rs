//! PUT: scan the file, then carry the messages of [`protocol::put::Put`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, Manifest, UploadId, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::put::{Effect, Event, Outcome, Put};
use dfs_proto::tag::Tag;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::connect::Notice;
use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::random::random;
use crate::source::{Source, Sums, shown};
use crate::upload::{PASSES, Progress, Traffic, Upload};

/// How long an interrupted PUT waits for the Commits it has sent.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// What a PUT may be told beside the file.
#[derive(Clone, Default)]
pub struct PutOptions {
    /// Modification time to store; the file's own, or now, where absent.
    pub modified: Option<SystemTime>,
    /// Notes of the user, at most 16.
    pub metadata: BTreeMap<String, String>,
    /// Told how far it is.
    pub progress: Option<Arc<dyn Progress>>,
    /// Stops it: what was staged is dropped, what was committed is finished or unknown.
    pub cancel: CancellationToken,
}

/// What a PUT did.
#[derive(Debug, Clone)]
pub struct PutReport {
    /// The new version's place in the order of versions.
    pub tag: Tag,
    /// Length of the file in bytes.
    pub size: u64,
    /// Payload bytes sent to each node.
    pub per_node: PerNode<u64>,
    /// Rounds of messages it took.
    pub rounds: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// The content of a PUT.
pub(crate) enum Input<'a> {
    File(&'a Path),
    Bytes(Bytes),
    Stream(Box<dyn std::io::Read + Send>),
}

pub(crate) async fn put(
    nodes: &Arc<Nodes>,
    path: FilePath,
    input: Input<'_>,
    options: PutOptions,
) -> Result<PutReport, Error> {
    let started = Instant::now();
    let cancel = options.cancel.clone();
    let prepared = prepare(path, input, options);
    let upload = tokio::select! {
        upload = prepared => upload?,
        () = cancel.cancelled() => return Err(Error::Interrupted),
    };
    let upload = Arc::new(upload);
    let _turn = if upload.is_small() {
        None
    } else {
        tokio::select! {
            turn = nodes.large_turn() => turn,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        }
    };
    let mut report = Run::start(nodes.clone(), upload, started).drive(&cancel).await?;
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Pass one, on a blocking thread.
async fn prepare(path: FilePath, input: Input<'_>, options: PutOptions) -> Result<Upload, Error> {
    let local = match &input {
        Input::File(local) => Some((*local).to_owned()),
        Input::Bytes(_) | Input::Stream(_) => None,
    };
    let bytes = match input {
        Input::Bytes(bytes) => Ok(bytes),
        Input::File(_) => Err(None),
        Input::Stream(stream) => Err(Some(stream)),
    };
    let scan = move || -> Result<Upload, Error> {
        let (source, modified) = match (bytes, &local) {
            (Ok(bytes), _) => (Source::Bytes(bytes), SystemTime::now()),
            (Err(Some(stream)), _) => (Source::spool(stream)?, SystemTime::now()),
            (Err(None), Some(local)) => Source::open(local)?,
            (Err(None), None) => (Source::Bytes(Bytes::new()), SystemTime::now()),
        };
        let shown = shown(local.as_deref());
        let scanned = |bytes| {
            if let Some(progress) = &options.progress {
                progress.advance(bytes / PASSES);
            }
        };
        let (source, sums) = source.scan(&path, &shown, &scanned)?;
        let Sums { size, md5, crcs } = sums;
        let modified = rfc3339(options.modified.unwrap_or(modified));
        let manifest = Manifest::new(md5, size, crcs, modified, options.metadata)
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        Ok(Upload {
            path,
            id: UploadId::new(random()),
            manifest,
            source,
            sums: Arc::new(sums),
            traffic: Traffic::default(),
            progress: options.progress,
        })
    };
    tokio::task::spawn_blocking(scan).await.unwrap_or(Err(Error::Interrupted))
}

/// The time as it goes into a manifest.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// One PUT under way: the machine, its upload, and the messages that are open.
struct Run {
    nodes: Arc<Nodes>,
    upload: Arc<Upload>,
    machine: Put,
    open: FuturesUnordered<BoxFuture<'static, (Event, Option<NodeError>)>>,
    errors: Vec<NodeError>,
    started: Instant,
}

impl Run {
    fn start(nodes: Arc<Nodes>, upload: Arc<Upload>, started: Instant) -> Self {
        let (machine, effects) = Put::start(upload.manifest.x(), random());
        let open = FuturesUnordered::new();
        let mut run = Self { nodes, upload, machine, open, errors: Vec::new(), started };
        run.apply(effects);
        run
    }

    /// Carries messages until the machine has finished; what is open then goes on behind.
    async fn drive(mut self, cancel: &CancellationToken) -> Result<PutReport, Error> {
        let mut give_up: Option<tokio::time::Instant> = None;
        loop {
            let deadline = async {
                match give_up {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                Some((event, error)) = self.open.next() => {
                    if let Some(error) = error {
                        self.note(error);
                    }
                    if self.source_changed() { Event::Interrupted } else { event }
                }
                () = cancel.cancelled(), if give_up.is_none() => {
                    give_up = Some(tokio::time::Instant::now() + FINISH_LIMIT);
                    Event::Interrupted
                }
                () = deadline => Event::GiveUp,
            };
            let effects = self.machine.on(event, self.started.elapsed());
            if let Some(outcome) = self.apply(effects) {
                return self.finish(outcome);
            }
        }
    }

    fn note(&mut self, error: NodeError) {
        self.errors.retain(|old| old.node != error.node);
        self.errors.push(error);
    }

    fn source_changed(&self) -> bool {
        let local =
            |cause: &Cause| matches!(cause, Cause::SourceChanged | Cause::SourceUnreadable(_));
        !self.machine.commit_sent() && self.errors.iter().any(|error| local(&error.cause))
    }

    /// Does what the machine asks for; returns how it finished if it did.
    fn apply(&mut self, effects: Vec<Effect>) -> Option<Outcome> {
        let mut outcome = None;
        for effect in effects {
            match effect {
                Effect::Prepare(id, chunks) => self.open.push(self.prepare(id, chunks)),
                Effect::Commit(id, tag, sources) => {
                    let member = self.nodes.get(id).clone();
                    let (upload, version) = (self.upload.clone(), self.version(tag));
                    self.open.push(Box::pin(async move {
                        let (answer, error) =
                            member.commit(&upload.path, &version, false, &sources).await;
                        (Event::Commit(id, answer), error)
                    }));
                }
                Effect::Discard(id) => {
                    // Ends the streams of a large file first. What a lane still sends of a small
                    // one is refused by the fence.
                    self.open.clear();
                    let (member, upload) = (self.nodes.get(id).clone(), self.upload.clone());
                    self.nodes.background().spawn(async move {
                        member.discard(&upload.path, upload.id).await;
                    });
                }
                Effect::Confirm(id, tag) => {
                    let (member, upload) = (self.nodes.get(id).clone(), self.upload.clone());
                    self.nodes.background().spawn(async move {
                        member.confirm(&upload.path, tag).await;
                    });
                }
                Effect::ReportSkew(id, ms) => {
                    self.nodes.get(id).node().notify(Notice::Skew(id, ms));
                }
                Effect::Finish(end) => outcome = Some(end),
            }
        }
        outcome
    }

    fn prepare(
        &self,
        id: NodeId,
        chunks: ChunkSet,
    ) -> BoxFuture<'static, (Event, Option<NodeError>)> {
        let (member, upload) = (self.nodes.get(id).clone(), self.upload.clone());
        Box::pin(async move {
            match member.prepare(upload, chunks).await {
                Ok(prepared) => (Event::Prepared(id, chunks, prepared), None),
                Err(error) => (Event::PrepareFailed(id), Some(error)),
            }
        })
    }

    fn version(&self, tag: Tag) -> Version {
        let content = Content::File(self.upload.manifest.clone());
        Version { tag, upload: self.upload.id, content }
    }

    fn finish(mut self, outcome: Outcome) -> Result<PutReport, Error> {
        let nodes = std::mem::take(&mut self.errors);
        let path = self.upload.path.clone();
        let operation = Operation::Put;
        let changed = nodes.iter().any(|error| error.cause == Cause::SourceChanged);
        let unreadable = nodes.iter().find_map(|error| match &error.cause {
            Cause::SourceUnreadable(why) => Some(why.clone()),
            _ => None,
        });
        match outcome {
            Outcome::Stored(tag) => {
                let report = PutReport {
                    tag,
                    size: self.upload.sums.size,
                    per_node: self.upload.traffic.per_node(),
                    rounds: 2,
                    elapsed: Duration::ZERO,
                };
                let tracker = self.nodes.background().clone();
                tracker.spawn(self.finish_behind());
                Ok(report)
            }
            Outcome::Unknown => Err(Error::Unknown { operation, path, nodes }),
            _ if changed => Err(Error::Changed { path }),
            Outcome::Interrupted if unreadable.is_some() => {
                let source = std::io::Error::other(unreadable.unwrap_or_default());
                Err(Error::Local {
                    action: "read the file for",
                    path: path.as_str().into(),
                    source,
                })
            }
            Outcome::Interrupted => Err(Error::Interrupted),
            Outcome::Unavailable => Err(Error::Unavailable { operation, path: Some(path), nodes }),
            Outcome::Refused => Err(Error::Refused { operation, path, nodes }),
        }
    }

    /// The fourth Commit and the Confirms.
    async fn finish_behind(mut self) {
        while let Some((event, _)) = self.open.next().await {
            let effects = self.machine.on(event, self.started.elapsed());
            self.apply(effects);
        }
    }
}
