//! Four nodes, whoever talks to them, and a network in between that loses, delays, reorders and
//! repeats. Everything that happens follows from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Incarnation, UploadId};
use dfs_proto::placement::{NodeId, PerNode, home_chunks};
use dfs_proto::protocol::rejoin::QUIET;
use dfs_proto::protocol::repair::{Mode, State};
use dfs_proto::protocol::{put, read, remove};

use crate::actor::{Actor, Kind, Outcome, Wishes};
use crate::check::{Checks, Hurt};
use crate::message::{Caller, Request};
use crate::mistake::Mistake;
use crate::network::Letter;
use crate::node::{FIRST, Node};
use crate::random::Random;

/// Clients run on these many machines; nodes count on from there.
pub(crate) const CLIENT_HOSTS: usize = 3;
const HOSTS: usize = CLIENT_HOSTS + 4;
/// Most operations of clients in one run.
const OPERATIONS: usize = 10;
/// The same in a run that is about one lost disk.
const FEW_OPERATIONS: usize = 3;
/// Repairs and abandoned uploads under way at a time.
const HEALERS: usize = 3;

/// One run.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) mistake: Mistake,
    /// How often things go wrong, in percent of the usual.
    pub(crate) trouble: usize,
    /// How much of it is about disks, in percent.
    pub(crate) disk_trouble: usize,
    /// The run is about one path and a lost disk: few operations with late messages, and a node
    /// that comes back fast.
    pub(crate) narrow: bool,
    pub(crate) now: Duration,
    pub(crate) nodes: [Node; 4],
    pub(crate) actors: Vec<Actor>,
    pub(crate) checks: Checks,
    /// The node whose disk was replaced or damaged, until it is restored.
    pub(crate) hurt: Hurt,
    pub(crate) cut_to: [PerNode<bool>; HOSTS],
    pub(crate) cut_back: [PerNode<bool>; HOSTS],
    pub(crate) paths: usize,
    pub(crate) lives: u8,
    /// A copy of a disk, made some time ago.
    pub(crate) image: Option<Box<Node>>,
    /// How the last repair left its path.
    pub(crate) repaired: Option<State>,
    pub(crate) post: Vec<Letter>,
    operations: usize,
    /// Starts of nodes, to tell one from the other.
    pub(crate) starts: u64,
    /// Nodes that come back without another one whose disk is lost as well.
    pub(crate) without: PerNode<Option<NodeId>>,
    /// Chunks that a node was asked to store, per upload.
    pub(crate) asked: BTreeMap<UploadId, PerNode<ChunkSet>>,
    /// Janitors that were told of a fence that is none.
    pub(crate) fooled: Vec<usize>,
    trace: bool,
}

impl World {
    pub(crate) fn new(seed: u64, mistake: Mistake, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let narrow = random.chance(50);
        let more = random.below(10) / 7 + random.below(10) / 8;
        let paths = if narrow { 1 } else { 1 + more };
        let nodes = NodeId::ALL.map(|id| {
            let mut node = Node::new(id, life(id.get()), paths);
            node.skew_ms = skew(&mut random);
            // They have met before.
            node.known = NodeId::ALL.map(|other| Some(life(other.get())));
            node.known_age = [(FIRST, 0); 4];
            if mistake == Mistake::LazySync {
                node.sync_lazily();
            }
            node
        });
        Self {
            mistake,
            trouble: [0, 50, 100, 100, 200][random.below(5)],
            disk_trouble: if narrow { 40 } else { [0, 0, 20][random.below(3)] },
            narrow,
            now: Duration::from_secs(100),
            nodes,
            actors: Vec::new(),
            checks: Checks::new(paths),
            hurt: None,
            cut_to: [[false; 4]; HOSTS],
            cut_back: [[false; 4]; HOSTS],
            paths,
            lives: 4,
            image: None,
            repaired: None,
            post: Vec::new(),
            operations: 0,
            starts: 0,
            without: [None; 4],
            asked: BTreeMap::new(),
            fooled: Vec::new(),
            trace,
            random,
        }
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let line: String = line().chars().take(400).collect();
            eprintln!("{:>9} ms  {line}", self.now.as_millis());
        }
    }

    /// How long this run is; most are short.
    pub(crate) fn steps(&mut self) -> usize {
        [150, 250, 250, 400, 700][self.random.below(5)]
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(40) as u64);
        self.meet();
        if self.random.below(10_000) < 15 * self.trouble {
            return self.go_wrong();
        }
        self.wake();
        match self.random.below(100) {
            0..12 if self.operations < self.most() => {
                let kinds = [Kind::Put, Kind::Put, Kind::Remove, Kind::Read, Kind::Read];
                let kind = kinds[self.random.below(kinds.len())];
                let path = self.random.below(self.paths);
                self.operations += 1;
                self.begin(kind, path);
            }
            12..16 => {
                let (node, path) = (self.random.below(4), self.random.below(self.paths));
                self.nodes[node].prune(path);
                self.look(path);
            }
            16..19 => self.heal_something(),
            19..21 => self.nodes[self.random.below(4)].sync(),
            21 => self.remember_or_forget(),
            22..25 if self.actors.iter().any(|actor| actor.wake.is_some() && !actor.stopped) => {
                let seconds = if self.narrow { 70 } else { 10 + self.random.below(20) as u64 };
                self.now += Duration::from_secs(seconds);
            }
            25 if !self.narrow => {
                let path = self.random.below(self.paths);
                self.begin(Kind::Expire, path);
            }
            _ => self.deliver(),
        }
    }

    fn most(&self) -> usize {
        if self.narrow { FEW_OPERATIONS } else { OPERATIONS }
    }

    /// Starts an operation of a client, or something that heals.
    pub(crate) fn begin(&mut self, kind: Kind, path: usize) {
        let host = match kind {
            Kind::Put | Kind::Remove | Kind::Read => self.random.below(CLIENT_HOSTS),
            Kind::Repair(_) | Kind::Janitor(_) | Kind::Expire => {
                CLIENT_HOSTS + self.random.below(4)
            }
            Kind::Rejoin(caller, _) => CLIENT_HOSTS + caller.node.index(),
        };
        let hurried = self.mistake == Mistake::RejoinAtOnce;
        let now = if hurried { self.now.saturating_sub(QUIET) } else { self.now };
        let (mut actor, wishes) = Actor::start(kind, path, host, now, &mut self.random);
        actor.floor = self.checks.completed(path);
        actor.trusting = self.mistake == Mistake::ServeRotten;
        if let (Kind::Expire, Some(node)) = (kind, host.checked_sub(CLIENT_HOSTS)) {
            let current = self.nodes[node].rows[path].current.as_ref();
            let version = current.map(|current| current.record.version.clone());
            actor.expires(version, self.mistake == Mistake::ExpireNewest);
        }
        let history = self.checks.history(path);
        actor.operation = match kind {
            Kind::Put => Some(history.begin(Some(Some(actor.upload)))),
            Kind::Remove => Some(history.begin(Some(None))),
            Kind::Read => Some(history.begin(None)),
            _ => None,
        };
        let index = self.actors.len();
        self.log(|| format!("#{index} begins {kind:?} of path {path} at host {host}"));
        self.actors.push(actor);
        self.grant(index, wishes);
    }

    fn heal_something(&mut self) {
        let heals =
            |actor: &Actor| matches!(actor.kind, Kind::Repair(_) | Kind::Janitor(_) | Kind::Expire);
        let busy = |actor: &&Actor| heals(actor) && !actor.ended && !actor.stopped;
        if self.actors.iter().filter(busy).count() >= HEALERS {
            return;
        }
        let path = self.random.below(self.paths);
        if self.random.chance(60) {
            let mode = if self.random.chance(30) { Mode::Quick } else { Mode::Thorough };
            return self.begin(Kind::Repair(mode), path);
        }
        let staged = self.staged(path);
        if let Some(upload) = staged.get(self.random.below(staged.len())).copied() {
            self.begin(Kind::Janitor(upload), path);
        }
    }

    /// Uploads that some node holds data of and that are no version there.
    pub(crate) fn staged(&self, path: usize) -> Vec<UploadId> {
        let rows = self.nodes.iter().map(|node| &node.rows[path]);
        let uploads = rows.flat_map(|row| {
            let open = |id: &&UploadId| row.committed(**id).is_none() && !row.have(**id).is_empty();
            row.uploads.keys().filter(open).copied()
        });
        let mut uploads: Vec<UploadId> = uploads.collect();
        uploads.sort_unstable();
        uploads.dedup();
        uploads
    }

    pub(crate) fn grant(&mut self, actor: usize, wishes: Wishes) {
        self.send(actor, wishes.requests);
        for outcome in wishes.outcomes {
            self.ended(actor, outcome);
        }
    }

    /// Now and then one node tells another how far it is.
    fn meet(&mut self) {
        let moment = self.now.as_millis() as usize;
        let (one, other) = (moment % 4, moment / 4 % 4);
        let Node { id, incarnation, boot, index, up, .. } = self.nodes[one];
        let reached = !self.cut_to[CLIENT_HOSTS + one][other];
        if (moment / 16).is_multiple_of(4) && one != other && up && self.nodes[other].up && reached
        {
            self.nodes[other].hear_of(id, incarnation, (boot, index.now));
        }
    }

    /// Rejoining nodes look at their clocks.
    pub(crate) fn wake(&mut self) {
        for index in 0..self.actors.len() {
            if self.actors[index].wake.is_some() && !self.actors[index].stopped {
                let wishes = self.actors[index].tick(self.now);
                self.grant(index, wishes);
            }
        }
    }

    /// Looks at everything of one path, and whether the hurt node is restored.
    pub(crate) fn look(&mut self, path: usize) {
        if let Some(id) = self.hurt
            && self.restored(id)
        {
            self.log(|| format!("node {id} is restored"));
            self.hurt = None;
        }
        self.checks.after_step(path, &self.nodes, self.hurt);
    }

    /// Whether a node no longer counts as failed: of every path its newest version is confirmed
    /// and on both pairs of opposite nodes. Each chunk on two disks is not enough: with a chunk
    /// bad on its home, the other copies may be its second home and that one's opposite.
    fn restored(&self, id: NodeId) -> bool {
        let node = &self.nodes[id.index()];
        let whole = |path: usize| {
            let Some(current) = &node.rows[path].current else {
                let rows = self.nodes.iter().map(|node| &node.rows[path]);
                return rows.filter(|row| row.tag().is_some()).count() == 0;
            };
            let version = &current.record.version;
            let Some(manifest) = version.manifest() else {
                return current.confirmed;
            };
            if self.mistake == Mistake::RestoredTooEarly {
                let home = home_chunks(manifest.x(), id);
                return node.good(path, version.upload).covers(home);
            }
            let good = self.nodes.each_ref().map(|node| node.good(path, version.upload));
            let whole = |pair: [usize; 2]| good[pair[0]].union(good[pair[1]]) == ChunkSet::ALL;
            current.confirmed && whole([0, 2]) && whole([1, 3])
        };
        !node.rejoining && node.rotten.is_empty() && (0..self.paths).all(whole)
    }

    fn ended(&mut self, index: usize, outcome: Outcome) {
        self.log(|| format!("#{index} ends: {outcome:?}"));
        let actor = &self.actors[index];
        let (path, upload, floor) = (actor.path, actor.upload, actor.floor);
        let operation = actor.operation.unwrap_or_default();
        match outcome {
            Outcome::Put(put::Outcome::Stored(_)) | Outcome::Remove(remove::Outcome::Removed) => {
                self.checks.written(path, upload, floor, &self.nodes);
                self.checks.history(path).written(operation);
            }
            Outcome::Put(put::Outcome::Unknown) => self.unknown(index),
            Outcome::Remove(remove::Outcome::Unknown) => {}
            Outcome::Put(_) => {
                self.checks.never(upload);
                self.checks.history(path).never(operation);
            }
            Outcome::Remove(end) => {
                self.checks.never(upload);
                self.checks.history(path).never(operation);
                if end == remove::Outcome::NotFound {
                    self.checks.history(path).seen(operation, None);
                }
            }
            Outcome::Read(mut outcome) => {
                if let (Mistake::NoFlag, read::Outcome::Decided { unconfirmed, .. }) =
                    (self.mistake, &mut outcome)
                {
                    *unconfirmed = false;
                }
                if let Some(value) = self.checks.read(path, &outcome, floor, &self.nodes) {
                    self.checks.history(path).seen(operation, value);
                }
            }
            Outcome::Listed(shown) => self.checks.listed(path, shown, floor, &self.nodes),
            Outcome::Bytes(bytes) => {
                self.checks.expect(bytes != Some(false), || "I5: damaged bytes were read".into());
            }
            Outcome::Repair(report) => self.repaired = Some(report.state),
            Outcome::Janitor | Outcome::Expired(None) => {}
            Outcome::Expired(Some(end)) => {
                if let Some(version) = self.actors[index].expired() {
                    self.checks.expired(path, version.tag, end.tag);
                }
            }
            Outcome::Serves => {
                if let Kind::Rejoin(caller, _) = self.actors[index].kind {
                    self.nodes[caller.node.index()].rejoining = false;
                    self.without[caller.node.index()] = None;
                    (0..self.paths).for_each(|path| self.look(path));
                }
            }
        }
    }

    /// A PUT that may take effect or not.
    fn unknown(&mut self, index: usize) {
        let (path, upload) = (self.actors[index].path, self.actors[index].upload);
        match self.mistake {
            Mistake::DiscardAfterCommit => {
                let requests = NodeId::ALL.map(|id| (id, Request::Discard(upload)));
                self.send(index, requests.into());
            }
            Mistake::RetryWithNewTag => {
                let host = self.actors[index].host;
                let (mut actor, wishes) =
                    Actor::start(Kind::Put, path, host, self.now, &mut self.random);
                actor.operation = self.actors[index].operation;
                self.checks.is_retry(actor.upload, upload);
                self.actors.push(actor);
                self.grant(self.actors.len() - 1, wishes);
            }
            _ => {}
        }
    }

    pub(crate) fn interrupt(&mut self, index: usize, patience: bool) {
        let now = self.now;
        let Some(actor) = self.actors.get_mut(index).filter(|actor| !actor.stopped) else {
            return;
        };
        let wishes = actor.interrupt(patience, now);
        self.grant(index, wishes);
    }

    /// A new disk for a node: it comes back with nothing and reads the others.
    pub(crate) fn replace_disk(&mut self, id: NodeId) {
        self.lives += 1;
        let incarnation = life(self.lives);
        let old = &self.nodes[id.index()];
        let mut node = Node::new(id, incarnation, self.paths);
        node.skew_ms = old.skew_ms;
        node.rejoining = self.mistake != Mistake::ServeEmpty;
        if self.mistake == Mistake::LazySync {
            node.sync_lazily();
        }
        self.nodes[id.index()] = node;
        self.hurt = Some(id);
        self.checks.disk_lost = true;
        if self.mistake == Mistake::ServeEmpty {
            self.nodes.iter_mut().for_each(|node| node.known[id.index()] = Some(incarnation));
        }
        self.log(|| format!("node {id} has a new disk"));
        self.rejoin(id);
    }

    /// Starts coming back, again if need be.
    pub(crate) fn rejoin(&mut self, id: NodeId) {
        for actor in &mut self.actors {
            let same = matches!(actor.kind, Kind::Rejoin(caller, _) if caller.node == id);
            actor.stopped |= same;
        }
        if self.nodes[id.index()].rejoining {
            let incarnation = self.nodes[id.index()].incarnation;
            let without = self.without[id.index()];
            self.begin(Kind::Rejoin(Caller { node: id, incarnation }, without), 0);
        }
    }
}

/// The `number`th life of some disk.
fn life(number: u8) -> Incarnation {
    Incarnation::new([number; 16])
}

/// Clocks are mostly well, and sometimes too far off to be believed.
pub(crate) fn skew(random: &mut Random) -> i64 {
    let most = if random.chance(5) { 80_000 } else { 20_000 };
    random.below(most) as i64
}
