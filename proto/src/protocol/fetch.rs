//! Who sends which chunk of a decided version.
//!
//! Four chunks are fetched, never eight: each from one node, and from another only where the
//! first fails, going on where it stopped.

use crate::chunk::{ChunkId, ChunkSet};
use crate::placement::{NodeId, PerNode};

/// How much is known of a node as a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It takes no part in this read.
    Out,
    /// It said that it holds these chunks; it may hold others, prepared but not current.
    Up(ChunkSet),
}

/// The sources of one read.
#[derive(Debug, Clone)]
pub struct Fetch {
    sources: PerNode<Source>,
    tried: PerNode<ChunkSet>,
}

impl Fetch {
    /// Starts with what the nodes said.
    pub fn new(sources: PerNode<Source>) -> Self {
        Self { sources, tried: [ChunkSet::EMPTY; 4] }
    }

    /// Assigns each of `wanted` to a node that said it holds it, so that the busiest node
    /// sends as little as possible. Chunks that nobody is known to hold get `None`.
    pub fn plan(&self, wanted: ChunkSet) -> [Option<NodeId>; 4] {
        let options = ChunkId::ALL.map(|chunk| {
            let known = |id: &NodeId| wanted.contains(chunk) && self.holds(*id, chunk);
            let nodes: Vec<Option<NodeId>> =
                NodeId::ALL.into_iter().filter(known).map(Some).collect();
            if nodes.is_empty() { vec![None] } else { nodes }
        });
        let mut best = ([None; 4], usize::MAX);
        for a in &options[0] {
            for b in &options[1] {
                for c in &options[2] {
                    for d in &options[3] {
                        let plan = [*a, *b, *c, *d];
                        let cost = cost(&plan);
                        if cost < best.1 {
                            best = (plan, cost);
                        }
                    }
                }
            }
        }
        best.0
    }

    /// Records that `id` could not send `chunk`, and returns whom to ask instead: first those
    /// that said they hold it, then those that may.
    pub fn failed(&mut self, id: NodeId, chunk: ChunkId) -> Option<NodeId> {
        self.tried[id.index()] = self.tried[id.index()].with(chunk);
        self.next(chunk)
    }

    /// Whom to ask for `chunk` next, if there is anybody left.
    pub fn next(&self, chunk: ChunkId) -> Option<NodeId> {
        let untried = |id: &NodeId| {
            self.sources[id.index()] != Source::Out && !self.tried[id.index()].contains(chunk)
        };
        let left = || NodeId::ALL.into_iter().filter(untried);
        left().find(|id| self.holds(*id, chunk)).or_else(|| left().next())
    }

    /// Counts a node out.
    pub fn lost(&mut self, id: NodeId) {
        self.sources[id.index()] = Source::Out;
    }

    fn holds(&self, id: NodeId, chunk: ChunkId) -> bool {
        matches!(self.sources[id.index()], Source::Up(have) if have.contains(chunk))
            && !self.tried[id.index()].contains(chunk)
    }
}

/// Sum of squares of the loads: small when the work is spread evenly.
fn cost(plan: &[Option<NodeId>; 4]) -> usize {
    let load = |id: NodeId| plan.iter().filter(|node| **node == Some(id)).count();
    NodeId::ALL.into_iter().map(|id| load(id).pow(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Residue;
    use crate::placement::{first_home_chunk, home_chunks};

    fn up(x: Residue, nodes: u32) -> Fetch {
        Fetch::new(NodeId::ALL.map(|id| match nodes & (1 << id.index()) {
            0 => Source::Out,
            _ => Source::Up(home_chunks(x, id)),
        }))
    }

    #[test]
    fn four_nodes_send_their_first_home_chunk_each_or_their_second() {
        for x in Residue::ALL {
            let plan = up(x, 0b1111).plan(ChunkSet::ALL);
            let mut nodes: Vec<NodeId> = plan.into_iter().flatten().collect();
            nodes.sort_unstable();
            assert_eq!(nodes, NodeId::ALL);
            for id in NodeId::ALL {
                let chunk = ChunkId::ALL[plan.iter().position(|n| *n == Some(id)).unwrap()];
                assert!(home_chunks(x, id).contains(chunk), "{:?}", first_home_chunk(x, id));
            }
        }
    }

    #[test]
    fn every_subset_of_nodes_is_planned_as_well_as_it_can_be() {
        for x in Residue::ALL {
            for nodes in 0..16u32 {
                let plan = up(x, nodes).plan(ChunkSet::ALL);
                for chunk in ChunkId::ALL {
                    let held = NodeId::ALL.into_iter().any(|id| {
                        nodes & (1 << id.index()) != 0 && home_chunks(x, id).contains(chunk)
                    });
                    match plan[chunk.index()] {
                        None => assert!(!held, "x {x:?} nodes {nodes:04b}"),
                        Some(id) => assert!(home_chunks(x, id).contains(chunk)),
                    }
                }
                if nodes.count_ones() == 3 {
                    let busiest = NodeId::ALL
                        .into_iter()
                        .map(|id| plan.iter().filter(|node| **node == Some(id)).count())
                        .max();
                    assert_eq!(busiest, Some(2));
                }
            }
        }
    }

    #[test]
    fn a_failed_source_is_replaced_until_nobody_is_left() {
        let mut fetch = up(Residue::R0, 0b1111);
        assert_eq!(fetch.failed(NodeId::N1, ChunkId::C1), Some(NodeId::N4), "the other home");
        let blind = fetch.failed(NodeId::N4, ChunkId::C1);
        assert_eq!(blind, Some(NodeId::N2), "it may hold a prepared or spilled copy");
        fetch.lost(NodeId::N3);
        assert_eq!(fetch.failed(NodeId::N2, ChunkId::C1), None);
        assert_eq!(fetch.next(ChunkId::C2), Some(NodeId::N1), "other chunks are not affected");
    }
}
