//! PUT: scan the file, then carry the messages of [`protocol::put::Put`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkSet};
use dfs_proto::digest::Md5Digest;
use dfs_proto::manifest::{Content, EXPIRES, Manifest, UploadId, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::{Effect, Event, Outcome, Put};
use dfs_proto::tag::Tag;
use dfs_proto::wire::status::Reason;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connect::Notice;
use crate::drive::{Drive, Open, drive, finish_behind};
use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::note::{Before, Note, Subject};
use crate::random::random;
use crate::source::{Source, Sums, shown};
use crate::stop::Stopped;
use crate::trace::carried;
use crate::upload::{Known, PASSES, Progress, Traffic, Upload, query};

/// A chunk of a file of up to this length is one block: there is nothing to go on with, in bytes.
const RESUME_BYTES: u64 = 4 * BLOCK_BYTES;

/// What is in memory and up to this long is summed up where it is, in bytes: that takes 0.1 ms.
const SHORT_BYTES: usize = 64 << 10;

/// What a PUT may be told beside the file.
#[derive(Clone, Default)]
pub struct PutOptions {
    /// Modification time to store; the file's own, or now, where absent.
    pub modified: Option<SystemTime>,
    /// Notes of the user, at most 16.
    pub metadata: BTreeMap<String, String>,
    /// When the nodes shall remove the file, by their clocks and with the next pass of their
    /// healing (`heal_every`, usually 10 minutes). It is one of the notes, [`EXPIRES`].
    pub expires: Option<SystemTime>,
    /// Told how far it is.
    pub progress: Option<Arc<dyn Progress>>,
    /// A folder for a note about the PUT of a local file of more than 4 MiB. With it a PUT that
    /// fails or is stopped before its end leaves what it has sent on the nodes, for a day, and a
    /// PUT of the same content from the same file to the same path goes on.
    pub resume: Option<PathBuf>,
    /// Stops it: what was staged is dropped or kept, what was committed is finished or unknown.
    pub cancel: CancellationToken,
}

/// What a PUT did.
#[derive(Debug, Clone)]
pub struct PutReport {
    /// The new version's place in the order of versions.
    pub tag: Tag,
    /// Length of the file in bytes.
    pub size: u64,
    /// The MD5 of its content.
    pub md5: Md5Digest,
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
    let subject = match (&options.resume, &input) {
        (Some(folder), Input::File(local)) => {
            let (cluster, user) = nodes.owner();
            let subject = Subject::new(cluster, user, &path, local);
            Some((folder.clone(), subject.map_err(Error::local("find", *local))?))
        }
        _ => None,
    };
    let prepared = async {
        let mut upload = prepare(nodes, path, input, options).await?;
        let note = match subject {
            Some((folder, subject)) if upload.sums.size > RESUME_BYTES => {
                go_on(nodes, &mut upload, &folder, subject).await?
            }
            _ => None,
        };
        Ok::<_, Error>((upload, note))
    };
    let (upload, note) = tokio::select! {
        prepared = prepared => prepared?,
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
    let mut run = Run::start(nodes.clone(), upload, note, started);
    let outcome = drive(&mut run, &cancel).await;
    let mut report = run.finish(outcome)?;
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Looks for what an earlier run has left of the same PUT and notes this one. Without a note it
/// is a PUT like any other: another one of the same is under way.
async fn go_on(
    nodes: &Arc<Nodes>,
    upload: &mut Upload,
    folder: &Path,
    subject: Subject,
) -> Result<Option<Note>, Error> {
    let failed = || Error::local("keep a note in", folder);
    let Some(mut note) = Note::open(folder, subject).map_err(failed())? else {
        return Ok(None);
    };
    let fresh = upload.id;
    match note.read(&upload.manifest).map_err(failed())? {
        Before::Nothing => {}
        Before::Other(old) => discard(nodes, &upload.path, old),
        Before::Same(old) => {
            upload.id = old;
            let asked = NodeId::ALL.map(|id| query(nodes.get(id).node(), upload));
            let closed = |known: &Result<Known, NodeError>| matches!(known, Ok(k) if k.closed);
            if join_all(asked).await.iter().any(closed) {
                upload.id = fresh;
            } else {
                upload.resumed = true;
                nodes.notify(Notice::GoesOn(upload.path.clone()));
            }
        }
    }
    if !upload.resumed {
        note.write(upload.id, &upload.manifest).map_err(failed())?;
    }
    Ok(Some(note))
}

/// Drops what an upload has left that will not be gone on with. No Commit of it was sent.
fn discard(nodes: &Arc<Nodes>, path: &FilePath, upload: UploadId) {
    for id in NodeId::ALL {
        let (member, path) = (nodes.get(id).clone(), path.clone());
        nodes.background().spawn(carried(async move { member.discard(&path, upload).await }));
    }
}

/// Pass one, on a blocking thread: one of a few, but for a stream, which may take its time. What is
/// short and in memory takes less than it would to hand it over.
async fn prepare(
    nodes: &Nodes,
    path: FilePath,
    input: Input<'_>,
    options: PutOptions,
) -> Result<Upload, Error> {
    let short = matches!(&input, Input::Bytes(bytes) if bytes.len() <= SHORT_BYTES);
    let _turn = match &input {
        Input::Stream(_) => None,
        Input::Bytes(_) if short => None,
        Input::File(_) | Input::Bytes(_) => nodes.scan_turn().await,
    };
    let local = match &input {
        Input::File(local) => Some((*local).to_owned()),
        Input::Bytes(_) | Input::Stream(_) => None,
    };
    let bytes = match input {
        Input::Bytes(bytes) => Ok(bytes),
        Input::File(_) => Err(None),
        Input::Stream(stream) => Err(Some(stream)),
    };
    let id = nodes.next_upload();
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
        let Sums { size, md5, crcs, .. } = sums;
        let modified = rfc3339(options.modified.unwrap_or(modified));
        let mut notes = options.metadata;
        notes.extend(options.expires.map(|end| (EXPIRES.to_owned(), rfc3339(end))));
        let manifest = Manifest::new(md5, size, crcs, modified, notes)
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        Ok(Upload {
            path,
            id,
            manifest,
            source,
            sums: Arc::new(sums),
            resumed: false,
            traffic: Traffic::default(),
            progress: options.progress,
        })
    };
    if short {
        scan()
    } else {
        tokio::task::spawn_blocking(scan).await.unwrap_or(Err(Error::Interrupted))
    }
}

/// The time as it goes into a manifest.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Whether the local file is to blame.
fn is_local(errors: &[NodeError]) -> bool {
    let local = |cause: &Cause| matches!(cause, Cause::SourceChanged | Cause::SourceUnreadable(_));
    errors.iter().any(|error| local(&error.cause))
}

/// Whether the user's quota is to blame.
fn is_quota(error: &NodeError) -> bool {
    matches!(error.cause, Cause::Refused { reason: Some(Reason::QuotaExceeded), .. })
}

/// One PUT under way: the machine, its upload, and the messages that are open.
struct Run {
    nodes: Arc<Nodes>,
    upload: Arc<Upload>,
    /// Until the first Commit.
    note: Option<Note>,
    /// Why the note could not be removed, so that nothing may be committed.
    stuck: Option<std::io::Error>,
    machine: Put,
    open: Open<Event>,
    errors: Vec<NodeError>,
    started: Instant,
}

impl Run {
    fn start(nodes: Arc<Nodes>, upload: Arc<Upload>, note: Option<Note>, started: Instant) -> Self {
        let (machine, effects) = Put::start(upload.manifest.x(), random());
        let open = Open::new();
        let errors = Vec::new();
        let mut run = Self { nodes, upload, note, stuck: None, machine, open, errors, started };
        run.apply(effects);
        run
    }

    fn note(&mut self, error: NodeError) {
        self.errors.retain(|old| old.node != error.node);
        self.errors.push(error);
    }

    fn source_changed(&self) -> bool {
        !self.machine.commit_sent() && is_local(&self.errors)
    }

    /// Does what the machine asks for; returns how it finished if it did.
    fn apply(&mut self, effects: Vec<Effect>) -> Option<Outcome> {
        let mut outcome = None;
        for effect in effects {
            match effect {
                Effect::Prepare(id, chunks) => self.open.push(self.prepare(id, chunks)),
                Effect::Commit(id, ..) if !self.forget_note() => {
                    self.open.push(Box::pin(std::future::ready((
                        Event::Commit(id, CommitAnswer::NotSent),
                        None,
                    ))));
                }
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
                    if self.note.is_some() && !self.source_changed() {
                        continue;
                    }
                    let (member, upload) = (self.nodes.get(id).clone(), self.upload.clone());
                    self.nodes.background().spawn(carried(async move {
                        member.discard(&upload.path, upload.id).await;
                    }));
                }
                Effect::Confirm(id, tag) => {
                    let (member, upload) = (self.nodes.get(id).clone(), self.upload.clone());
                    self.nodes.background().spawn(carried(async move {
                        member.confirm(&upload.path, tag).await;
                    }));
                }
                Effect::ReportSkew(id, ms) => {
                    self.nodes.get(id).node().notify(Notice::Skew(id, ms));
                }
                Effect::Finish(end) => outcome = Some(end),
            }
        }
        outcome
    }

    /// Before a Commit: an upload that may have been committed must not be found again. Whether
    /// that is certain. Takes one sync of a short file, once.
    fn forget_note(&mut self) -> bool {
        if let Some(note) = self.note.take()
            && let Err(error) = note.remove()
        {
            self.stuck = Some(error);
        }
        self.stuck.is_none()
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
                Err(error) if is_quota(&error) => (Event::PrepareRefused(id), Some(error)),
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
        if let Some(source) = self.stuck.take() {
            return Err(Error::Local {
                action: "remove the note about",
                path: path.as_str().into(),
                source,
            });
        }
        if let Some(note) = &self.note {
            if is_local(&nodes) {
                // What it told of is dropped; a note that stays fits nothing.
                let _ = note.remove();
            } else {
                self.nodes.notify(Notice::Staged(path.clone()));
            }
        }
        let unreadable = nodes.iter().find_map(|error| match &error.cause {
            Cause::SourceUnreadable(why) => Some(why.clone()),
            _ => None,
        });
        match outcome {
            Outcome::Stored(tag) => {
                let report = PutReport {
                    tag,
                    size: self.upload.sums.size,
                    md5: self.upload.sums.md5,
                    per_node: self.upload.traffic.per_node(),
                    rounds: 2,
                    elapsed: Duration::ZERO,
                };
                let tracker = self.nodes.background().clone();
                tracker.spawn(carried(finish_behind(self)));
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
            Outcome::Unavailable => Err(Error::unavailable(operation, Some(path), nodes)),
            Outcome::Refused => match nodes.iter().find(|error| is_quota(error)) {
                Some(node) => Err(Error::Quota { path, node: node.clone() }),
                None => Err(Error::Refused { operation, path, nodes }),
            },
        }
    }
}

impl Drive for Run {
    type Event = Event;
    type Outcome = Outcome;

    fn open(&mut self) -> &mut Open<Event> {
        &mut self.open
    }

    fn on(&mut self, event: Event, error: Option<NodeError>) -> Option<Outcome> {
        let failed = error.map(|error| self.note(error)).is_some();
        let event = if failed && self.source_changed() { Event::Interrupted } else { event };
        let effects = self.machine.on(event, self.started.elapsed());
        self.apply(effects)
    }
}

impl From<Stopped> for Event {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Interrupted => Self::Interrupted,
            Stopped::GiveUp => Self::GiveUp,
        }
    }
}
