//! Tags and reads without data: is every history linearizable?
//!
//! Two writers (the second may remove), a process that reads two or three times one after the
//! other, four nodes. Any message may arrive at any time or never; a Commit may arrive after its
//! operation ended. The read rule is the one of the product: [`decide`] itself is called.
//! Nodes are alike here, so states are told apart without regard to which node is which.

use std::hash::{DefaultHasher, Hash, Hasher};

use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::decide::{Verdict, View, decide, decide_without_write_back};
use dfs_proto::tag::{Hlc, Tag};

use crate::explore::{Model, Step};

const NODES: std::ops::Range<usize> = 0..4;
/// Answers that a writer asks for before it chooses a tag.
const ANSWERS: u8 = 2;
/// Operations: writer one, writer two, then the reads.
const WRITERS: usize = 2;
const OPERATIONS: usize = 5;

/// Which answers a read rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadRule {
    /// The product's.
    Decide,
    /// The larger of two answers, whatever it is.
    LargestOfTwo,
    /// Two equal answers as they are; else the larger is written back to the other.
    TwoEqual,
}

/// Where a writer's tag comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagRule {
    /// Larger than two nodes' tags.
    AboveTwoAnswers,
    /// The writer's own clock, which may be slow.
    OwnClock,
    /// As it should, but a write that is tried again takes another.
    NewOnRetry,
}

/// What a node does whose disk was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// No disk is replaced.
    Stays,
    /// It serves with an empty one.
    ServesEmpty,
    /// It reads two others, then serves.
    RejoinsAtOnce,
    /// It waits until nothing rests on the old disk, reads the others, then serves.
    Rejoins,
}

/// When a node forgets a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgetting {
    Never,
    /// Once it is on three nodes.
    OnThree,
    /// Once it is on all four.
    OnAll,
}

/// The rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register {
    pub(crate) read: ReadRule,
    pub(crate) tags: TagRule,
    pub(crate) disk: Disk,
    pub(crate) forgetting: Forgetting,
    /// Acknowledgements that a write waits for.
    pub(crate) acks: usize,
    /// How many reads there are.
    pub(crate) reads: usize,
    /// Whether nodes are told that a version is on three.
    pub(crate) marks: bool,
    /// Whether the second writer removes.
    pub(crate) removal: bool,
}

impl Register {
    pub(crate) const PROTOCOL: Self = Self {
        read: ReadRule::Decide,
        tags: TagRule::AboveTwoAnswers,
        disk: Disk::Stays,
        forgetting: Forgetting::Never,
        acks: 3,
        reads: 2,
        marks: false,
        removal: false,
    };

    /// What a read of this tag returns: 0 for nothing, else the writer.
    fn value(&self, tag: u8) -> u8 {
        match (tag, tag & 1) {
            (0, _) => 0,
            (_, 1) if self.removal => 0,
            (_, writer) => writer + 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Node {
    tag: u8,
    /// The largest tag that it knows to be on three nodes.
    confirmed: u8,
    /// Which writers it has answered.
    answered: [bool; WRITERS],
    /// Which writers' Commit has arrived.
    committed: [bool; WRITERS],
    /// It acknowledged that Commit with a disk that is gone.
    lost_ack: [bool; WRITERS],
    /// What it told the reader: tag, and whether confirmed.
    reply: Option<(u8, bool)>,
    /// It answered the reader with a disk that is gone.
    lost_reply: bool,
    /// The reader wrote its version back to it.
    written: bool,
    rejoining: bool,
    /// The rejoining node has read it.
    read_out: bool,
    forgot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Stage {
    #[default]
    Idle,
    Asking,
    Committing,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Writer {
    stage: Stage,
    answers: u8,
    largest: u8,
    tag: u8,
    retried: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    nodes: [Node; 4],
    writers: [Writer; WRITERS],
    reading: bool,
    reads: u8,
    results: [u8; OPERATIONS - WRITERS],
    /// For each operation, those that had returned when it began.
    before: [u8; OPERATIONS],
    begun: u8,
    returned: u8,
    replaced: bool,
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "the fields are for people who read a trace")]
pub(crate) enum Action {
    WriterBegins(usize),
    WriterAsks(usize, usize),
    WriterChooses(usize, u8),
    CommitArrives(usize, usize),
    WriterReturns(usize),
    WriterTriesAgain(usize),
    Confirm(usize, usize),
    ReaderBegins,
    ReaderAsks(usize),
    WriteBack(usize),
    ReaderReturns(u8),
    DiskReplaced(usize),
    ReadsOut(usize),
    Serves(usize),
    Forgets(usize),
}

impl State {
    fn begin(&mut self, operation: usize) {
        self.begun |= 1 << operation;
        self.before[operation] = self.returned;
    }

    fn reads(&self) -> usize {
        usize::from(self.reads)
    }

    fn count(&self, wanted: impl Fn(&Node) -> bool) -> usize {
        self.nodes.iter().filter(|node| wanted(node)).count()
    }

    fn replies(&self) -> impl Iterator<Item = (u8, bool)> {
        self.nodes.iter().filter_map(|node| node.reply)
    }
}

impl Model for Register {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        State::default()
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step<Self>>) {
        let mut take = |action, to| {
            let explained = match action {
                Action::ReaderReturns(_) => self.fits_an_order(&to, 0, 0),
                _ => true,
            };
            let broken =
                (!explained).then_some("no order of the operations explains what was read");
            steps.push(Step { action, to, broken });
        };
        for writer in 0..WRITERS {
            self.write(state, writer, &mut take);
        }
        self.read(state, &mut take);
        self.replace_disk(state, &mut take);
        self.forget(state, &mut take);
    }

    fn key(&self, state: &State) -> u128 {
        let mut state = *state;
        state.nodes.sort_unstable();
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, state).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }

    fn broken(&self, _: &State) -> Option<&'static str> {
        None
    }
}

impl Register {
    fn write(&self, state: &State, index: usize, take: &mut impl FnMut(Action, State)) {
        let writer = state.writers[index];
        match writer.stage {
            Stage::Idle => self.begin_write(state, index, take),
            Stage::Asking => {
                for node in NODES {
                    if state.nodes[node].answered[index] || state.nodes[node].rejoining {
                        continue;
                    }
                    let mut to = *state;
                    to.nodes[node].answered[index] = true;
                    let asking = &mut to.writers[index];
                    asking.answers += 1;
                    asking.largest = asking.largest.max(state.nodes[node].tag);
                    take(Action::WriterAsks(index, node), to);
                }
                if writer.answers >= ANSWERS {
                    let tag = (writer.largest / 2 + 1) * 2 + index as u8;
                    let mut to = *state;
                    to.nodes.iter_mut().for_each(|node| node.answered[index] = false);
                    let retried = writer.retried;
                    to.writers[index] =
                        Writer { stage: Stage::Committing, tag, retried, ..Writer::default() };
                    take(Action::WriterChooses(index, tag), to);
                }
            }
            Stage::Committing | Stage::Done => self.commit(state, index, take),
        }
    }

    fn begin_write(&self, state: &State, index: usize, take: &mut impl FnMut(Action, State)) {
        // Only this order shows that a retry under a new tag is wrong, and is found in time.
        if self.tags == TagRule::NewOnRetry && index == 1 && state.reads < 1 {
            return;
        }
        let mut to = *state;
        to.begin(index);
        if self.tags != TagRule::OwnClock {
            to.writers[index].stage = Stage::Asking;
            return take(Action::WriterBegins(index), to);
        }
        for time in 1..=2 {
            let tag = time * 2 + index as u8;
            to.writers[index] = Writer { stage: Stage::Committing, tag, ..Writer::default() };
            take(Action::WriterChooses(index, tag), to);
        }
    }

    fn commit(&self, state: &State, index: usize, take: &mut impl FnMut(Action, State)) {
        let writer = state.writers[index];
        for node in NODES {
            let refuses = self.disk == Disk::Rejoins && state.nodes[node].rejoining;
            if state.nodes[node].committed[index] || refuses {
                continue;
            }
            let mut to = *state;
            to.nodes[node].committed[index] = true;
            to.nodes[node].tag = state.nodes[node].tag.max(writer.tag);
            take(Action::CommitArrives(index, node), to);
        }
        if writer.stage == Stage::Done {
            for node in NODES.filter(|_| self.marks) {
                let has = state.nodes[node];
                if has.tag >= writer.tag && has.confirmed < writer.tag {
                    let mut to = *state;
                    to.nodes[node].confirmed = writer.tag;
                    take(Action::Confirm(index, node), to);
                }
            }
            return;
        }
        let acks = state.count(|node| node.committed[index]);
        if acks >= self.acks {
            let mut to = *state;
            to.writers[index].stage = Stage::Done;
            to.returned |= 1 << index;
            take(Action::WriterReturns(index), to);
        }
        let again = self.tags == TagRule::NewOnRetry && index == 0 && state.reads >= 2;
        if again && !writer.retried && acks > 0 {
            let mut to = *state;
            to.nodes.iter_mut().for_each(|node| node.committed[index] = false);
            let retried = true;
            to.writers[index] = Writer { stage: Stage::Asking, retried, ..Writer::default() };
            take(Action::WriterTriesAgain(index), to);
        }
    }

    fn read(&self, state: &State, take: &mut impl FnMut(Action, State)) {
        if !state.reading {
            if state.reads() < self.reads {
                let mut to = *state;
                to.begin(WRITERS + state.reads());
                to.reading = true;
                take(Action::ReaderBegins, to);
            }
            return;
        }
        let answers = state.replies().count();
        let enough = self.read != ReadRule::Decide && answers >= 2;
        for node in NODES.filter(|_| !enough) {
            let asked = state.nodes[node];
            if asked.reply.is_some() || asked.rejoining {
                continue;
            }
            let mut to = *state;
            if state.replies().all(|(tag, _)| tag < asked.tag) {
                // Another version may be written back from now on.
                to.nodes.iter_mut().for_each(|node| node.written = false);
            }
            let confirmed = asked.tag > 0 && asked.confirmed == asked.tag;
            to.nodes[node].reply = Some((asked.tag, confirmed));
            take(Action::ReaderAsks(node), to);
        }
        let largest = state.replies().map(|(tag, _)| tag).max().unwrap_or_default();
        match self.read {
            ReadRule::Decide => self.decide(state, take),
            ReadRule::LargestOfTwo if answers == 2 => self.end_read(state, largest, take),
            ReadRule::TwoEqual if answers == 2 => {
                let target = Tag { hlc: Hlc::new(u64::from(largest)), writer: [0; 16] };
                if state.nodes.iter().all(|node| has(node, largest) || node.reply.is_none()) {
                    self.end_read(state, largest, take);
                } else {
                    self.write_back(state, target, take);
                }
            }
            ReadRule::LargestOfTwo | ReadRule::TwoEqual => {}
        }
    }

    fn decide(&self, state: &State, take: &mut impl FnMut(Action, State)) {
        let views = views(state);
        match decide(&views) {
            Verdict::Wait | Verdict::Unavailable => {}
            // Flagged answers make no promise that this model could check.
            Verdict::Decided { unconfirmed: true, .. } => {}
            Verdict::Decided { tag, .. } => self.end_read(state, number(tag), take),
            Verdict::WriteBack { tag, .. } => {
                let reached = state.count(|node| has(node, number(Some(tag))));
                if reached >= 3 {
                    return self.end_read(state, number(Some(tag)), take);
                }
                self.write_back(state, tag, take);
                if let Verdict::Decided { tag, unconfirmed: false, .. } =
                    decide_without_write_back(&views)
                {
                    self.end_read(state, number(tag), take);
                }
            }
        }
    }

    fn write_back(&self, state: &State, tag: Tag, take: &mut impl FnMut(Action, State)) {
        let tag = number(Some(tag));
        for node in NODES {
            if state.nodes[node].reply.is_none() || has(&state.nodes[node], tag) {
                continue;
            }
            let mut to = *state;
            let target = &mut to.nodes[node];
            target.written = true;
            target.tag = target.tag.max(tag);
            take(Action::WriteBack(node), to);
        }
    }

    fn end_read(&self, state: &State, tag: u8, take: &mut impl FnMut(Action, State)) {
        let mut to = *state;
        for node in &mut to.nodes {
            (node.reply, node.lost_reply, node.written) = (None, false, false);
        }
        to.results[state.reads()] = self.value(tag);
        to.returned |= 1 << (WRITERS + state.reads());
        to.reads += 1;
        to.reading = false;
        take(Action::ReaderReturns(tag), to);
    }

    fn replace_disk(&self, state: &State, take: &mut impl FnMut(Action, State)) {
        if self.disk == Disk::Stays {
            return;
        }
        if !state.replaced {
            for node in NODES {
                let mut to = *state;
                to.replaced = true;
                let lost = state.nodes[node];
                let committing = |i: usize| state.writers[i].stage == Stage::Committing;
                to.nodes[node] = Node {
                    tag: 0,
                    confirmed: 0,
                    lost_ack: [0, 1].map(|i| lost.committed[i] && committing(i)),
                    lost_reply: lost.reply.is_some() || lost.written,
                    rejoining: self.disk != Disk::ServesEmpty,
                    ..lost
                };
                take(Action::DiskReplaced(node), to);
            }
            return;
        }
        let Some(index) = state.nodes.iter().position(|node| node.rejoining) else {
            return;
        };
        let new = state.nodes[index];
        let rests = |i: usize| new.lost_ack[i] && state.writers[i].stage == Stage::Committing;
        if self.disk == Disk::Rejoins && (rests(0) || rests(1) || new.lost_reply) {
            return;
        }
        for node in NODES.filter(|node| *node != index && !state.nodes[*node].read_out) {
            let mut to = *state;
            to.nodes[node].read_out = true;
            to.nodes[index].tag = new.tag.max(state.nodes[node].tag);
            take(Action::ReadsOut(node), to);
        }
        let wanted = if self.disk == Disk::Rejoins { 3 } else { 2 };
        if state.count(|node| node.read_out) >= wanted {
            let mut to = *state;
            to.nodes[index].rejoining = false;
            take(Action::Serves(index), to);
        }
    }

    fn forget(&self, state: &State, take: &mut impl FnMut(Action, State)) {
        let tombstone = state.writers[1];
        let wanted = match self.forgetting {
            Forgetting::Never => return,
            Forgetting::OnThree => 3,
            Forgetting::OnAll => 4,
        };
        let known = |node: &Node| node.tag == tombstone.tag || node.forgot;
        if tombstone.stage != Stage::Done || state.count(known) < wanted {
            return;
        }
        for node in NODES.filter(|node| state.nodes[*node].tag == tombstone.tag) {
            let mut to = *state;
            to.nodes[node] = Node { tag: 0, confirmed: 0, forgot: true, ..state.nodes[node] };
            take(Action::Forgets(node), to);
        }
    }

    /// Whether what has returned fits one order of the operations; writes under way may be in it.
    fn fits_an_order(&self, state: &State, done: u8, value: u8) -> bool {
        if state.returned & !done == 0 {
            return true;
        }
        (0..OPERATIONS).any(|operation| {
            let bit = 1u8 << operation;
            let begun = state.begun & bit != 0 && done & bit == 0;
            if !begun || state.before[operation] & !done != 0 {
                return false;
            }
            match operation.checked_sub(WRITERS) {
                None => {
                    let written = self.value(operation as u8 + 2);
                    self.fits_an_order(state, done | bit, written)
                }
                Some(read) => {
                    let fits = state.returned & bit != 0 && state.results[read] == value;
                    fits && self.fits_an_order(state, done | bit, value)
                }
            }
        })
    }
}

/// Whether the reader knows that this node has the largest tag of all replies, `tag`.
fn has(node: &Node, tag: u8) -> bool {
    node.written || node.reply.is_some_and(|(known, _)| known >= tag)
}

fn views(state: &State) -> PerNode<View> {
    NodeId::ALL.map(|id| match state.nodes[id.index()].reply {
        None => View::Waiting,
        Some((tag, confirmed)) => View::Here { tag: as_tag(tag), confirmed },
    })
}

fn as_tag(number: u8) -> Option<Tag> {
    (number > 0).then_some(Tag { hlc: Hlc::new(u64::from(number)), writer: [0; 16] })
}

fn number(tag: Option<Tag>) -> u8 {
    tag.map_or(0, |tag| tag.hlc.get() as u8)
}
