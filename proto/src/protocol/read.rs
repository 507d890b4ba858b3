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
        TagAnswer {
            current: self.tag().map(|tag| tag.hlc),
            proposed: self.proposed,
        }
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
    Here(Reply),
}

#[derive(Debug, Clone)]
enum Phase {
    Asking,
    WritingBack {
        tag: Tag,
        holder: NodeId,
        pending: Vec<NodeId>,
        done: Vec<NodeId>,
    },
    Finished,
}

/// One decision.
#[derive(Debug, Clone)]
pub struct Read {
    answers: PerNode<Answer>,
    first_reply: Option<Duration>,
    phase: Phase,
    write_back: bool,
}

impl Read {
    /// Starts by asking all four nodes.
    pub fn start() -> (Self, Vec<Effect>) {
        let read = Self {
            answers: [
                Answer::Waiting,
                Answer::Waiting,
                Answer::Waiting,
                Answer::Waiting,
            ],
            first_reply: None,
            phase: Phase::Asking,
            write_back: true,
        };
        (read, NodeId::ALL.map(Effect::Ask).to_vec())
    }

    /// Takes an event; `now` is any monotonic clock.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Reply(id, reply) => {
                self.answers[id.index()] = Answer::Here(*reply);
                self.first_reply.get_or_insert(now);
            }
            Event::Failed(id) => self.answers[id.index()] = Answer::Out,
            Event::WriteBack(id, answer) => return self.on_write_back(id, answer, now),
        }
        match self.phase {
            Phase::Asking => self.look(now),
            Phase::WritingBack { .. } | Phase::Finished => Vec::new(),
        }
    }

    /// The replies so far.
    pub fn replies(&self) -> PerNode<Option<&Reply>> {
        NodeId::ALL.map(|id| match &self.answers[id.index()] {
            Answer::Here(reply) => Some(reply),
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
            Answer::Here(reply) => View::Here {
                tag: reply.tag(),
                confirmed: reply.confirmed,
            },
        })
    }

    fn look(&mut self, now: Duration) -> Vec<Effect> {
        let decide = if self.write_back {
            decide
        } else {
            decide_without_write_back
        };
        match decide(&self.views()) {
            Verdict::Wait => Vec::new(),
            Verdict::Unavailable => self.finish(Outcome::Unavailable),
            _ if self.late(now) => self.ask_again(),
            Verdict::Decided {
                holder,
                unconfirmed,
                ..
            } => {
                let version = self.version(holder).cloned();
                self.finish(Outcome::Decided {
                    version,
                    unconfirmed,
                })
            }
            Verdict::WriteBack { tag, holder } => self.write_back(tag, holder),
        }
    }

    fn late(&self, now: Duration) -> bool {
        self.first_reply
            .is_some_and(|first| now.saturating_sub(first) > T_OP)
    }

    fn ask_again(&mut self) -> Vec<Effect> {
        let (read, effects) = Self::start();
        *self = read;
        effects
    }

    fn version(&self, id: NodeId) -> Option<&Version> {
        let reply = self.replies()[id.index()]?;
        reply.current.as_ref().map(|record| &record.version)
    }

    fn write_back(&mut self, tag: Tag, holder: NodeId) -> Vec<Effect> {
        let (Some(version), Some(source)) = (self.version(holder).cloned(), self.source(holder))
        else {
            return Vec::new();
        };
        let has = |id: &NodeId| self.version(*id).is_some_and(|version| version.tag == tag);
        let answered = |id: &NodeId| self.replies()[id.index()].is_some();
        let done: Vec<NodeId> = NodeId::ALL.into_iter().filter(has).collect();
        let pending: Vec<NodeId> = NodeId::ALL
            .into_iter()
            .filter(|id| answered(id) && !has(id))
            .collect();
        let effects = pending
            .iter()
            .map(|to| Effect::WriteBack {
                to: *to,
                version: version.clone(),
                source,
            })
            .collect();
        self.phase = Phase::WritingBack {
            tag,
            holder,
            pending,
            done,
        };
        effects
    }

    fn source(&self, id: NodeId) -> Option<NodeRef> {
        let incarnation = self.replies()[id.index()]?.incarnation;
        Some(NodeRef {
            node: id,
            incarnation,
        })
    }

    fn on_write_back(&mut self, id: NodeId, answer: CommitAnswer, now: Duration) -> Vec<Effect> {
        let Phase::WritingBack {
            tag,
            holder,
            pending,
            done,
        } = &mut self.phase
        else {
            return Vec::new();
        };
        let (tag, holder) = (*tag, *holder);
        pending.retain(|other| *other != id);
        match answer {
            CommitAnswer::Acked => done.push(id),
            CommitAnswer::Refused(Refused::PrepareLost(lost)) => {
                // The reply of the lost disk does not count; decide without it.
                self.answers[lost.node.index()] = Answer::Out;
                self.phase = Phase::Asking;
                return self.look(now);
            }
            CommitAnswer::Refused(_) | CommitAnswer::NoAnswer | CommitAnswer::NotSent => {}
        }
        if done.len() >= QUORUM {
            let nodes = std::mem::take(done);
            if self.late(now) {
                return self.ask_again();
            }
            let version = self.version(holder).cloned();
            let mut effects: Vec<Effect> = nodes
                .into_iter()
                .map(|node| Effect::Confirm(node, tag))
                .collect();
            effects.extend(self.finish(Outcome::Decided {
                version,
                unconfirmed: false,
            }));
            return effects;
        }
        if done.len() + pending.len() < QUORUM {
            self.write_back = false;
            self.phase = Phase::Asking;
            return self.look(now);
        }
        Vec::new()
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.phase = Phase::Finished;
        vec![Effect::Finish(outcome)]
    }
}

#[cfg(test)]
mod tests;
