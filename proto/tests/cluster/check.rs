//! What must hold after every step and for every answer that a client gets.
//!
//! The numbers I1 to I18 are used in messages; each is explained where it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, Incarnation, UploadId};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::read;
use dfs_proto::protocol::row::UploadState;
use dfs_proto::tag::Tag;

use crate::history::History;
use crate::list::Shown;
use crate::node::Node;

/// Failures that a file survives: none, any node, any opposite pair; as masks of nodes.
const ALLOWED_FAILURES: [usize; 7] = [0b0000, 0b0001, 0b0010, 0b0100, 0b1000, 0b0101, 0b1010];

/// What is known of one path.
#[derive(Default)]
struct Path {
    /// The largest tag of all completed operations.
    completed: Option<Tag>,
    current: PerNode<Option<(Incarnation, Option<Tag>)>>,
    /// Every upload that was committed somewhere.
    committed: BTreeSet<UploadId>,
    /// The tags of all writes that were acknowledged.
    acknowledged: BTreeSet<Tag>,
    /// Versions whose time was over: their tags, each with that of the tombstone that followed.
    expired: BTreeMap<Tag, Tag>,
    history: History,
}

/// What was promised so far.
pub(crate) struct Checks {
    paths: Vec<Path>,
    /// Uploads that ended with "nothing happened".
    never: BTreeSet<UploadId>,
    /// Uploads that are the same PUT once more.
    retries: BTreeMap<UploadId, UploadId>,
    /// A disk was replaced, so that some data is not where it was prepared.
    pub(crate) disk_lost: bool,
    /// Two disks were lost at once.
    pub(crate) two_lost: bool,
    broken: Option<String>,
}

/// Which node counts as failed: its disk was replaced or damaged and it is not restored.
pub(crate) type Hurt = Option<NodeId>;

impl Checks {
    pub(crate) fn new(paths: usize) -> Self {
        Self {
            paths: (0..paths).map(|_| Path::default()).collect(),
            never: BTreeSet::new(),
            retries: BTreeMap::new(),
            disk_lost: false,
            two_lost: false,
            broken: None,
        }
    }

    pub(crate) fn expect(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(promise());
        }
    }

    pub(crate) fn result(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn history(&mut self, path: usize) -> &mut History {
        &mut self.paths[path].history
    }

    pub(crate) fn completed(&self, path: usize) -> Option<Tag> {
        self.paths[path].completed
    }

    /// I16: "nothing happened" is for ever.
    pub(crate) fn never(&mut self, upload: UploadId) {
        self.never.insert(upload);
    }

    pub(crate) fn is_retry(&mut self, upload: UploadId, of: UploadId) {
        self.retries.insert(upload, of);
    }

    /// A PUT or removal was acknowledged.
    pub(crate) fn written(
        &mut self,
        path: usize,
        upload: UploadId,
        floor: Option<Tag>,
        nodes: &[Node; 4],
    ) {
        let tag = nodes.iter().filter_map(|node| tag_of(node, path, upload)).max();
        // A tombstone that was overtaken is remembered nowhere.
        let overtaken = enough(nodes, path, self.completed(path));
        self.expect(tag.is_some() || overtaken, || format!("I2: {upload} is nowhere"));
        if tag.is_none() {
            return;
        }
        self.expect(tag > floor, || format!("I6: wrote {tag:?} after {floor:?}"));
        self.expect(enough(nodes, path, tag), || {
            format!("I2: {tag:?} was acknowledged, but is not on three nodes")
        });
        self.complete(path, tag);
        self.paths[path].acknowledged.extend(tag);
        self.only_the_expired(path);
    }

    /// A version is over, and a tombstone with the tag `end` follows it.
    pub(crate) fn expired(&mut self, path: usize, version: Tag, end: Tag) {
        if self.paths[path].expired.insert(version, end).is_none() {
            self.history(path).begin(Some(None));
        }
        self.only_the_expired(path);
    }

    /// I18: with a version that is over nothing goes that was written since.
    fn only_the_expired(&mut self, path: usize) {
        let Path { expired, acknowledged, .. } = &self.paths[path];
        let with = |(version, end): (&Tag, &Tag)| {
            let since = (Bound::Excluded(*version), Bound::Excluded(*end));
            acknowledged.range(since).next().map(|gone| (*version, *gone))
        };
        let gone = expired.iter().find_map(with);
        self.expect(gone.is_none(), || format!("I18: expired and what went with it: {gone:?}"));
    }

    fn complete(&mut self, path: usize, tag: Option<Tag>) {
        let completed = &mut self.paths[path].completed;
        *completed = (*completed).max(tag);
    }

    /// A read was answered. Returns what it saw, if it may be held to that.
    pub(crate) fn read(
        &mut self,
        path: usize,
        outcome: &read::Outcome,
        floor: Option<Tag>,
        nodes: &[Node; 4],
    ) -> Option<Option<UploadId>> {
        let read::Outcome::Decided { version, unconfirmed } = outcome else {
            return None;
        };
        let tag = version.as_ref().map(|version| version.tag);
        // I6 and I7: never older than what was completed before it began, flag or not.
        self.expect(tag >= floor, || format!("I6: read {tag:?}, but {floor:?} was completed"));
        if *unconfirmed {
            return None;
        }
        self.expect(enough(nodes, path, tag), || {
            format!("I7: read {tag:?} without a flag, but it is not on three nodes")
        });
        self.complete(path, tag);
        let file = version.as_ref().filter(|version| version.content != Content::Tombstone);
        let upload = file.map(|version| version.upload);
        Some(upload.map(|upload| *self.retries.get(&upload).unwrap_or(&upload)))
    }

    /// I15: what was completed before a listing began is in it with that tag or a newer one,
    /// and what was removed before is not. What has no flag is on three nodes.
    pub(crate) fn listed(
        &mut self,
        path: usize,
        Shown { file, newest }: Shown,
        floor: Option<Tag>,
        nodes: &[Node; 4],
    ) {
        let newest_tag = newest.map(|(tag, _)| tag);
        self.expect(newest_tag >= floor, || {
            format!("I15: a listing knows {newest_tag:?}, but {floor:?} was completed")
        });
        let expected = newest.filter(|(_, is_file)| *is_file).map(|(tag, _)| tag);
        let tag = file.map(|(tag, _)| tag);
        self.expect(tag == expected, || {
            format!("I15: listed is {tag:?}, the newest file is {expected:?}")
        });
        let flagged = file.is_none_or(|(_, unconfirmed)| unconfirmed);
        self.expect(flagged || enough(nodes, path, tag), || {
            format!("I15: {tag:?} is listed without a flag, but is not on three nodes")
        });
    }

    /// I8: data of an upload went from a node that fenced it.
    pub(crate) fn dropped(&mut self, path: usize, upload: UploadId, nodes: &[Node; 4]) {
        for node in nodes {
            let Some(tag) = tag_of(node, path, upload) else {
                continue;
            };
            let newer = nodes.iter().filter(|node| node.rows[path].tag() > Some(tag)).count();
            self.expect(newer >= 3, || {
                format!("I8: data of {upload} was dropped, but node {} has it", node.id)
            });
        }
    }

    /// All that can be seen of one path on the nodes, after something changed.
    pub(crate) fn after_step(&mut self, path: usize, nodes: &[Node; 4], hurt: Hurt) {
        for node in nodes {
            self.row(path, node, nodes);
        }
        // I2: a completed version stays.
        let completed = self.completed(path);
        self.expect(enough(nodes, path, completed), || {
            format!("I2: {completed:?} was completed, but is not on three nodes")
        });
        // I14: one node rejoins at most, if only one disk is lost.
        let rejoining = nodes.iter().filter(|node| node.rejoining).count();
        self.expect(rejoining <= 1 || self.two_lost, || "I14: two nodes rejoin".into());
        let hurt = hurt.map_or(0, |id| 1 << id.index());
        for failed in ALLOWED_FAILURES {
            if ALLOWED_FAILURES.contains(&(failed | hurt)) {
                self.survives(path, nodes, failed);
            }
        }
    }

    fn row(&mut self, path: usize, node: &Node, nodes: &[Node; 4]) {
        let row = &node.rows[path];
        let index = node.id.index();
        let tag = row.tag();
        let before = self.paths[path].current[index].replace((node.incarnation, tag));
        // I1: a tag never decreases while the disk lives.
        let forward = before.is_none_or(|(life, old)| life != node.incarnation || tag >= old);
        self.expect(forward, || format!("I1: node {} went back to {tag:?}", node.id));
        if let Some(current) = &row.current {
            // I9: what is marked as confirmed is on three nodes.
            let safe = !current.confirmed || enough(nodes, path, tag);
            self.expect(safe, || format!("I9: {tag:?} is confirmed, but not on three nodes"));
            self.committed(path, current.record.version.upload, nodes);
        }
        for (upload, kept) in &row.uploads {
            if matches!(kept.state, UploadState::Superseded(_)) {
                self.committed(path, *upload, nodes);
            }
        }
    }

    fn committed(&mut self, path: usize, upload: UploadId, nodes: &[Node; 4]) {
        let never = self.never.contains(&upload);
        self.expect(!never, || format!("I16: {upload} did not happen, it was said, but has"));
        if !self.paths[path].committed.insert(upload) || self.disk_lost {
            return;
        }
        let file = |node: &Node| {
            let record = node.rows[path].committed(upload);
            record.is_some_and(|record| record.version.content != Content::Tombstone)
        };
        // I3: before the first Commit every chunk is on two disks.
        let held = nodes.each_ref().map(|node| node.rows[path].have(upload));
        let prepared = held.iter().filter(|have| !have.is_empty()).count() >= 3;
        let twice = ChunkSet::ALL
            .iter()
            .all(|chunk| held.iter().filter(|have| have.contains(chunk)).count() >= 2);
        let whole = !nodes.iter().any(file) || prepared && twice;
        self.expect(whole, || format!("I3: {upload} was committed and not prepared: {held:?}"));
    }

    /// I4: without the nodes in `failed`, what the others show as newest can be rebuilt.
    fn survives(&mut self, path: usize, nodes: &[Node; 4], failed: usize) {
        let left = || nodes.iter().filter(|node| failed & (1 << node.id.index()) == 0);
        let live = left().filter(|node| !node.rejoining);
        if live.clone().count() < 2 {
            return;
        }
        let newest = live
            .filter_map(|node| node.rows[path].current.as_ref())
            .max_by_key(|current| current.record.version.tag);
        let version = newest.map(|current| &current.record.version);
        let (tag, completed) = (version.map(|version| version.tag), self.completed(path));
        self.expect(tag >= completed, || {
            format!("I2: without {failed:04b} the newest is {tag:?}, completed was {completed:?}")
        });
        let Some(version) = version.filter(|version| version.content != Content::Tombstone) else {
            return;
        };
        let good = |all: ChunkSet, node: &Node| all.union(node.good(path, version.upload));
        let good = left().fold(ChunkSet::EMPTY, good);
        self.expect(good == ChunkSet::ALL, || {
            format!("I4: without {failed:04b} only {good:?} of {tag:?} is left")
        });
    }

    /// I6: one order of operations explains all answers.
    pub(crate) fn histories(&mut self) {
        for path in 0..self.paths.len() {
            let history = &self.paths[path].history;
            if !history.is_linearizable() {
                let history = format!("{history:?}");
                self.expect(false, || format!("I6: no order explains path {path}: {history}"));
            }
        }
    }
}

fn tag_of(node: &Node, path: usize, upload: UploadId) -> Option<Tag> {
    node.rows[path].committed(upload).map(|record| record.version.tag)
}

/// Whether three nodes have a tag or a larger one; a rejoining node need not.
fn enough(nodes: &[Node; 4], path: usize, tag: Option<Tag>) -> bool {
    let has = |node: &Node| node.rejoining || node.rows[path].tag() >= tag;
    nodes.iter().filter(|node| has(node)).count() >= 3
}
