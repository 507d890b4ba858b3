//! PUT of one file, as its client sees it.
//!
//! Prepare: every chunk to its two home nodes; where one node fails, its chunks to the
//! opposite node as well. With three nodes prepared and every chunk on two of them, choose a
//! tag from their answers and run the commit round. A node that turns out to have lost its
//! disk meanwhile is prepared again, under the same tag.

use std::time::Duration;

use crate::chunk::ChunkSet;
use crate::digest::Residue;
use crate::manifest::Incarnation;
use crate::placement::{NodeId, PerNode, home_chunks};
use crate::protocol::NodeRef;
use crate::protocol::commit::{CommitAnswer, CommitRound, End, Next};
use crate::tag::{REPORTED_SKEW_MS, Tag, TagAnswer, choose_hlc};

/// How often prepared data may be lost to a replaced disk before the PUT gives up.
const MAX_LOST_PREPARES: u8 = 4;

/// What a node says when the chunks sent to it are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The life of its disk that the data is on.
    pub incarnation: Incarnation,
    /// The newest tag of the path there, and its clock.
    pub tag: TagAnswer,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// These chunks are durable on this node.
    Prepared(NodeId, ChunkSet, Prepared),
    /// This node cannot take them.
    PrepareFailed(NodeId),
    /// This node will not take them, for a reason that holds for its opposite as well: a quota.
    PrepareRefused(NodeId),
    /// A Commit was answered.
    Commit(NodeId, CommitAnswer),
    /// The user wants to stop.
    Interrupted,
    /// An interrupted PUT has waited long enough for its Commit.
    GiveUp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send these chunks to this node.
    Prepare(NodeId, ChunkSet),
    /// Send the Commit to this node, resting on these nodes.
    Commit(NodeId, Tag, Vec<NodeRef>),
    /// Fence the upload on this node, then drop what it holds of it. Best effort.
    Discard(NodeId),
    /// Tell this node that the version is on three nodes. Best effort.
    Confirm(NodeId, Tag),
    /// This node's clock is this many milliseconds off the others'.
    ReportSkew(NodeId, u64),
    /// The PUT is over. After `Stored` the fourth Commit may be sent again and Confirms follow.
    Finish(Outcome),
}

/// How a PUT ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored: durable on three nodes, every chunk on two disks.
    Stored(Tag),
    /// Too few nodes; nothing happened.
    Unavailable,
    /// Refused by all nodes, or by one for a quota; nothing happened.
    Refused,
    /// Stopped by the user; nothing happened.
    Interrupted,
    /// It may take effect, whole, or not.
    Unknown,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// Chunks it shall hold.
    assigned: ChunkSet,
    /// Chunks it says it holds, durably.
    prepared: ChunkSet,
    /// Chunks on their way to it.
    sending: ChunkSet,
    /// Its latest answer and when it came.
    answer: Option<(Prepared, Duration)>,
    failed: bool,
}

/// One PUT.
#[derive(Debug, Clone)]
pub struct Put {
    x: Residue,
    writer: [u8; 16],
    nodes: PerNode<Node>,
    tag: Option<Tag>,
    /// What the Commits rest on that were sent last; every chunk was on two disks then.
    sources: Vec<NodeRef>,
    round: Option<CommitRound>,
    lost: u8,
    finished: bool,
}

impl Put {
    /// Starts a PUT of a file with residue `x`; `writer` is random.
    pub fn start(x: Residue, writer: [u8; 16]) -> (Self, Vec<Effect>) {
        let mut put = Self {
            x,
            writer,
            nodes: [Node::default(); 4],
            tag: None,
            sources: Vec::new(),
            round: None,
            lost: 0,
            finished: false,
        };
        let effects = NodeId::ALL
            .into_iter()
            .filter_map(|node| put.assign(node, home_chunks(x, node)))
            .collect();
        (put, effects)
    }

    /// Takes an event; `now` is any monotonic clock.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Commit(id, answer) => self.on_commit(id, answer, now, &mut effects),
            _ if self.finished => {}
            Event::Prepared(id, chunks, prepared) => {
                self.on_prepared(id, chunks, prepared, now, &mut effects);
                self.advance(now, &mut effects);
            }
            Event::PrepareRefused(_) if self.round.is_none() => {
                self.abort(Outcome::Refused, &mut effects);
            }
            Event::PrepareFailed(id) | Event::PrepareRefused(id) => {
                self.nodes[id.index()].sending = ChunkSet::EMPTY;
                self.fail(id, &mut effects);
                self.advance(now, &mut effects);
            }
            Event::Interrupted if self.round.is_none() => {
                self.abort(Outcome::Interrupted, &mut effects);
            }
            Event::Interrupted => {}
            Event::GiveUp => {
                if let Some(round) = &mut self.round {
                    let end = round.give_up();
                    self.end(end, &mut effects);
                }
            }
        }
        effects
    }

    /// Whether a Commit has been sent, so that nothing may be discarded any more.
    pub fn commit_sent(&self) -> bool {
        self.round.is_some()
    }

    /// The chunks still on their way to a node.
    pub fn sending(&self, node: NodeId) -> ChunkSet {
        self.nodes[node.index()].sending
    }

    fn assign(&mut self, id: NodeId, chunks: ChunkSet) -> Option<Effect> {
        let node = &mut self.nodes[id.index()];
        node.assigned = node.assigned.union(chunks);
        let missing = node.assigned.minus(node.prepared).minus(node.sending);
        if missing.is_empty() {
            return None;
        }
        node.sending = node.sending.union(missing);
        Some(Effect::Prepare(id, missing))
    }

    /// An answer from another life of the node's disk means that what it held before is gone.
    fn on_prepared(
        &mut self,
        id: NodeId,
        chunks: ChunkSet,
        prepared: Prepared,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let node = &mut self.nodes[id.index()];
        let before = node.answer.replace((prepared, now));
        let lost = before.is_some_and(|(before, _)| before.incarnation != prepared.incarnation);
        if lost {
            node.prepared = ChunkSet::EMPTY;
        }
        node.sending = node.sending.minus(chunks);
        node.prepared = node.prepared.union(chunks);
        if lost && !node.failed {
            self.send_lost(id, effects);
        }
    }

    /// Sends again what a node lost with its disk.
    fn send_lost(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        self.lost += 1;
        if self.lost > MAX_LOST_PREPARES {
            self.fail(id, effects);
        } else {
            effects.extend(self.assign(id, ChunkSet::EMPTY));
        }
    }

    /// Counts a node out and spills its chunks to the opposite node.
    fn fail(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.nodes[id.index()].failed, true) {
            return;
        }
        let opposite = id.opposite();
        if self.failed() == 1 {
            effects.extend(self.assign(opposite, home_chunks(self.x, id)));
        }
    }

    fn failed(&self) -> usize {
        self.nodes.iter().filter(|node| node.failed).count()
    }

    /// Goes on to the commit round, or gives up, when nothing is on its way any more.
    fn advance(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.finished {
            return;
        }
        if self.failed() > 1 {
            return self.too_few_nodes(now, effects);
        }
        let ready = |node: &Node| node.failed || node.prepared.covers(node.assigned);
        if !self.nodes.iter().all(ready) {
            return;
        }
        match self.tag {
            Some(tag) => self.resend(tag, effects),
            None => self.commit(now, effects),
        }
    }

    fn too_few_nodes(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match &mut self.round {
            None => self.abort(Outcome::Unavailable, effects),
            Some(round) => {
                let next = round.abandon_waiting(now);
                self.follow(next, now, effects);
            }
        }
    }

    fn commit(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let answers: Vec<TagAnswer> = self.answers().map(|(_, answer, _)| answer.tag).collect();
        let Some(hlc) = choose_hlc(&answers) else {
            return self.abort(Outcome::Refused, effects);
        };
        let clocks = self.clocks(now);
        let refusing: Vec<(NodeId, u64)> =
            clocks.iter().copied().filter(|(_, ms)| hlc.is_future(*ms)).collect();
        if !refusing.is_empty() {
            report_skew(&refusing, median(&clocks), effects);
            for (id, _) in refusing {
                self.fail(id, effects);
            }
            return self.advance(now, effects);
        }
        report_skew(&clocks, median(&clocks), effects);
        let tag = Tag { hlc, writer: self.writer };
        self.tag = Some(tag);
        self.round = Some(CommitRound::start(now));
        self.sources = self.prepared_nodes();
        effects.extend(NodeId::ALL.map(|id| Effect::Commit(id, tag, self.sources.clone())));
    }

    /// The latest answers of the nodes that count, and when they came.
    fn answers(&self) -> impl Iterator<Item = (NodeId, Prepared, Duration)> {
        NodeId::ALL.into_iter().filter_map(|id| {
            let node = &self.nodes[id.index()];
            let (answer, at) = node.answer.filter(|_| !node.failed)?;
            Some((id, answer, at))
        })
    }

    /// What the nodes' clocks show by now, in milliseconds since 1970. One node may have
    /// answered long before another: chunks take the time they take.
    fn clocks(&self, now: Duration) -> Vec<(NodeId, u64)> {
        let clock = |(id, answer, at): (NodeId, Prepared, Duration)| {
            let since = u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
            (id, answer.tag.proposed.ms().saturating_add(since))
        };
        self.answers().map(clock).collect()
    }

    /// The nodes whose prepared data a Commit rests on when nothing is on its way.
    fn prepared_nodes(&self) -> Vec<NodeRef> {
        let source = |(node, answer, _): (NodeId, Prepared, Duration)| NodeRef {
            node,
            incarnation: answer.incarnation,
        };
        self.answers().map(source).collect()
    }

    fn resend(&mut self, tag: Tag, effects: &mut Vec<Effect>) {
        self.sources = self.prepared_nodes();
        if let Some(round) = &mut self.round {
            let commit = |id| Effect::Commit(id, tag, self.sources.clone());
            effects.extend(round.resend().into_iter().map(commit));
        }
    }

    fn on_commit(
        &mut self,
        id: NodeId,
        answer: CommitAnswer,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(round), Some(tag)) = (&mut self.round, self.tag) else {
            return;
        };
        let before = round.acked(id);
        let next = round.answer(id, answer, now);
        if self.finished && round.done() && !before && round.acked(id) {
            effects.push(Effect::Confirm(id, tag));
            return;
        }
        self.follow(next, now, effects);
    }

    fn follow(&mut self, next: Next, now: Duration, effects: &mut Vec<Effect>) {
        match next {
            Next::Wait => {}
            Next::Again(id) => {
                if let Some(tag) = self.tag {
                    effects.push(Effect::Commit(id, tag, self.sources.clone()));
                }
            }
            Next::Lost(other) => self.prepare_again(other, now, effects),
            Next::Ended(end) => self.end(end, effects),
        }
    }

    /// The data prepared on a node is gone with its disk: prepare there again.
    fn prepare_again(&mut self, other: NodeRef, now: Duration, effects: &mut Vec<Effect>) {
        let id = other.node;
        let node = &mut self.nodes[id.index()];
        let stale = node.answer.is_none_or(|(answer, _)| answer.incarnation != other.incarnation);
        if stale && !node.failed && node.sending.is_empty() {
            node.prepared = ChunkSet::EMPTY;
            node.answer = None;
            self.send_lost(id, effects);
        }
        self.advance(now, effects);
    }

    fn end(&mut self, end: End, effects: &mut Vec<Effect>) {
        let (Some(tag), false) = (self.tag, self.finished) else {
            return;
        };
        self.finished = true;
        match end {
            End::Done => {
                effects.push(Effect::Finish(Outcome::Stored(tag)));
                let acked = |id: &NodeId| self.round.as_ref().is_some_and(|r| r.acked(*id));
                let nodes = NodeId::ALL.into_iter().filter(acked);
                effects.extend(nodes.map(|id| Effect::Confirm(id, tag)));
            }
            End::Refused => effects.push(Effect::Finish(Outcome::Refused)),
            End::Unknown => effects.push(Effect::Finish(Outcome::Unknown)),
        }
    }

    /// Ends before any Commit: what was staged is fenced and dropped.
    fn abort(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        effects.extend(NodeId::ALL.map(Effect::Discard));
        effects.push(Effect::Finish(outcome));
    }
}

/// The lower median of the clocks, or 0.
fn median(clocks: &[(NodeId, u64)]) -> u64 {
    let mut sorted: Vec<u64> = clocks.iter().map(|(_, ms)| *ms).collect();
    sorted.sort_unstable();
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or_default()
}

fn report_skew(clocks: &[(NodeId, u64)], median: u64, effects: &mut Vec<Effect>) {
    for (id, ms) in clocks {
        let skew = ms.abs_diff(median);
        if skew > REPORTED_SKEW_MS {
            effects.push(Effect::ReportSkew(*id, skew));
        }
    }
}

#[cfg(test)]
mod tests;
