//! A PUT under way: carries the messages of [`Put`].

use std::sync::Arc;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, Version};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::{Effect, Event, Outcome, Put};
use dfs_proto::tag::Tag;
use dfs_proto::wire::status::Reason;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::PutReport;
use crate::connect::Notice;
use crate::drive::{Drive, Open, finish_behind};
use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::note::Note;
use crate::random::random;
use crate::stop::Stopped;
use crate::trace::carried;
use crate::upload::Upload;

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
pub(super) struct Run {
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
    pub(super) fn start(
        nodes: Arc<Nodes>,
        upload: Arc<Upload>,
        note: Option<Note>,
        started: Instant,
    ) -> Self {
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
                    let (path, version) = (self.upload.path.clone(), self.version(tag));
                    self.open.push(Box::pin(async move {
                        let (answer, error) = member.commit(&path, &version, false, &sources).await;
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
                    let (member, path) = (self.nodes.get(id).clone(), self.upload.path.clone());
                    let upload = self.upload.id;
                    self.nodes.background().spawn(carried(async move {
                        member.discard(&path, upload).await;
                    }));
                }
                Effect::Confirm(id, tag) => {
                    let (member, path) = (self.nodes.get(id).clone(), self.upload.path.clone());
                    self.nodes
                        .background()
                        .spawn(carried(async move { member.confirm(&path, tag).await }));
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

    pub(super) fn finish(mut self, outcome: Outcome) -> Result<PutReport, Error> {
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
