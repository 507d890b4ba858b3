//! DELETE of one path: decide what is there as a read does, then commit a tombstone.
//!
//! An absent path is answered with "not found" and nothing is written. A tombstone needs
//! three answers before it is sent, so that with fewer nodes nothing happens at all.

use std::time::Duration;

use crate::manifest::{Content, UploadId, Version};
use crate::placement::NodeId;
use crate::protocol::commit::{CommitAnswer, CommitRound, End, Next};
use crate::protocol::decide::QUORUM;
use crate::protocol::read::{self, Read};
use crate::tag::{Tag, TagAnswer, choose_hlc};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something about the read that comes first.
    Read(read::Event),
    /// A Commit of the tombstone was answered.
    Commit(NodeId, CommitAnswer),
    /// The user wants to stop.
    Interrupted,
    /// An interrupted removal has waited long enough for its Commit.
    GiveUp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something for the read that comes first; never its `Finish`.
    Read(read::Effect),
    /// Send this tombstone to this node.
    Commit(NodeId, Version),
    /// Tell this node that the tombstone is on three nodes. Best effort.
    Confirm(NodeId, Tag),
    /// The removal is over. After `Removed` the fourth Commit may be sent again and Confirms
    /// follow.
    Finish(Outcome),
}

/// How a removal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Removed, durably on three nodes.
    Removed,
    /// There was nothing to remove.
    NotFound,
    /// Too few nodes; nothing happened.
    Unavailable,
    /// Refused by all nodes; nothing happened.
    Refused,
    /// Stopped by the user; nothing happened.
    Interrupted,
    /// It may take effect or not.
    Unknown,
}

/// One removal.
#[derive(Debug, Clone)]
pub struct Remove {
    upload: UploadId,
    writer: [u8; 16],
    read: Read,
    found: bool,
    round: Option<(CommitRound, Version)>,
    finished: bool,
}

impl Remove {
    /// Starts a removal; `upload` and `writer` are random.
    pub fn start(upload: UploadId, writer: [u8; 16]) -> (Self, Vec<Effect>) {
        let (read, effects) = Read::start();
        let remove = Self { upload, writer, read, found: false, round: None, finished: false };
        (remove, effects.into_iter().map(Effect::Read).collect())
    }

    /// Takes an event; `now` is any monotonic clock.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Commit(id, answer) => self.on_commit(id, answer, now, &mut effects),
            _ if self.finished => {}
            Event::Read(event) => {
                for effect in self.read.on(event, now) {
                    match effect {
                        read::Effect::Finish(outcome) => self.on_decision(outcome, &mut effects),
                        other => effects.push(Effect::Read(other)),
                    }
                }
                self.try_commit(now, &mut effects);
            }
            Event::Interrupted if self.round.is_none() => {
                self.finish(Outcome::Interrupted, &mut effects);
            }
            Event::Interrupted => {}
            Event::GiveUp => {
                if let Some((round, _)) = &mut self.round {
                    let end = round.give_up();
                    self.end(end, &mut effects);
                }
            }
        }
        effects
    }

    /// Whether a Commit has been sent.
    pub fn commit_sent(&self) -> bool {
        self.round.is_some()
    }

    fn on_decision(&mut self, outcome: read::Outcome, effects: &mut Vec<Effect>) {
        match outcome {
            read::Outcome::Unavailable => self.finish(Outcome::Unavailable, effects),
            read::Outcome::Decided { version, unconfirmed } => {
                let file = version.is_some_and(|version| version.manifest().is_some());
                if file || unconfirmed {
                    self.found = true;
                } else {
                    self.finish(Outcome::NotFound, effects);
                }
            }
        }
    }

    /// Sends the tombstone once three nodes have answered.
    fn try_commit(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.found || self.finished || self.round.is_some() {
            return;
        }
        let answers: Vec<TagAnswer> =
            self.read.replies().into_iter().flatten().map(|reply| reply.tag_answer()).collect();
        let waiting = NodeId::ALL.into_iter().filter(|id| self.read.waiting(*id)).count();
        if answers.len() < QUORUM {
            if answers.len() + waiting < QUORUM {
                self.finish(Outcome::Unavailable, effects);
            }
            return;
        }
        let Some(hlc) = choose_hlc(&answers) else {
            return self.finish(Outcome::Refused, effects);
        };
        let taking = answers.iter().filter(|answer| !hlc.is_future(answer.proposed.ms())).count();
        if taking < QUORUM {
            if taking + waiting < QUORUM {
                self.finish(Outcome::Unavailable, effects);
            }
            return;
        }
        let tag = Tag { hlc, writer: self.writer };
        let version = Version { tag, upload: self.upload, content: Content::Tombstone };
        effects.extend(NodeId::ALL.map(|id| Effect::Commit(id, version.clone())));
        self.round = Some((CommitRound::start(now), version));
    }

    fn on_commit(
        &mut self,
        id: NodeId,
        answer: CommitAnswer,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some((round, version)) = &mut self.round else {
            return;
        };
        let before = round.acked(id);
        match round.answer(id, answer, now) {
            Next::Wait if round.done() && !before && round.acked(id) => {
                effects.push(Effect::Confirm(id, version.tag));
            }
            Next::Wait => {}
            Next::Again(id) => effects.push(Effect::Commit(id, version.clone())),
            // A tombstone rests on no prepared data, so nothing of it can be lost.
            Next::Lost(_) => {
                if let Next::Ended(end) = round.abandon_waiting(now) {
                    self.end(end, effects);
                }
            }
            Next::Ended(end) => self.end(end, effects),
        }
    }

    fn end(&mut self, end: End, effects: &mut Vec<Effect>) {
        let Some((round, version)) = &self.round else {
            return;
        };
        match end {
            End::Done => {
                let tag = version.tag;
                let acked: Vec<NodeId> =
                    NodeId::ALL.into_iter().filter(|id| round.acked(*id)).collect();
                self.finish(Outcome::Removed, effects);
                effects.extend(acked.into_iter().map(|id| Effect::Confirm(id, tag)));
            }
            End::Refused => self.finish(Outcome::Refused, effects),
            End::Unknown => self.finish(Outcome::Unknown, effects),
        }
    }

    fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.finished, true) {
            effects.push(Effect::Finish(outcome));
        }
    }
}

#[cfg(test)]
mod tests;
