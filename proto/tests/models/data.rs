//! Chunks without reads: can the newest version always be rebuilt?
//!
//! One path with a confirmed first version and one or two PUTs whose client may stop after any
//! step, Commits that arrive late, an absent node, Confirm, prune, abandoned uploads, write-back,
//! repair, and one disk that is lost and replaced. Nodes hold nothing of a version, their home
//! pair, or all of it (spill). A message that arrives and its answer are one step.
//!
//! After every step: for every failure that must be survived, what the remaining nodes show as
//! newest can be rebuilt from what they hold, and so can something not older than what was
//! acknowledged. A rejoining node counts as one failure until it is restored.

use crate::explore::{Model, Step};

const NODES: std::ops::Range<usize> = 0..4;
const NOBODY: usize = 4;
const PUTS: usize = 2;

/// Failures that a file survives: none, any node, any opposite pair; as masks of nodes.
const ALLOWED_FAILURES: [u8; 7] = [0b0000, 0b0001, 0b0010, 0b0100, 0b1000, 0b0101, 0b1010];

/// The ways to rename the nodes that keep neighbours neighbours.
const TURNS: [[usize; 4]; 8] = [
    [0, 1, 2, 3],
    [1, 2, 3, 0],
    [2, 3, 0, 1],
    [3, 0, 1, 2],
    [3, 2, 1, 0],
    [2, 1, 0, 3],
    [1, 0, 3, 2],
    [0, 3, 2, 1],
];

/// When staged data of an abandoned upload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleaning {
    FencedByAll,
    FencedByThree,
    ByAge,
}

/// When a rejoined node no longer counts as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restored {
    /// Its newest version is confirmed and every chunk of it is on two disks.
    Confirmed,
    /// It holds its pair of what it has as newest.
    HoldsItsPair,
}

/// The rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    /// How many PUTs there are.
    pub(crate) puts: usize,
    /// Whether preparing and sending the Commit are one step, for fewer states.
    pub(crate) at_once: bool,
    pub(crate) janitor: bool,
    pub(crate) repair: bool,
    pub(crate) replaces_disk: bool,
    pub(crate) spill: bool,
    pub(crate) cleaning: Cleaning,
    /// The client drops what it staged although it has sent a Commit.
    pub(crate) drops_after_commit: bool,
    pub(crate) commit_names_disks: bool,
    pub(crate) write_back_names_disk: bool,
    pub(crate) drop_names_disks: bool,
    pub(crate) rejoining_refuses_writes: bool,
    pub(crate) rejoining_refuses_fences: bool,
    pub(crate) adopts_fences: bool,
    /// How many others a rejoining node reads out.
    pub(crate) reads_out: usize,
    pub(crate) restored: Restored,
}

impl Data {
    pub(crate) const PROTOCOL: Self = Self {
        puts: 2,
        at_once: false,
        janitor: true,
        repair: true,
        replaces_disk: false,
        spill: true,
        cleaning: Cleaning::FencedByAll,
        drops_after_commit: false,
        commit_names_disks: true,
        write_back_names_disk: true,
        drop_names_disks: true,
        rejoining_refuses_writes: true,
        rejoining_refuses_fences: true,
        adopts_fences: true,
        reads_out: 3,
        restored: Restored::Confirmed,
    };
}

/// How much of a version a node holds.
const NOTHING: u8 = 0;
const PAIR: u8 = 1;
const WHOLE: u8 = 2;

/// Versions as a node's newest: none, the first, the PUTs'.
const FIRST: u8 = 1;
const fn version(put: usize) -> u8 {
    put as u8 + 2
}

/// A fence as the janitor knows it.
const UNFENCED: u8 = 0;
const FENCED: u8 = 1;
const FENCED_ON_LOST_DISK: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Status {
    #[default]
    Serving,
    Rejoining,
    /// Serving, but still counted as a failure.
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Node {
    /// Its newest version.
    current: u8,
    confirmed: bool,
    /// What it holds of the first version and of each PUT's.
    held: [u8; 1 + PUTS],
    /// It keeps the first PUT's version as superseded.
    superseded: bool,
    fenced: [bool; PUTS],
    /// What it answered the janitor.
    fence_seen: [u8; PUTS],
    /// What it told the client it has prepared.
    prepared: [u8; PUTS],
    /// It said so with a disk that is lost.
    prepared_on_lost_disk: [bool; PUTS],
    acked: [bool; PUTS],
    status: Status,
    /// It knows the incarnation of the new disk.
    knows_new_disk: bool,
}

impl Node {
    fn committed(&self, put: usize) -> bool {
        self.current == version(put) || (put == 0 && self.superseded)
    }

    fn rejoining(&self) -> bool {
        self.status == Status::Rejoining
    }

    /// All of it in 27 bits.
    fn code(&self) -> u32 {
        let mut code = 0;
        let mut add = |value: u8, bits: u32| code = code << bits | u32::from(value);
        add(self.current, 2);
        add(self.confirmed.into(), 1);
        self.held.iter().for_each(|held| add(*held, 2));
        add(self.superseded.into(), 1);
        for put in 0..PUTS {
            add(self.fenced[put].into(), 1);
            add(self.fence_seen[put], 2);
            add(self.prepared[put], 2);
            add(self.prepared_on_lost_disk[put].into(), 1);
            add(self.acked[put].into(), 1);
        }
        add(self.status as u8, 2);
        add(self.knows_new_disk.into(), 1);
        code
    }
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Preparing,
    Committing,
    Stored,
    /// Gave up before any Commit, and drops what it staged.
    Aborted,
    /// Stopped or answered "unknown" after a Commit; Commits may be under way.
    Gone,
    /// As `Gone`, but it drops what it staged: wrong.
    GoneAndDropping,
}

/// A PUT, as far as it is not on the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Put {
    stage: Stage,
    /// Its version was current on a Serving node, so that somebody may write it back.
    visible: bool,
    /// Its version was on three nodes, so that Confirms may be under way.
    completed: bool,
    /// A disk was lost after its first Commit was sent: while it runs, the new one waits.
    disk_lost: bool,
    /// No disk that its Commit names is lost.
    names_present_disks: bool,
    /// Its version was on the disk that is lost, from where somebody may have read it.
    was_on_lost_disk: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    nodes: [Node; 4],
    puts: [Put; PUTS],
    disk_lost: bool,
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "the fields are for people who read a trace")]
pub(crate) enum Action {
    Prepares { put: usize, node: usize },
    Spills { put: usize, node: usize },
    SendsCommit { put: usize, absent: usize },
    Aborts(usize),
    Discards { put: usize, node: usize },
    ReturnsOk(usize),
    GivesUp(usize),
    BeginsDropping(usize),
    CommitArrives { put: usize, node: usize },
    CommitRefused { put: usize, node: usize },
    WriteBack { put: usize, node: usize },
    Confirm { put: usize, node: usize },
    JanitorFences { put: usize, node: usize },
    Drops { put: usize, node: usize },
    DropsByAge { put: usize, node: usize },
    Prunes(usize),
    CopiesHome(usize),
    ReleasesSpill(usize),
    LosesDisk(usize),
    ReadsOut { node: usize, other: usize },
    Serves(usize),
    IsRestored(usize),
}

/// The chunks, as a mask, that `level` of a version is on a node: its pair is `node` and the
/// one before.
fn chunks(node: usize, level: u8) -> u8 {
    match level {
        NOTHING => 0,
        PAIR => 1 << node | 1 << ((node + 3) % 4),
        _ => 0b1111,
    }
}

/// Whether three nodes hold something, and every chunk is on two.
fn prepared_enough(levels: [u8; 4], spill: bool) -> bool {
    let nodes = levels.iter().filter(|level| **level > NOTHING).count();
    let copies =
        |chunk: usize| NODES.filter(|node| chunks(*node, levels[*node]) & 1 << chunk != 0).count();
    nodes >= 3 && (!spill || NODES.into_iter().all(|chunk| copies(chunk) >= 2))
}

impl State {
    fn levels(&self, held: impl Fn(&Node) -> u8) -> [u8; 4] {
        [0, 1, 2, 3].map(|node: usize| held(&self.nodes[node]))
    }

    /// Whether the nodes that are not in `failed` hold all of a version.
    fn whole(&self, place: usize, failed: u8, except: usize) -> u8 {
        NODES
            .filter(|node| failed & 1 << node == 0 && *node != except)
            .fold(0, |held, node| held | chunks(node, self.nodes[node].held[place]))
    }

    fn newer_on_three(&self, put: usize) -> bool {
        self.nodes.iter().filter(|node| node.current > version(put)).count() >= 3
    }

    /// Data of a PUT goes: that breaks a promise if it is a version that counts or may come to.
    fn check_removal(&self, put: usize) -> Option<&'static str> {
        let counts = |node: &Node| {
            node.current == version(put) || (put == 0 && node.superseded && !node.confirmed)
        };
        (!self.newer_on_three(put) && self.nodes.iter().any(counts))
            .then_some("data of a committed version was removed (I8)")
    }

    fn forget_client(&mut self, put: usize) {
        for node in &mut self.nodes {
            node.prepared[put] = NOTHING;
            node.prepared_on_lost_disk[put] = false;
            node.acked[put] = false;
        }
    }
}

/// Collects steps, and notes what can be seen of them from outside.
struct Steps<'a> {
    from: State,
    out: &'a mut Vec<Step<Data>>,
}

impl Steps<'_> {
    fn take(&mut self, action: Action, to: State) {
        self.take_or_break(action, to, None);
    }

    fn take_or_break(&mut self, action: Action, mut to: State, broken: Option<&'static str>) {
        for put in 0..PUTS {
            let shows = |node: &Node| node.current == version(put) && !node.rejoining();
            to.puts[put].visible |= to.nodes.iter().any(shows);
            let nodes = to.nodes.iter().filter(|node| node.committed(put)).count();
            to.puts[put].completed |= nodes >= 3;
        }
        if to != self.from || broken.is_some() {
            self.out.push(Step { action, to, broken });
        }
    }
}

impl Model for Data {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let node = Node {
            current: FIRST,
            confirmed: true,
            held: [PAIR, NOTHING, NOTHING],
            ..Node::default()
        };
        let mut state = State { nodes: [node; 4], ..State::default() };
        if self.puts < PUTS {
            state.puts[1].stage = Stage::Aborted;
        }
        state
    }

    fn steps(&self, state: &State, out: &mut Vec<Step<Self>>) {
        let mut steps = Steps { from: *state, out };
        for put in 0..self.puts {
            self.client(state, put, &mut steps);
            self.commit(state, put, &mut steps);
            self.write_back(state, put, &mut steps);
            self.confirm(state, put, &mut steps);
            if self.janitor {
                self.clean(state, put, &mut steps);
            }
        }
        for node in NODES {
            self.prune(state, node, &mut steps);
            if self.repair {
                self.repair(state, node, &mut steps);
            }
            if self.replaces_disk && !state.disk_lost {
                self.lose_disk(state, node, &mut steps);
            }
            self.rejoin(state, node, &mut steps);
        }
    }

    fn key(&self, state: &State) -> u128 {
        let codes = state.nodes.map(|node| u128::from(node.code()));
        let turned =
            TURNS.iter().map(|turn| turn.iter().fold(0u128, |key, node| key << 27 | codes[*node]));
        let nodes = turned.min().unwrap_or_default();
        state.puts.iter().fold(nodes << 1 | u128::from(state.disk_lost), |key, put| {
            let flags = [
                put.visible,
                put.completed,
                put.disk_lost,
                put.names_present_disks,
                put.was_on_lost_disk,
            ];
            let key = key << 3 | put.stage as u128;
            flags.iter().fold(key, |key, flag| key << 1 | u128::from(*flag))
        })
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let stored = |put: &usize| state.puts[*put].stage == Stage::Stored;
        let acknowledged = (0..PUTS).rev().find(stored).map_or(FIRST, version);
        let out = NODES.into_iter().find(|node| state.nodes[*node].status != Status::Serving);
        for failed in ALLOWED_FAILURES {
            let together = failed | out.map_or(0, |node| 1 << node);
            if !ALLOWED_FAILURES.contains(&together) {
                continue;
            }
            let whole = |version: u8| state.whole(usize::from(version) - 1, failed, NOBODY);
            if !(acknowledged..=version(PUTS - 1)).any(|version| whole(version) == 0b1111) {
                return Some("an acknowledged version is lost (I4)");
            }
            let answers = |node: &usize| failed & 1 << node == 0 && !state.nodes[*node].rejoining();
            let live: Vec<usize> = NODES.filter(answers).collect();
            if live.len() < 2 {
                continue;
            }
            let newest = live.iter().map(|node| state.nodes[*node].current).max();
            let newest = newest.unwrap_or_default();
            if newest < acknowledged {
                return Some("what is newest is older than what was acknowledged (I2)");
            }
            if whole(newest) != 0b1111 {
                return Some("the newest version cannot be rebuilt (I4)");
            }
        }
        None
    }
}

impl Data {
    fn client(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        match state.puts[put].stage {
            Stage::Preparing if self.at_once => self.prepare_at_once(state, put, steps),
            Stage::Committing if self.at_once && !self.replaces_disk => {
                if state.puts[put].completed {
                    let mut to = *state;
                    to.puts[put].stage = Stage::Stored;
                    steps.take(Action::ReturnsOk(put), to);
                }
            }
            Stage::Preparing => self.prepare(state, put, steps),
            Stage::Committing => self.finish(state, put, steps),
            Stage::Aborted | Stage::GoneAndDropping => {
                for node in NODES.filter(|node| !state.nodes[*node].committed(put)) {
                    let mut to = *state;
                    to.nodes[node].fenced[put] = true;
                    to.nodes[node].held[put + 1] = NOTHING;
                    let holds = state.nodes[node].held[put + 1] > NOTHING;
                    let broken = if holds { state.check_removal(put) } else { None };
                    steps.take_or_break(Action::Discards { put, node }, to, broken);
                }
            }
            Stage::Stored | Stage::Gone => {}
        }
    }

    /// All in one step, with any one node or none absent.
    fn prepare_at_once(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        for absent in 0..=NOBODY {
            let mut to = *state;
            let mut refused = false;
            for node in NODES.filter(|node| *node != absent) {
                refused |= state.nodes[node].fenced[put] || state.nodes[node].rejoining();
                let spilled = absent != NOBODY && self.spill && node == (absent + 2) % 4;
                let level = if spilled { WHOLE } else { PAIR };
                to.nodes[node].held[put + 1] = level;
                if self.replaces_disk {
                    to.nodes[node].prepared[put] = level;
                }
            }
            if !refused {
                to.puts[put].stage = Stage::Committing;
                to.puts[put].names_present_disks = true;
                steps.take(Action::SendsCommit { put, absent }, to);
            }
        }
    }

    fn prepare(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        for index in NODES {
            let node = state.nodes[index];
            if node.fenced[put] || (self.rejoining_refuses_writes && node.rejoining()) {
                continue;
            }
            if node.prepared[put] == NOTHING {
                steps.take(Action::Prepares { put, node: index }, prepared(state, put, index));
            }
            let opposite = state.nodes[(index + 2) % 4];
            let own = node.prepared[put] == PAIR && !node.prepared_on_lost_disk[put];
            if self.spill && own && opposite.prepared[put] == NOTHING {
                let mut to = *state;
                to.nodes[index].held[put + 1] = WHOLE;
                to.nodes[index].prepared[put] = WHOLE;
                steps.take(Action::Spills { put, node: index }, to);
            }
        }
        if prepared_enough(state.levels(|node| node.prepared[put]), self.spill) {
            let mut to = *state;
            to.puts[put].stage = Stage::Committing;
            let lost = state.nodes.iter().any(|node| node.prepared_on_lost_disk[put]);
            to.puts[put].names_present_disks |= self.commit_names_disks && !lost;
            steps.take(Action::SendsCommit { put, absent: NOBODY }, to);
        }
        let mut to = *state;
        to.puts[put].stage = Stage::Aborted;
        to.forget_client(put);
        steps.take(Action::Aborts(put), to);
    }

    fn finish(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        let acks = state.nodes.iter().filter(|node| node.acked[put]).count();
        for index in NODES {
            let node = state.nodes[index];
            if self.rejoining_refuses_writes && node.rejoining() || node.fenced[put] {
                continue;
            }
            let again = node.acked[put] || (self.commit_names_disks && acks > 0);
            if node.prepared[put] == NOTHING && again {
                let mut to = prepared(state, put, index);
                let lost = to.nodes.iter().any(|node| node.prepared_on_lost_disk[put]);
                to.puts[put].names_present_disks |= self.commit_names_disks && !lost;
                steps.take(Action::Prepares { put, node: index }, to);
            }
            let opposite = state.nodes[(index + 2) % 4];
            let own = node.prepared[put] == PAIR && !node.prepared_on_lost_disk[put];
            if self.spill && own && node.acked[put] && opposite.prepared[put] == NOTHING {
                let mut to = *state;
                to.nodes[index].held[put + 1] = WHOLE;
                to.nodes[index].prepared[put] = WHOLE;
                steps.take(Action::Spills { put, node: index }, to);
            }
        }
        if acks >= 3 && prepared_enough(state.levels(|node| node.prepared[put]), self.spill) {
            let mut to = *state;
            to.puts[put].stage = Stage::Stored;
            to.puts[put].completed = true;
            to.forget_client(put);
            steps.take(Action::ReturnsOk(put), to);
        }
        let mut to = *state;
        to.puts[put].stage = Stage::Gone;
        to.forget_client(put);
        steps.take(Action::GivesUp(put), to);
        if self.drops_after_commit {
            to.puts[put].stage = Stage::GoneAndDropping;
            steps.take(Action::BeginsDropping(put), to);
        }
    }

    fn commit(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        let Put { stage, names_present_disks, visible, .. } = state.puts[put];
        if matches!(stage, Stage::Preparing | Stage::Aborted) {
            return;
        }
        let nowhere = !state.nodes.iter().any(|node| node.committed(put));
        for index in NODES {
            let node = state.nodes[index];
            let has = node.committed(put);
            if node.fenced[put] && !has || self.rejoining_refuses_writes && node.rejoining() {
                continue;
            }
            let mut to = *state;
            let knows = state.disk_lost && (node.knows_new_disk || node.rejoining());
            if self.commit_names_disks && !has && !names_present_disks && knows {
                if stage == Stage::Committing {
                    for node in &mut to.nodes {
                        if std::mem::take(&mut node.prepared_on_lost_disk[put]) {
                            node.prepared[put] = NOTHING;
                        }
                    }
                    steps.take(Action::CommitRefused { put, node: index }, to);
                }
                continue;
            }
            if !has {
                make_current(&mut to.nodes[index], put);
            }
            if stage == Stage::Committing && (!self.at_once || self.replaces_disk) {
                let acking = &mut to.nodes[index];
                acking.acked[put] = true;
                if std::mem::take(&mut acking.prepared_on_lost_disk[put]) {
                    acking.prepared[put] = NOTHING;
                }
            }
            let first = nowhere && !visible && !state.disk_lost && !state.newer_on_three(put);
            let enough = prepared_enough(state.levels(|node| node.held[put + 1]), true);
            let broken = (first && !enough)
                .then_some("a Commit took effect before every chunk was on two disks (I3)");
            steps.take_or_break(Action::CommitArrives { put, node: index }, to, broken);
        }
    }

    fn write_back(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        if !state.puts[put].visible {
            return;
        }
        let held = state.nodes.iter().any(|node| node.committed(put));
        for index in NODES {
            let node = state.nodes[index];
            if node.committed(put) && !node.fenced[put] {
                continue;
            }
            let unaware = !node.knows_new_disk && node.status == Status::Serving;
            let from_lost_disk = state.puts[put].was_on_lost_disk && unaware;
            if self.write_back_names_disk && !held && !from_lost_disk {
                continue;
            }
            let mut to = *state;
            if !node.committed(put) {
                make_current(&mut to.nodes[index], put);
            }
            to.nodes[index].fenced[put] = false;
            steps.take(Action::WriteBack { put, node: index }, to);
        }
    }

    fn confirm(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        for node in NODES.filter(|_| state.puts[put].completed) {
            if state.nodes[node].current == version(put) && !state.nodes[node].confirmed {
                let mut to = *state;
                to.nodes[node].confirmed = true;
                steps.take(Action::Confirm { put, node }, to);
            }
        }
    }

    fn clean(&self, state: &State, put: usize, steps: &mut Steps<'_>) {
        let held = |node: &Node| node.held[put + 1] > NOTHING;
        if self.cleaning == Cleaning::ByAge {
            for node in NODES {
                if held(&state.nodes[node]) && !state.nodes[node].committed(put) {
                    let mut to = *state;
                    to.nodes[node].held[put + 1] = NOTHING;
                    let broken = state.check_removal(put);
                    steps.take_or_break(Action::DropsByAge { put, node }, to, broken);
                }
            }
            return;
        }
        if state.nodes.iter().any(held) {
            for index in NODES {
                let node = state.nodes[index];
                let news = !node.fenced[put] || node.fence_seen[put] != FENCED;
                let refuses = self.rejoining_refuses_fences && node.rejoining();
                if !node.committed(put) && news && !refuses {
                    let mut to = *state;
                    to.nodes[index].fenced[put] = true;
                    to.nodes[index].fence_seen[put] = FENCED;
                    steps.take(Action::JanitorFences { put, node: index }, to);
                }
            }
        }
        let wanted = if self.cleaning == Cleaning::FencedByThree { 3 } else { 4 };
        let seen = state.nodes.iter().filter(|node| node.fence_seen[put] != UNFENCED).count();
        if seen < wanted {
            return;
        }
        let on_lost_disk =
            state.nodes.iter().any(|node| node.fence_seen[put] == FENCED_ON_LOST_DISK);
        for index in NODES {
            let node = state.nodes[index];
            let knows = node.knows_new_disk || node.rejoining();
            let refuses = self.drop_names_disks && on_lost_disk && knows;
            if node.fenced[put] && held(&node) && !refuses {
                let mut to = *state;
                to.nodes[index].held[put + 1] = NOTHING;
                let broken = state.check_removal(put);
                steps.take_or_break(Action::Drops { put, node: index }, to, broken);
            }
        }
    }

    fn prune(&self, state: &State, index: usize, steps: &mut Steps<'_>) {
        let node = state.nodes[index];
        if node.confirmed && node.current > FIRST && node.held[0] > NOTHING {
            let mut to = *state;
            to.nodes[index].held[0] = NOTHING;
            steps.take(Action::Prunes(index), to);
        }
        if node.confirmed && node.current == version(1) && node.superseded {
            let mut to = *state;
            to.nodes[index].superseded = false;
            to.nodes[index].held[1] = NOTHING;
            steps.take(Action::Prunes(index), to);
        }
    }

    fn repair(&self, state: &State, index: usize, steps: &mut Steps<'_>) {
        let Some(place) = usize::from(state.nodes[index].current).checked_sub(1) else {
            return;
        };
        let pair = chunks(index, PAIR);
        let elsewhere = state.whole(place, 0, index);
        if state.nodes[index].held[place] == NOTHING && elsewhere & pair == pair {
            let mut to = *state;
            to.nodes[index].held[place] = PAIR;
            steps.take(Action::CopiesHome(index), to);
        }
        let home = state.nodes.iter().all(|node| node.held[place] > NOTHING);
        if state.nodes[index].held[place] == WHOLE && home {
            let mut to = *state;
            to.nodes[index].held[place] = PAIR;
            steps.take(Action::ReleasesSpill(index), to);
        }
    }

    fn lose_disk(&self, state: &State, index: usize, steps: &mut Steps<'_>) {
        let lost = state.nodes[index];
        let mut to = *state;
        to.disk_lost = true;
        // What others were told by the old disk is still believed.
        let mut new = Node {
            prepared: lost.prepared,
            acked: lost.acked,
            fence_seen: lost.fence_seen,
            status: Status::Rejoining,
            ..Node::default()
        };
        for put in 0..PUTS {
            if self.drop_names_disks && lost.fence_seen[put] == FENCED {
                new.fence_seen[put] = FENCED_ON_LOST_DISK;
            }
            let stage = state.puts[put].stage;
            let sent = !matches!(stage, Stage::Preparing | Stage::Aborted);
            let rests = lost.prepared[put] > NOTHING;
            new.prepared_on_lost_disk[put] = rests;
            to.puts[put].disk_lost = sent;
            to.puts[put].was_on_lost_disk |= lost.committed(put);
            let held = stage != Stage::Committing && lost.held[put + 1] > NOTHING;
            if self.commit_names_disks && sent && (rests || held) {
                to.puts[put].names_present_disks = false;
            }
        }
        to.nodes[index] = new;
        steps.take(Action::LosesDisk(index), to);
    }

    fn rejoin(&self, state: &State, index: usize, steps: &mut Steps<'_>) {
        let node = state.nodes[index];
        match node.status {
            Status::Serving => {}
            Status::Rejoining => {
                let running = |put: &Put| put.stage == Stage::Committing && put.disk_lost;
                if state.puts.iter().take(self.puts).any(running) {
                    return;
                }
                for other in NODES {
                    if other != index && !state.nodes[other].knows_new_disk {
                        let to = self.read_out(state, index, other);
                        steps.take(Action::ReadsOut { node: index, other }, to);
                    }
                }
                let read = state.nodes.iter().filter(|node| node.knows_new_disk).count();
                if read >= self.reads_out {
                    let mut to = *state;
                    to.nodes[index].status = Status::Returned;
                    to.nodes[index].knows_new_disk = true;
                    steps.take(Action::Serves(index), to);
                }
            }
            Status::Returned => {
                let Some(place) = usize::from(node.current).checked_sub(1) else {
                    return;
                };
                let twice = || prepared_enough(state.levels(|node| node.held[place]), true);
                let restored = match self.restored {
                    Restored::HoldsItsPair => true,
                    Restored::Confirmed => node.confirmed && twice(),
                };
                if node.held[place] > NOTHING && restored {
                    let mut to = *state;
                    to.nodes[index].status = Status::Serving;
                    steps.take(Action::IsRestored(index), to);
                }
            }
        }
    }

    /// The other node remembers the new disk, then is read.
    fn read_out(&self, state: &State, index: usize, other: usize) -> State {
        let mut to = *state;
        to.nodes[other].knows_new_disk = true;
        let read = state.nodes[other];
        let new = &mut to.nodes[index];
        if read.current > new.current {
            new.superseded |= new.current == version(0);
            new.current = read.current;
            new.confirmed = read.confirmed;
        } else if read.current == new.current {
            new.confirmed |= read.confirmed;
        }
        if self.adopts_fences {
            for put in 0..PUTS {
                new.fenced[put] |= read.fenced[put];
                new.fenced[put] &= !(read.fenced[put] && new.committed(put));
            }
        }
        to
    }
}

/// The home pair of a PUT is durable on a node.
fn prepared(state: &State, put: usize, index: usize) -> State {
    let mut to = *state;
    let node = &mut to.nodes[index];
    node.held[put + 1] = node.held[put + 1].max(PAIR);
    node.prepared[put] = PAIR;
    node.prepared_on_lost_disk[put] = false;
    to
}

/// A Commit takes effect: the larger tag is current, the other one kept.
fn make_current(node: &mut Node, put: usize) {
    if node.current < version(put) {
        node.superseded = put > 0 && (node.superseded || node.current == version(0));
        node.current = version(put);
        node.confirmed = false;
    } else {
        node.superseded = true;
    }
}
