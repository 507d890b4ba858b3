//! Finding out which version of a path counts, with the write-back that may take.

use std::time::Duration;

use crate::chunk::ChunkSet;
use crate::manifest::{Incarnation, Record, Version};
use crate::placement::{NodeId, PerNode};
use crate::protocol::commit::CommitAnswer;
use crate::protocol::decide::{QUORUM, Verdict, View, decide, decide_without_write_back};
use crate::protocol::{NodeRef, Refused, T_OP};
use crate::tag::{Hlc, Tag, TagAnswer};

/// A Serving node's view of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// Its newest version; `None` where it has none.
    pub current: Option<Record>,
    /// Whether it knows that version to be on three nodes.
    pub confirmed: bool,
    /// Its clock.
    pub proposed: Hlc,
}

impl Reply {
    fn tag(&self) -> Option<Tag> {
        self.current.as_ref().map(|record| record.version.tag)
    }

    /// What a writer needs of this reply.
    pub fn tag_answer(&self) -> TagAnswer {
        TagAnswer { current: self.tag().map(|tag| tag.hlc), proposed: self.proposed }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A Serving node answered.
    Reply(NodeId, Box<Reply>),
    /// A node failed, or is rejoining.
    Failed(NodeId),
    /// A write-back was answered.
    WriteBack(NodeId, CommitAnswer),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask this node for the path.
    Ask(NodeId),
    /// Send this node an existing version, read from `source`.
    WriteBack {
        /// Whom to send it to.
        to: NodeId,
        /// The version.
        version: Version,
        /// Who has it.
        source: NodeRef,
    },
    /// Tell this node that the version is on three nodes. Best effort.
    Confirm(NodeId, Tag),
    /// It is decided.
    Finish(Outcome),
}

/// What counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Fewer than two nodes answered.
    Unavailable,
    /// This version; `None`: the path was never written.
    Decided {
        /// The version.
        version: Option<Version>,
        /// Three nodes could not be shown to have it.
        unconfirmed: bool,
    },
}

#[derive(Debug, Clone)]
enum Answer {
    Waiting,
    Out,
    Here(Box<Reply>),
}

/// How far the write-back to one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    No,
    Sent { source: NodeId },
    Acked,
    Failed,
}

/// One decision.
#[derive(Debug, Clone)]
pub struct Read {
    answers: PerNode<Answer>,
    first_reply: Option<Duration>,
    /// The version being written back.
    target: Option<Version>,
    written: PerNode<Written>,
    finished: bool,
}

impl Read {
    /// Starts by asking all four nodes.
    pub fn start() -> (Self, Vec<Effect>) {
        let read = Self {
            answers: [Answer::Waiting, Answer::Waiting, Answer::Waiting, Answer::Waiting],
            first_reply: None,
            target: None,
            written: [Written::No; 4],
            finished: false,
        };
        (read, NodeId::ALL.map(Effect::Ask).to_vec())
    }

    /// Takes an event; `now` is any monotonic clock. What a node says first counts.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Reply(id, reply) if self.waiting(id) => {
                self.answers[id.index()] = Answer::Here(reply);
                self.first_reply.get_or_insert(now);
            }
            Event::Failed(id) if self.waiting(id) => self.answers[id.index()] = Answer::Out,
            Event::WriteBack(id, answer) => self.on_write_back(id, answer),
            Event::Reply(..) | Event::Failed(_) => {}
        }
        if self.finished {
            return Vec::new();
        }
        self.look(now)
    }

    /// The replies so far.
    pub fn replies(&self) -> PerNode<Option<&Reply>> {
        NodeId::ALL.map(|id| match &self.answers[id.index()] {
            Answer::Here(reply) => Some(&**reply),
            Answer::Waiting | Answer::Out => None,
        })
    }

    /// Nodes that may still answer.
    pub fn waiting(&self, id: NodeId) -> bool {
        matches!(self.answers[id.index()], Answer::Waiting)
    }

    /// The chunks of `version` that each node said it holds; `None` where it did not answer.
    pub fn have(&self, version: &Version) -> PerNode<Option<ChunkSet>> {
        self.replies().map(|reply| {
            let record = reply?.current.as_ref();
            let same = record.filter(|record| record.version.upload == version.upload);
            Some(same.map_or(ChunkSet::EMPTY, |record| record.have))
        })
    }

    fn views(&self) -> PerNode<View> {
        NodeId::ALL.map(|id| match &self.answers[id.index()] {
            Answer::Waiting => View::Waiting,
            Answer::Out => View::Out,
            Answer::Here(reply) => View::Here { tag: reply.tag(), confirmed: reply.confirmed },
        })
    }

    fn look(&mut self, now: Duration) -> Vec<Effect> {
        let spread = self.target.clone().filter(|target| {
            let nodes = self.count(|id| self.reached(id, target.tag));
            nodes >= QUORUM
        });
        let verdict = decide(&self.views());
        let decided = spread.is_some() || !matches!(verdict, Verdict::Wait | Verdict::Unavailable);
        if decided && self.late(now) {
            return self.ask_again();
        }
        if let Some(version) = spread {
            return self.confirm(version);
        }
        match verdict {
            Verdict::Wait => Vec::new(),
            Verdict::Unavailable => self.finish(Outcome::Unavailable),
            Verdict::Decided { holder, unconfirmed, .. } => self.decided(holder, unconfirmed),
            Verdict::WriteBack { tag, holder } => self.write_back(tag, holder),
        }
    }

    fn late(&self, now: Duration) -> bool {
        self.first_reply.is_some_and(|first| now.saturating_sub(first) > T_OP)
    }

    /// Starts again, but not while an answer is due that could be taken for a later one.
    fn ask_again(&mut self) -> Vec<Effect> {
        if self.sending() {
            return Vec::new();
        }
        let (read, effects) = Self::start();
        *self = read;
        effects
    }

    fn count(&self, wanted: impl Fn(NodeId) -> bool) -> usize {
        NodeId::ALL.into_iter().filter(|id| wanted(*id)).count()
    }

    fn version(&self, id: NodeId) -> Option<&Version> {
        let reply = self.replies()[id.index()]?;
        reply.current.as_ref().map(|record| &record.version)
    }

    /// Whether a node is known to have `tag`, the one being written back, or a larger one.
    fn reached(&self, id: NodeId, tag: Tag) -> bool {
        let has = |version: &Version| version.tag >= tag;
        self.written[id.index()] == Written::Acked || self.version(id).is_some_and(has)
    }

    /// Whether the answer to a write-back is due.
    fn sending(&self) -> bool {
        let sent = |written: &Written| matches!(written, Written::Sent { .. });
        self.written.iter().any(sent)
    }

    /// Writes back to all that answered without the version. Where three nodes cannot be
    /// reached, waits for what may still be said, then decides without.
    fn write_back(&mut self, tag: Tag, holder: NodeId) -> Vec<Effect> {
        if self.target.as_ref().map(|target| target.tag) != Some(tag) {
            if self.sending() {
                return Vec::new();
            }
            self.target = self.version(holder).cloned();
            self.written = [Written::No; 4];
        }
        let effects: Vec<Effect> =
            NodeId::ALL.into_iter().filter_map(|to| self.write_back_to(to, tag, holder)).collect();
        let sent = |id: NodeId| matches!(self.written[id.index()], Written::Sent { .. });
        let possible = self.count(|id| self.reached(id, tag) || sent(id)) >= QUORUM;
        if possible || NodeId::ALL.into_iter().any(|id| self.waiting(id)) {
            return effects;
        }
        match decide_without_write_back(&self.views()) {
            Verdict::Decided { holder, unconfirmed, .. } => self.decided(holder, unconfirmed),
            Verdict::Wait | Verdict::Unavailable | Verdict::WriteBack { .. } => Vec::new(),
        }
    }

    fn write_back_to(&mut self, to: NodeId, tag: Tag, holder: NodeId) -> Option<Effect> {
        let answered = self.replies()[to.index()].is_some();
        if !answered || self.reached(to, tag) || self.written[to.index()] != Written::No {
            return None;
        }
        let source =
            NodeRef { node: holder, incarnation: self.replies()[holder.index()]?.incarnation };
        let version = self.target.clone()?;
        self.written[to.index()] = Written::Sent { source: holder };
        Some(Effect::WriteBack { to, version, source })
    }

    fn on_write_back(&mut self, id: NodeId, answer: CommitAnswer) {
        let Written::Sent { source } = self.written[id.index()] else {
            return;
        };
        self.written[id.index()] = match answer {
            CommitAnswer::Acked => Written::Acked,
            CommitAnswer::Refused(Refused::PrepareLost(lost)) if lost.node == source => {
                // The reply of the lost disk does not count; another node may have the version.
                self.answers[source.index()] = Answer::Out;
                Written::No
            }
            CommitAnswer::Refused(_) | CommitAnswer::NoAnswer | CommitAnswer::NotSent => {
                Written::Failed
            }
        };
    }

    /// Three nodes have what was written back.
    fn confirm(&mut self, version: Version) -> Vec<Effect> {
        let tag = version.tag;
        let mut effects: Vec<Effect> = NodeId::ALL
            .into_iter()
            .filter(|id| self.reached(*id, tag))
            .map(|id| Effect::Confirm(id, tag))
            .collect();
        effects
            .extend(self.finish(Outcome::Decided { version: Some(version), unconfirmed: false }));
        effects
    }

    fn decided(&mut self, holder: NodeId, unconfirmed: bool) -> Vec<Effect> {
        let version = self.version(holder).cloned();
        self.finish(Outcome::Decided { version, unconfirmed })
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.finished = true;
        vec![Effect::Finish(outcome)]
    }
}

#[cfg(test)]
mod tests;
