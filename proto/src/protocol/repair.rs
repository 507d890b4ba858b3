//! Repair of one path: bring its newest version to all four nodes and each chunk home.
//!
//! All four nodes are asked and all answers awaited, for nobody waits for a repair. The version
//! is decided as a read decides. Then, one step after the other: have the nodes re-read their
//! chunks, write the version back where it is missing, confirm it, have the home nodes copy what
//! they lack, and let a node that took chunks in for another (spill) give them up once both
//! homes of those chunks have shown that they hold them.
//!
//! Every step names tag and upload and adds before anything is removed, so a repair may stop
//! anywhere, run twice at a time and run beside writers. A version that cannot be rebuilt is
//! reported and left as it is. Each request has one answer: the caller must not pass on a second
//! one, nor one that came after it gave up on the request.

use crate::chunk::{ChunkId, ChunkSet};
use crate::manifest::{Incarnation, Manifest, Version};
use crate::placement::{NodeId, PerNode, home_chunks, homes};
use crate::protocol::NodeRef;
use crate::protocol::commit::CommitAnswer;
use crate::protocol::decide::{QUORUM, Verdict, View, decide};
use crate::protocol::read::Reply;
use crate::tag::Tag;

/// How a repair goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every chunk is re-read from disk.
    Thorough,
    /// What the nodes say they hold is believed, but for what a removal rests on.
    Quick,
    /// Nothing is re-read and nothing changed: only the report is made.
    DryRun,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A Serving node answered.
    Reply(NodeId, Box<Reply>),
    /// A node said what it holds.
    Held(NodeId, Held),
    /// A write-back was answered.
    WriteBack(NodeId, CommitAnswer),
    /// A node has given up chunks, or refused to because the version is not current there.
    Released(NodeId, bool),
    /// A node did not do what it was asked last, or is rejoining.
    Failed(NodeId),
}

/// What a node holds of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// Its chunks.
    pub have: ChunkSet,
    /// Chunks that were found bad just now.
    pub bad: ChunkSet,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask this node for the path.
    Ask(NodeId),
    /// Ask this node which chunks of the version it holds.
    Look {
        /// The node.
        node: NodeId,
        /// The version.
        version: Version,
        /// Chunks to re-read first; bad ones are no longer held.
        reread: ChunkSet,
    },
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
    /// Have this node copy chunks from the others; answered with `Held`.
    Pull {
        /// Who lacks them.
        to: NodeId,
        /// The version.
        version: Version,
        /// What it lacks.
        chunks: ChunkSet,
        /// Who holds which of them.
        from: PerNode<ChunkSet>,
    },
    /// Let this node give up chunks that live elsewhere.
    Release {
        /// The node.
        node: NodeId,
        /// The version.
        version: Version,
        /// The chunks.
        chunks: ChunkSet,
        /// Their home nodes, which have shown that they hold them.
        homes: Vec<NodeRef>,
    },
    /// The repair is over.
    Finish(Report),
}

/// How a path was found and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it is now.
    pub state: State,
    /// The version it is about; `None`: the path was never written, or nothing was decided.
    pub version: Option<Version>,
    /// Chunks found bad by this repair.
    pub bad: PerNode<ChunkSet>,
    /// Nodes that were, or in a dry run would be, sent the version.
    pub written_back: Vec<NodeId>,
    /// Chunks that were, or would be, copied home.
    pub copied: PerNode<ChunkSet>,
    /// Chunks that were, or would be, given up where they are not at home.
    pub released: PerNode<ChunkSet>,
    /// Nodes that did not answer, or failed on the way.
    pub failed: Vec<NodeId>,
}

/// How a path is after a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was whole.
    Healthy,
    /// It is whole now; after a dry run: it would be.
    Repaired,
    /// Some node failed, or the path was being written: repair it again.
    Unfinished,
    /// Too few nodes answered to tell which version counts, or whether its chunks still exist.
    Unreachable,
    /// All four nodes answered, and these chunks are on none of them.
    Lost(ChunkSet),
    /// The newest version was never completed and cannot be: these chunks are on no node, and
    /// fewer than three nodes have the version. Nothing was changed.
    Dead(ChunkSet),
}

impl Report {
    /// Bytes that were, or would be, copied to nodes.
    pub fn copied_bytes(&self) -> u64 {
        let Some(manifest) = self.version.as_ref().and_then(Version::manifest) else {
            return 0;
        };
        let chunks = self.copied.iter().flat_map(|chunks| chunks.iter());
        chunks.map(|chunk| manifest.chunk(chunk).length).sum()
    }
}

/// Where a repair is. Each step ends when all who were asked have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Asking,
    Looking,
    Spreading,
    Copying,
    Verifying,
    Releasing,
    Over,
}

/// What is known of one node.
#[derive(Debug, Clone, Default)]
struct Seen {
    reply: Option<Box<Reply>>,
    /// Its answer in the current step is due.
    due: bool,
    failed: bool,
    /// The life of its disk when it last said what it holds.
    incarnation: Option<Incarnation>,
    have: ChunkSet,
    /// What it held when its disk was read last in this repair.
    verified: ChunkSet,
    /// What it was asked to read or copy.
    asked: ChunkSet,
    /// It has the version.
    holds: bool,
}

/// One repair.
#[derive(Debug, Clone)]
pub struct Repair {
    mode: Mode,
    step: Step,
    nodes: PerNode<Seen>,
    /// It was being written: something was refused for not being current.
    busy: bool,
    /// The version was known to be on three nodes before.
    confirmed: bool,
    report: Report,
}

impl Repair {
    /// Starts by asking all four nodes.
    pub fn start(mode: Mode) -> (Self, Vec<Effect>) {
        let asked = || Seen { due: true, ..Seen::default() };
        let repair = Self {
            mode,
            step: Step::Asking,
            nodes: [asked(), asked(), asked(), asked()],
            busy: false,
            confirmed: false,
            report: Report {
                state: State::Healthy,
                version: None,
                bad: [ChunkSet::EMPTY; 4],
                written_back: Vec::new(),
                copied: [ChunkSet::EMPTY; 4],
                released: [ChunkSet::EMPTY; 4],
                failed: Vec::new(),
            },
        };
        (repair, NodeId::ALL.map(Effect::Ask).to_vec())
    }

    /// Takes an event. An answer that is not due is ignored.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let (Event::Reply(id, _)
        | Event::Held(id, _)
        | Event::WriteBack(id, _)
        | Event::Released(id, _)
        | Event::Failed(id)) = event;
        let place = id.index();
        if !self.nodes[place].due || self.step == Step::Over {
            return Vec::new();
        }
        match (self.step, event) {
            (_, Event::Failed(_)) => {
                self.nodes[place].failed = true;
                self.take_back(id);
            }
            (Step::Asking, Event::Reply(_, reply)) => self.nodes[place].reply = Some(reply),
            (Step::Looking | Step::Copying | Step::Verifying, Event::Held(_, held)) => {
                self.on_held(id, held);
            }
            (Step::Spreading, Event::WriteBack(_, answer)) => {
                let acked = answer == CommitAnswer::Acked;
                self.nodes[place].holds |= acked;
                self.nodes[place].failed |= !acked;
                if !acked {
                    self.take_back(id);
                }
            }
            (Step::Releasing, Event::Released(_, released)) => {
                self.busy |= !released;
                if !released {
                    self.report.released[place] = ChunkSet::EMPTY;
                }
            }
            _ => return Vec::new(),
        }
        self.nodes[place].due = false;
        let mut effects = Vec::new();
        while self.step != Step::Over && !self.nodes.iter().any(|seen| seen.due) {
            self.advance(&mut effects);
        }
        effects
    }

    /// The report is of what was done: what `id` did not do in this step goes.
    fn take_back(&mut self, id: NodeId) {
        let asked = self.nodes[id.index()].asked;
        match self.step {
            Step::Spreading => self.report.written_back.retain(|other| *other != id),
            Step::Copying => {
                let copied = &mut self.report.copied[id.index()];
                *copied = copied.minus(asked);
            }
            Step::Releasing => self.report.released[id.index()] = ChunkSet::EMPTY,
            Step::Asking | Step::Looking | Step::Verifying | Step::Over => {}
        }
    }

    /// Ends the repair where it is.
    pub fn give_up(mut self) -> Report {
        self.step = Step::Over;
        Report { state: State::Unfinished, ..self.report }
    }

    fn on_held(&mut self, id: NodeId, held: Held) {
        let seen = &mut self.nodes[id.index()];
        let before = seen.incarnation.replace(held.incarnation);
        if before.is_some_and(|before| before != held.incarnation) {
            // Another disk than the one that answered before: the next repair sees to it.
            seen.failed = true;
        }
        seen.have = held.have;
        seen.verified = seen.verified.union(seen.asked).minus(held.bad);
        let bad = &mut self.report.bad[id.index()];
        *bad = bad.union(held.bad);
        if self.step == Step::Copying {
            let copied = &mut self.report.copied[id.index()];
            *copied = copied.minus(copied.minus(held.have));
            seen.failed |= !held.have.covers(seen.asked);
        }
    }

    /// Nodes that have answered everything so far.
    fn present(&self) -> impl Iterator<Item = NodeId> {
        let present = |seen: &Seen| seen.reply.is_some() && !seen.failed;
        NodeId::ALL.into_iter().filter(move |id| present(&self.nodes[id.index()]))
    }

    fn manifest(&self) -> Option<Manifest> {
        self.report.version.as_ref()?.manifest().cloned()
    }

    /// Begins the step after the current one.
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        match self.step {
            Step::Asking => self.decide(effects),
            Step::Looking => self.spread(effects),
            Step::Spreading => self.copy(effects),
            Step::Copying => self.verify(effects),
            // What was verified turned out to be bad: copy again.
            Step::Verifying if self.lacking() => self.copy(effects),
            Step::Verifying => self.release(effects),
            Step::Releasing => self.finish(None, effects),
            Step::Over => {}
        }
    }

    /// Sends an effect that is answered.
    fn ask(&mut self, id: NodeId, effect: Effect, effects: &mut Vec<Effect>) {
        self.nodes[id.index()].due = true;
        effects.push(effect);
    }

    /// Which version counts, and who holds what of it.
    fn decide(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Looking;
        let views = self.nodes.each_ref().map(|seen| match &seen.reply {
            Some(reply) => View::Here { tag: tag_of(reply), confirmed: reply.confirmed },
            None => View::Out,
        });
        let holder = match decide(&views) {
            Verdict::Decided { tag: None, .. } => return self.finish(None, effects),
            Verdict::Decided { unconfirmed: false, holder, .. }
            | Verdict::WriteBack { holder, .. } => holder,
            Verdict::Decided { unconfirmed: true, .. } | Verdict::Unavailable | Verdict::Wait => {
                return self.finish(Some(State::Unreachable), effects);
            }
        };
        let reply = self.nodes[holder.index()].reply.as_ref();
        let Some(version) = reply.and_then(|reply| reply.current.as_ref()) else {
            return self.finish(Some(State::Unreachable), effects);
        };
        let version = version.version.clone();
        for seen in &mut self.nodes {
            let Some(reply) = &seen.reply else { continue };
            seen.incarnation = Some(reply.incarnation);
            seen.holds = tag_of(reply) == Some(version.tag);
            self.confirmed |= seen.holds && reply.confirmed;
        }
        let file = version.manifest().is_some();
        self.report.version = Some(version.clone());
        if !file {
            return;
        }
        let reread = match self.mode {
            Mode::Thorough => ChunkSet::ALL,
            Mode::Quick | Mode::DryRun => ChunkSet::EMPTY,
        };
        let present: Vec<NodeId> = self.present().collect();
        for node in present {
            self.nodes[node.index()].asked = reread;
            let version = version.clone();
            self.ask(node, Effect::Look { node, version, reread }, effects);
        }
    }

    /// Sends the version to those who lack it, unless it cannot be rebuilt.
    fn spread(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Spreading;
        let Some(version) = self.report.version.clone() else {
            return self.finish(None, effects);
        };
        let gone = if version.manifest().is_some() { self.gone() } else { ChunkSet::EMPTY };
        if !gone.is_empty() {
            let state = self.without(gone);
            return self.finish(Some(state), effects);
        }
        let source = self.present().find(|id| self.nodes[id.index()].holds);
        let source = source.and_then(|node| {
            let incarnation = self.nodes[node.index()].incarnation?;
            Some(NodeRef { node, incarnation })
        });
        let Some(source) = source else {
            return self.finish(Some(State::Unreachable), effects);
        };
        let lacking: Vec<NodeId> =
            self.present().filter(|id| !self.nodes[id.index()].holds).collect();
        self.report.written_back.clone_from(&lacking);
        for to in lacking {
            if self.mode == Mode::DryRun {
                self.nodes[to.index()].holds = true;
            } else {
                let version = version.clone();
                self.ask(to, Effect::WriteBack { to, version, source }, effects);
            }
        }
    }

    /// Chunks that no node holds which answered.
    fn gone(&self) -> ChunkSet {
        self.present().fold(ChunkSet::ALL, |gone, id| gone.minus(self.nodes[id.index()].have))
    }

    /// What it means that chunks are on no node that answered.
    fn without(&self, gone: ChunkSet) -> State {
        let all = self.present().count() == NodeId::ALL.len();
        let holders = self.nodes.iter().filter(|seen| seen.holds).count();
        match (all, self.confirmed || holders >= QUORUM) {
            (false, _) => State::Unreachable,
            (true, true) => State::Lost(gone),
            (true, false) => State::Dead(gone),
        }
    }

    /// Confirms the version and has the home nodes copy what they lack.
    fn copy(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Copying;
        let Some(version) = self.report.version.clone() else {
            return self.finish(None, effects);
        };
        let holders: Vec<NodeId> =
            self.present().filter(|id| self.nodes[id.index()].holds).collect();
        if (self.confirmed || holders.len() >= QUORUM) && self.mode != Mode::DryRun {
            let confirmed = |id: &NodeId| {
                let reply = self.nodes[id.index()].reply.as_ref();
                reply.is_some_and(|reply| reply.confirmed && tag_of(reply) == Some(version.tag))
            };
            let unaware = holders.iter().filter(|id| !confirmed(id));
            effects.extend(unaware.map(|id| Effect::Confirm(*id, version.tag)));
        }
        let Some(manifest) = self.manifest() else {
            return;
        };
        let from = NodeId::ALL.map(|id| {
            let seen = &self.nodes[id.index()];
            if seen.failed { ChunkSet::EMPTY } else { seen.have }
        });
        for to in holders {
            let seen = &mut self.nodes[to.index()];
            let chunks = home_chunks(manifest.x(), to).minus(seen.have);
            seen.asked = chunks;
            if chunks.is_empty() {
                continue;
            }
            let copied = &mut self.report.copied[to.index()];
            *copied = copied.union(chunks);
            if self.mode == Mode::DryRun {
                seen.have = seen.have.union(chunks);
                seen.verified = seen.verified.union(chunks);
            } else {
                let version = version.clone();
                self.ask(to, Effect::Pull { to, version, chunks, from }, effects);
            }
        }
    }

    /// Whether a node that has the version lacks a chunk of its own.
    fn lacking(&self) -> bool {
        let Some(manifest) = self.report.version.as_ref().and_then(Version::manifest) else {
            return false;
        };
        self.present().any(|id| {
            let seen = &self.nodes[id.index()];
            seen.holds && !seen.have.covers(home_chunks(manifest.x(), id))
        })
    }

    /// Chunks that a node holds without being their home.
    fn spilled(&self, manifest: &Manifest, id: NodeId) -> ChunkSet {
        self.nodes[id.index()].have.minus(home_chunks(manifest.x(), id))
    }

    /// Has the homes of spilled chunks re-read them, where they have not done so yet.
    fn verify(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Verifying;
        let (Some(version), Some(manifest)) = (self.report.version.clone(), self.manifest()) else {
            return self.finish(None, effects);
        };
        if self.mode == Mode::DryRun {
            return;
        }
        // Of chunks that cannot go, because a home of theirs is away, nothing is to be shown.
        let movable: ChunkSet =
            ChunkSet::ALL.iter().filter(|chunk| self.homes_hold(&manifest, *chunk)).collect();
        let spilled =
            self.present().fold(ChunkSet::EMPTY, |all, id| all.union(self.spilled(&manifest, id)));
        let spilled = spilled.minus(ChunkSet::ALL.minus(movable));
        let present: Vec<NodeId> = self.present().collect();
        for node in present {
            let seen = &mut self.nodes[node.index()];
            let wanted = spilled.iter().filter(|chunk| homes(manifest.x(), *chunk).contains(&node));
            let wanted = wanted.collect::<ChunkSet>();
            let reread = wanted.minus(seen.verified);
            // Only what it says it holds; what it lacks could not be copied.
            let reread = reread.minus(reread.minus(seen.have));
            if !reread.is_empty() {
                seen.asked = reread;
                let version = version.clone();
                self.ask(node, Effect::Look { node, version, reread }, effects);
            }
        }
    }

    /// Gives up spilled chunks that both homes hold.
    fn release(&mut self, effects: &mut Vec<Effect>) {
        self.step = Step::Releasing;
        let (Some(version), Some(manifest)) = (self.report.version.clone(), self.manifest()) else {
            return self.finish(None, effects);
        };
        let present: Vec<NodeId> = self.present().collect();
        for node in present {
            let spilled = self.spilled(&manifest, node);
            let chunks: ChunkSet =
                spilled.iter().filter(|chunk| self.is_home(&manifest, *chunk)).collect();
            if chunks.is_empty() {
                continue;
            }
            self.report.released[node.index()] = chunks;
            if self.mode == Mode::DryRun {
                continue;
            }
            let homes = NodeId::ALL.into_iter().filter_map(|home| {
                let lives = chunks.iter().any(|chunk| homes(manifest.x(), chunk).contains(&home));
                let incarnation = self.nodes[home.index()].incarnation.filter(|_| lives)?;
                Some(NodeRef { node: home, incarnation })
            });
            let homes = homes.collect();
            let version = version.clone();
            self.ask(node, Effect::Release { node, version, chunks, homes }, effects);
        }
    }

    /// Whether both homes of a chunk are here and say that they hold it.
    fn homes_hold(&self, manifest: &Manifest, chunk: ChunkId) -> bool {
        homes(manifest.x(), chunk).into_iter().all(|home| {
            let seen = &self.nodes[home.index()];
            !seen.failed && seen.holds && seen.have.contains(chunk)
        })
    }

    /// Whether both homes of a chunk have shown that they hold it.
    fn is_home(&self, manifest: &Manifest, chunk: ChunkId) -> bool {
        let shown = |home: NodeId| self.nodes[home.index()].verified.contains(chunk);
        let both = homes(manifest.x(), chunk).into_iter().all(shown);
        self.homes_hold(manifest, chunk) && (both || self.mode == Mode::DryRun)
    }

    fn finish(&mut self, state: Option<State>, effects: &mut Vec<Effect>) {
        self.step = Step::Over;
        let failed = |id: &NodeId| {
            let seen = &self.nodes[id.index()];
            seen.failed || seen.reply.is_none()
        };
        self.report.failed = NodeId::ALL.into_iter().filter(failed).collect();
        self.report.state = state.unwrap_or_else(|| {
            let nothing = |sets: &PerNode<ChunkSet>| sets.iter().all(|set| set.is_empty());
            let report = &self.report;
            let untouched = report.written_back.is_empty()
                && [&report.bad, &report.copied, &report.released].into_iter().all(nothing);
            match () {
                () if self.busy || !report.failed.is_empty() || self.lacking() => State::Unfinished,
                () if untouched => State::Healthy,
                () => State::Repaired,
            }
        });
        effects.push(Effect::Finish(self.report.clone()));
    }
}

fn tag_of(reply: &Reply) -> Option<Tag> {
    reply.current.as_ref().map(|record| record.version.tag)
}

#[cfg(test)]
mod tests;
