//! Placement: which two chunks live on which node.
//!
//! ```text
//!  x   node 1  node 2  node 3  node 4
//!  0    1,2     2,3     3,4     4,1
//!  1    4,1     1,2     2,3     3,4
//!  2    3,4     4,1     1,2     2,3
//!  3    2,3     3,4     4,1     1,2
//! ```
//!
//! For every x the opposite pairs 1+3 and 2+4 each hold all four chunks, any three nodes do,
//! and no two neighbours do.

use std::fmt;

use crate::chunk::{ChunkId, ChunkSet};
use crate::digest::Residue;

/// A position in the cluster, 1..4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// Node 1.
    N1,
    /// Node 2.
    N2,
    /// Node 3.
    N3,
    /// Node 4.
    N4,
}

impl NodeId {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::N1, Self::N2, Self::N3, Self::N4];

    /// Takes 1..4.
    pub fn new(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }

    /// The number, 1..4.
    pub const fn get(self) -> u8 {
        self as u8 + 1
    }

    /// The place in an array of four, 0..3.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The node two positions on: with it this node holds a whole copy of every file.
    pub const fn opposite(self) -> Self {
        Self::ALL[(self.index() + 2) % 4]
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// One value for each of the four nodes.
pub type PerNode<T> = [T; 4];

/// The first of the two chunks that `node` keeps of a file with residue `x`.
pub const fn first_home_chunk(x: Residue, node: NodeId) -> ChunkId {
    ChunkId::ALL[(node.index() + 4 - x.get() as usize) % 4]
}

/// The two chunks that `node` keeps of a file with residue `x`.
pub const fn home_chunks(x: Residue, node: NodeId) -> ChunkSet {
    let first = first_home_chunk(x, node);
    let second = ChunkId::ALL[(first.index() + 1) % 4];
    ChunkSet::EMPTY.with(first).with(second)
}

/// The two nodes that keep `chunk` of a file with residue `x`; first the one that sends it in
/// a read from all four nodes.
pub const fn homes(x: Residue, chunk: ChunkId) -> [NodeId; 2] {
    let first = (chunk.index() + x.get() as usize) % 4;
    [NodeId::ALL[first], NodeId::ALL[(first + 3) % 4]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as it is published: rows x, columns nodes.
    const TABLE: [[[u32; 2]; 4]; 4] = [
        [[1, 2], [2, 3], [3, 4], [4, 1]],
        [[4, 1], [1, 2], [2, 3], [3, 4]],
        [[3, 4], [4, 1], [1, 2], [2, 3]],
        [[2, 3], [3, 4], [4, 1], [1, 2]],
    ];

    #[test]
    fn follows_the_table() {
        for x in Residue::ALL {
            for node in NodeId::ALL {
                let [first, second] = TABLE[usize::from(x.get())][node.index()]
                    .map(|number| ChunkId::new(number).unwrap());
                assert_eq!(first_home_chunk(x, node), first, "x {x:?} node {node}");
                let pair: ChunkSet = [first, second].into_iter().collect();
                assert_eq!(home_chunks(x, node), pair, "x {x:?} node {node}");
            }
        }
    }

    #[test]
    fn homes_and_home_chunks_agree() {
        for x in Residue::ALL {
            for chunk in ChunkId::ALL {
                for node in NodeId::ALL {
                    let listed = homes(x, chunk).contains(&node);
                    assert_eq!(listed, home_chunks(x, node).contains(chunk));
                }
                assert_eq!(first_home_chunk(x, homes(x, chunk)[0]), chunk);
            }
        }
    }

    #[test]
    fn opposite_pairs_and_triples_are_whole_and_neighbours_are_not() {
        for x in Residue::ALL {
            for nodes in 0..16u32 {
                let up = |node: &NodeId| nodes & (1 << node.index()) != 0;
                let held = NodeId::ALL
                    .into_iter()
                    .filter(up)
                    .fold(ChunkSet::EMPTY, |set, node| set.union(home_chunks(x, node)));
                let whole = nodes.count_ones() >= 3 || nodes == 0b0101 || nodes == 0b1010;
                assert_eq!(held == ChunkSet::ALL, whole, "x {x:?} nodes {nodes:04b}");
            }
        }
    }

    #[test]
    fn first_home_chunks_are_all_four() {
        for x in Residue::ALL {
            let set: ChunkSet =
                NodeId::ALL.into_iter().map(|node| first_home_chunk(x, node)).collect();
            assert_eq!(set, ChunkSet::ALL);
        }
    }

    #[test]
    fn with_one_node_absent_the_opposite_ends_with_all_and_pairs_are_whole() {
        for x in Residue::ALL {
            for absent in NodeId::ALL {
                let held = |node: NodeId| match node {
                    n if n == absent => ChunkSet::EMPTY,
                    n if n == absent.opposite() => home_chunks(x, n).union(home_chunks(x, absent)),
                    n => home_chunks(x, n),
                };
                assert_eq!(held(absent.opposite()), ChunkSet::ALL);
                for lost in NodeId::ALL {
                    for also in [lost, lost.opposite()] {
                        let left = NodeId::ALL
                            .into_iter()
                            .filter(|node| *node != lost && *node != also)
                            .fold(ChunkSet::EMPTY, |set, node| set.union(held(node)));
                        assert_eq!(left, ChunkSet::ALL, "absent {absent}, lost {lost} and {also}");
                    }
                }
            }
        }
    }
}
