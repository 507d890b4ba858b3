//! A node: the rows of a few paths on a disk that may rot, be lost or be replaced.

use std::collections::BTreeSet;
use std::time::Duration;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::identity::{Boot, Identity, IndexAge, Introduction};
use dfs_proto::manifest::{Content, Incarnation, UploadId};
use dfs_proto::name::ClusterName;
use dfs_proto::placement::{NodeId, PerNode, home_chunks};
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::Prepared;
use dfs_proto::protocol::read::Reply;
use dfs_proto::protocol::rejoin::Peer;
use dfs_proto::protocol::repair::Held;
use dfs_proto::protocol::row::{CommitOrder, DropEvidence, NodeView, Row, UploadState};
use dfs_proto::tag::{Hlc, Tag};

use crate::message::{Answer, Caller, Page, Request};
use crate::mistake::Mistake;

/// Where all clocks begin: far enough from 0 to be an hour slow.
pub(crate) const EPOCH_MS: u64 = 100_000_000;

/// The first start of a disk.
pub(crate) const FIRST: Boot = Boot { count: 1, nonce: 0 };

/// Of a node that was never heard of.
const NEVER: (Boot, u64) = (Boot { count: 0, nonce: 0 }, 0);

/// One node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: Boot,
    /// How many changes are on its disk.
    pub(crate) index: IndexAge,
    pub(crate) rejoining: bool,
    pub(crate) up: bool,
    /// No space left for chunks.
    pub(crate) full: bool,
    /// One row for each path.
    pub(crate) rows: Vec<Row>,
    /// Chunks that a row counts as held but that are damaged.
    pub(crate) rotten: BTreeSet<(usize, UploadId, ChunkId)>,
    /// What it has recorded of the others, and of itself.
    pub(crate) known: PerNode<Option<Incarnation>>,
    /// The last start of each that it has heard of, and how many changes.
    pub(crate) known_age: PerNode<(Boot, u64)>,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) skew_ms: i64,
    /// Confirms that a crash loses.
    unsynced: Vec<(usize, Tag)>,
    /// The rows as they are on the disk, if nodes acknowledge before they sync.
    durable: Option<Vec<Row>>,
}

impl Node {
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, paths: usize) -> Self {
        let mut known = [None; 4];
        known[id.index()] = Some(incarnation);
        Self {
            id,
            incarnation,
            boot: FIRST,
            index: IndexAge::default(),
            rejoining: false,
            up: true,
            full: false,
            rows: vec![Row::default(); paths],
            rotten: BTreeSet::new(),
            known,
            known_age: [NEVER; 4],
            skew_ms: 0,
            unsynced: Vec::new(),
            durable: None,
        }
    }

    /// The process begins, for the `nonce`th time of all.
    pub(crate) fn start(&mut self, nonce: u64) {
        self.up = true;
        self.boot = Boot { count: self.boot.count + 1, nonce };
        self.index.at_start = self.index.now;
    }

    /// Hears how far another node is.
    pub(crate) fn hear_of(&mut self, id: NodeId, incarnation: Incarnation, age: (Boot, u64)) {
        if self.known[id.index()] == Some(incarnation) {
            self.known_age[id.index()] = age;
        }
    }

    /// Whether what this node remembers of another one is later than this disk of that one.
    pub(crate) fn knows_more(&self, other: &Self, mistake: Mistake) -> bool {
        let (boot, group) = self.known_age[other.id.index()];
        let group = if mistake == Mistake::ForgetGroups { 0 } else { group };
        let identity = Identity {
            cluster: ClusterName::new("demo").expect("a name"),
            node: other.id,
            incarnation: other.incarnation,
            boot: other.boot,
            rejoining: other.rejoining,
        };
        let introduction = Introduction { identity, index: other.index };
        self.known[other.id.index()] != Some(other.incarnation)
            || !introduction.may_follow(boot, group)
    }

    /// Chunks of an upload that are there and good.
    pub(crate) fn good(&self, path: usize, upload: UploadId) -> ChunkSet {
        let held = self.rows[path].have(upload);
        held.iter().filter(|chunk| !self.rotten.contains(&(path, upload, *chunk))).collect()
    }

    pub(crate) fn clock_ms(&self, now: Duration) -> u64 {
        self.true_ms(now).saturating_add_signed(self.skew_ms)
    }

    /// What a clock shows that is right.
    pub(crate) fn true_ms(&self, now: Duration) -> u64 {
        EPOCH_MS + u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    /// The process ends: what was not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        if let Some(durable) = &self.durable {
            self.rows.clone_from(durable);
        }
        for (path, tag) in std::mem::take(&mut self.unsynced) {
            if let Some(current) = &mut self.rows[path].current
                && current.record.version.tag == tag
            {
                current.confirmed = false;
            }
        }
    }

    /// What was written is on the disk.
    pub(crate) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable = self.durable.take().map(|_| self.rows.clone());
    }

    /// Acknowledges from now on what is not on the disk.
    pub(crate) fn sync_lazily(&mut self) {
        self.durable = Some(self.rows.clone());
    }

    pub(crate) fn view(&self, now: Duration) -> NodeView {
        NodeView {
            now_ms: self.clock_ms(now),
            position: self.id,
            rejoining: self.rejoining,
            incarnations: self.known,
        }
    }

    /// Does what it is asked to; copying from other nodes is left to the caller.
    pub(crate) fn execute(
        &mut self,
        path: usize,
        request: Request,
        now: Duration,
        mistake: Mistake,
    ) -> Answer {
        let refused = Answer::Failed(CommitAnswer::NoAnswer);
        if !matches!(request, Request::Ask | Request::Fetch(..) | Request::Page(..)) {
            self.index.now += 1;
        }
        let mut view = self.view(now);
        match (mistake, &request) {
            (Mistake::RejoiningTakesWrites, Request::Prepare(..) | Request::Commit(_))
            | (Mistake::RejoiningFences, Request::Fence(_)) => view.rejoining = false,
            _ => {}
        }
        let trusts_lost_disk = match (mistake, &request) {
            (Mistake::CommitOnLostDisk, Request::Commit(order)) => !order.write_back,
            (Mistake::WriteBackOnLostDisk, Request::Commit(order)) => order.write_back,
            (Mistake::DropOnLostDisk, Request::Drop(..)) => true,
            _ => false,
        };
        if trusts_lost_disk {
            view.incarnations = [None; 4];
        }
        let row = &mut self.rows[path];
        match request {
            Request::Prepare(upload, chunks) => {
                let mut each = chunks.iter();
                if self.full || each.any(|chunk| row.prepare(&view, upload, chunk).is_err()) {
                    return refused;
                }
                // What is written anew is good.
                self.rotten.retain(|(p, u, c)| (*p, *u) != (path, upload) || !chunks.contains(*c));
                let tag = self.reply(path, now).tag_answer();
                Answer::Prepared(Prepared { incarnation: self.incarnation, tag })
            }
            Request::Commit(order) => Answer::Commit(self.commit(path, order, view, mistake)),
            Request::Discard(upload) => {
                if row.fence(&view, upload).is_ok() {
                    let _ = row.drop_upload(&view, upload, &DropEvidence::NeverCommitted);
                }
                Answer::Done
            }
            Request::Confirm(tag) => {
                row.confirm(tag);
                self.unsynced.push((path, tag));
                Answer::Done
            }
            Request::Fence(upload) => match row.fence(&view, upload) {
                Ok(answer) => Answer::Fence(self.incarnation, answer),
                Err(_) => refused,
            },
            _ if self.rejoining && !matches!(request, Request::Hello(_) | Request::Page(..)) => {
                refused
            }
            Request::Ask => Answer::Reply(Box::new(self.reply(path, now))),
            Request::Fetch(upload, chunk) if row.have(upload).contains(chunk) => {
                Answer::Chunk { good: self.good(path, upload).contains(chunk) }
            }
            Request::Fetch(..) | Request::Pull { .. } => refused,
            Request::Look(upload, reread) => {
                if mistake == Mistake::ReleaseUnseen {
                    self.release_all(path, upload);
                }
                Answer::Held(self.look(path, upload, reread))
            }
            Request::Release(order) => Answer::Released(row.release(&view, &order).is_ok()),
            Request::Drop(upload, incarnations) => {
                let evidence = DropEvidence::FencedBy(incarnations);
                Answer::Dropped(row.drop_upload(&view, upload, &evidence).is_ok())
            }
            Request::Hello(caller) => Answer::Peer(self.meet(caller)),
            Request::Page(caller, _) => Answer::Page(Box::new(self.page(caller, path))),
        }
    }

    fn commit(
        &mut self,
        path: usize,
        mut order: CommitOrder,
        view: NodeView,
        mistake: Mistake,
    ) -> CommitAnswer {
        order.write_back |= mistake == Mistake::CommitUnprepared;
        match self.rows[path].commit(&view, &order) {
            Ok(_) => CommitAnswer::Acked,
            Err(refused) => CommitAnswer::Refused(refused),
        }
    }

    fn reply(&self, path: usize, now: Duration) -> Reply {
        let current = self.rows[path].current.as_ref();
        Reply {
            incarnation: self.incarnation,
            current: current.map(|current| current.record.clone()),
            confirmed: current.is_none_or(|current| current.confirmed),
            proposed: Hlc::from_ms(self.clock_ms(now)),
        }
    }

    /// Reads chunks again: damaged ones are no longer held.
    fn look(&mut self, path: usize, upload: UploadId, reread: ChunkSet) -> Held {
        let found = |chunk: &ChunkId| self.rotten.contains(&(path, upload, *chunk));
        let bad: ChunkSet = reread.iter().filter(found).collect();
        self.rows[path].lose_chunks(upload, bad);
        self.rotten.retain(|(p, u, c)| (*p, *u) != (path, upload) || !bad.contains(*c));
        self.held(path, upload, bad)
    }

    pub(crate) fn held(&self, path: usize, upload: UploadId, bad: ChunkSet) -> Held {
        Held { incarnation: self.incarnation, have: self.rows[path].have(upload), bad }
    }

    fn release_all(&mut self, path: usize, upload: UploadId) {
        let id = self.id;
        if let Some(current) = &mut self.rows[path].current
            && current.record.version.upload == upload
            && let Content::File(manifest) = &current.record.version.content
        {
            let home = home_chunks(manifest.x(), id);
            let foreign = current.record.have.minus(home);
            current.record.have = current.record.have.minus(foreign);
        }
    }

    /// Records a node with its new disk.
    fn meet(&mut self, caller: Caller) -> Peer {
        self.known[caller.node.index()] = Some(caller.incarnation);
        self.known_age[caller.node.index()] = (FIRST, 0);
        self.as_peer(caller)
    }

    fn as_peer(&self, caller: Caller) -> Peer {
        Peer {
            incarnation: self.incarnation,
            serving: !self.rejoining,
            remembers: self.known[caller.node.index()],
        }
    }

    fn page(&self, caller: Caller, path: usize) -> Page {
        let row = &self.rows[path];
        let newest = row.current.as_ref().map(|c| (c.record.version.clone(), c.confirmed));
        let fenced = row.uploads.iter().filter(|(_, upload)| upload.state == UploadState::Fenced);
        Page {
            peer: self.as_peer(caller),
            path,
            newest,
            fenced: fenced.map(|(upload, _)| *upload).collect(),
            last: path + 1 == self.rows.len(),
        }
    }

    /// Takes what another node says to this one, which rejoins.
    pub(crate) fn hear(&mut self, id: NodeId, answer: &Answer, now: Duration, mistake: Mistake) {
        match answer {
            Answer::Peer(peer) if mistake != Mistake::RejoinForgetsPeers => {
                self.known[id.index()] = Some(peer.incarnation);
            }
            Answer::Page(page) => self.adopt(page, now, mistake),
            _ => {}
        }
    }

    fn adopt(&mut self, page: &Page, now: Duration, mistake: Mistake) {
        self.index.now += 1;
        let now_ms = self.clock_ms(now);
        let row = &mut self.rows[page.path];
        if let Some((version, confirmed)) = page.newest.clone() {
            row.adopt(now_ms, version, confirmed);
        }
        if mistake != Mistake::RejoinWithoutFences {
            page.fenced.iter().for_each(|upload| row.adopt_fence(now_ms, *upload));
        }
    }

    /// Removes what superseded versions have left, with no grace at all.
    pub(crate) fn prune(&mut self, path: usize) {
        let row = &mut self.rows[path];
        let uploads: Vec<UploadId> = row.uploads.keys().copied().collect();
        for upload in uploads {
            if row.prune(u64::MAX, 0, upload).is_some() {
                self.rotten.retain(|(p, u, _)| (*p, *u) != (path, upload));
            }
        }
    }

    /// Damage to chunks that are gone is gone as well.
    pub(crate) fn forget_rot(&mut self) {
        let rows = &self.rows;
        self.rotten.retain(|(path, upload, chunk)| rows[*path].have(*upload).contains(*chunk));
    }
}
