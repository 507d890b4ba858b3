//! The census: what the last pass saw of all files, and what the loss of nodes would cost.
//!
//! Only numbers are kept, no names. They are as old as the pass; who shows them says so.

use dfs_proto::digest::Residue;
use dfs_proto::placement::{NodeId, PerNode, home_chunks};
use dfs_proto::protocol::health::{Health, readable_without};
use dfs_proto::protocol::listing::judge;

use super::survey::Surveyed;

/// Sets of nodes, as bits of a number: node 1 is the lowest.
const SETS: usize = 16;

/// Files of one turn of the placement table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) files: u64,
    /// Those of which a node held both its chunks.
    pub(crate) held: PerNode<u64>,
}

/// Counts of all files of all users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// When it was taken, milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) complete: u64,
    pub(crate) degraded: u64,
    pub(crate) incomplete: u64,
    pub(crate) unknown: u64,
    pub(crate) bytes: u64,
    /// Chunks of this node: where they belong, held for another node, and those it lacks.
    pub(crate) home: u64,
    pub(crate) spilled: u64,
    pub(crate) missing: u64,
    /// Nodes that were asked to the end.
    pub(crate) took_part: PerNode<bool>,
    /// By turn of the placement table.
    pub(crate) turns: [Turn; 4],
    /// By set of nodes lost: files that could not be read without them.
    unreadable: [u64; SETS],
}

impl Census {
    /// Counts one path, for the node `own`.
    pub(crate) fn count(&mut self, own: NodeId, surveyed: &Surveyed) {
        let Some(listed) = judge(&surveyed.entries) else { return };
        *match listed.health {
            Health::Complete => &mut self.complete,
            Health::Degraded => &mut self.degraded,
            Health::Incomplete => &mut self.incomplete,
            Health::Unknown => &mut self.unknown,
        } += 1;
        let x = listed.file.x;
        self.bytes = self.bytes.saturating_add(listed.file.size);
        let turn = &mut self.turns[usize::from(x.get())];
        turn.files += 1;
        for id in NodeId::ALL {
            let have = listed.nodes[id.index()].unwrap_or_default();
            turn.held[id.index()] += u64::from(have.covers(home_chunks(x, id)));
        }
        for (set, unreadable) in self.unreadable.iter_mut().enumerate() {
            *unreadable += u64::from(!readable_without(&listed.nodes, &nodes_of(set)));
        }
        if let Some(have) = listed.nodes[own.index()] {
            let home = home_chunks(x, own);
            self.home += chunks(have.iter().filter(|chunk| home.contains(*chunk)));
            self.spilled += chunks(have.minus(home).iter());
            self.missing += chunks(home.minus(have).iter());
        }
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> u64 {
        self.complete + self.degraded + self.incomplete + self.unknown
    }

    /// How many files could not be read if exactly these nodes were lost.
    pub(crate) fn unreadable_without(&self, lost: &[NodeId]) -> u64 {
        let set = lost.iter().fold(0, |set, id| set | 1 << id.index());
        self.unreadable[set]
    }

    /// The turn of the placement table `x`.
    pub(crate) fn turn(&self, x: Residue) -> &Turn {
        &self.turns[usize::from(x.get())]
    }
}

fn chunks(of: impl Iterator) -> u64 {
    u64::try_from(of.count()).unwrap_or(u64::MAX)
}

fn nodes_of(set: usize) -> Vec<NodeId> {
    NodeId::ALL.into_iter().filter(|id| set & 1 << id.index() != 0).collect()
}

#[cfg(test)]
impl Census {
    /// Counts a file that is whole but for one node.
    pub(crate) fn count_sample(&mut self, x: Residue, without: Option<NodeId>) {
        let entries = NodeId::ALL
            .map(|id| (Some(id) != without).then(|| Some(tests::entry(x, home_chunks(x, id)))));
        self.count(NodeId::N1, &tests::surveyed(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::UserPath;
    use dfs_proto::chunk::ChunkSet;
    use dfs_proto::manifest::UploadId;
    use dfs_proto::name::{FilePath, UserName};
    use dfs_proto::protocol::listing::{Entry, FileEntry};
    use dfs_proto::tag::{Hlc, Tag};

    const X: Residue = Residue::ALL[1];

    pub(super) fn entry(x: Residue, have: ChunkSet) -> Entry {
        let upload = UploadId::new([1; 16]);
        Entry {
            path: FilePath::new("a").unwrap(),
            tag: Tag { hlc: Hlc::new(7), writer: [1; 16] },
            confirmed: true,
            file: Some(FileEntry { upload, size: 100, x, have, manifest: None }),
        }
    }

    pub(super) fn surveyed(entries: PerNode<Option<Option<Entry>>>) -> Surveyed {
        let user = UserName::new("alice").unwrap();
        Surveyed { of: UserPath { user, path: FilePath::new("a").unwrap() }, entries }
    }

    /// Counts a path of which each node holds these chunks; the outer `None`: it is out.
    fn count(census: &mut Census, own: NodeId, have: PerNode<Option<Option<ChunkSet>>>) {
        let entries = have.map(|have| have.map(|have| have.map(|have| entry(X, have))));
        census.count(own, &surveyed(entries));
    }

    fn at_home() -> PerNode<Option<Option<ChunkSet>>> {
        NodeId::ALL.map(|id| Some(Some(home_chunks(X, id))))
    }

    #[test]
    fn a_whole_file_survives_one_node_or_two_opposite_ones() {
        let mut census = Census::default();
        count(&mut census, NodeId::N1, at_home());
        assert_eq!((census.complete, census.files(), census.bytes), (1, 1, 100));
        assert_eq!((census.home, census.spilled, census.missing), (2, 0, 0));
        assert_eq!(*census.turn(X), Turn { files: 1, held: [1; 4] });
        assert_eq!(census.unreadable_without(&[]), 0);
        for id in NodeId::ALL {
            assert_eq!(census.unreadable_without(&[id]), 0);
            assert_eq!(census.unreadable_without(&[id, id.opposite()]), 0);
            let next = NodeId::ALL[(id.index() + 1) % 4];
            assert_eq!(census.unreadable_without(&[next, id]), 1);
        }
        assert_eq!(census.unreadable_without(&NodeId::ALL), 1);
    }

    #[test]
    fn what_a_node_lacks_shows_what_may_not_fail_next() {
        let mut census = Census::default();
        let mut have = at_home();
        have[2] = None;
        count(&mut census, NodeId::N1, have);
        assert_eq!((census.complete, census.degraded), (0, 1));
        assert_eq!(census.turn(X).held, [1, 1, 0, 1]);
        assert_eq!(census.unreadable_without(&[]), 0);
        assert_eq!(census.unreadable_without(&[NodeId::N1]), 0, "the opposite one");
        assert_eq!(census.unreadable_without(&[NodeId::N2]), 1);
        assert_eq!(census.unreadable_without(&[NodeId::N4]), 1);

        have = [None, Some(None), Some(Some(ChunkSet::ALL)), None];
        count(&mut census, NodeId::N3, have);
        assert_eq!((census.degraded, census.spilled), (2, 2));
        have[2] = Some(None);
        count(&mut census, NodeId::N3, have);
        assert_eq!(census.files(), 2, "nobody knows the path");
        have[2] = Some(Some(ChunkSet::EMPTY));
        count(&mut census, NodeId::N3, have);
        assert_eq!((census.incomplete, census.missing), (1, 2));
        have[1] = None;
        count(&mut census, NodeId::N3, have);
        assert_eq!(census.unknown, 1, "one node alone says nothing certain");
    }
}
