//! What the nodes' answers say about a file's redundancy.

use crate::chunk::ChunkSet;
use crate::digest::Residue;
use crate::placement::{NodeId, PerNode, home_chunks};

/// How safe a file is, as answered just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Every chunk is on both its home nodes.
    Complete,
    /// Readable, but not complete.
    Degraded,
    /// A chunk is on no reachable node.
    Incomplete,
    /// Fewer than two nodes answered, so nothing certain can be said.
    Unknown,
}

impl Health {
    /// The word shown to people and scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Degraded => "degraded",
            Self::Incomplete => "incomplete",
            Self::Unknown => "unknown",
        }
    }
}

/// Judges a version with residue `x`; `have` is what each node said it holds of it, `None` for
/// a node that did not answer.
pub fn assess(x: Residue, have: &PerNode<Option<ChunkSet>>) -> Health {
    let answered = have.iter().flatten().count();
    let held = have.iter().flatten().fold(ChunkSet::EMPTY, |all, set| all.union(*set));
    let home = |id: NodeId| have[id.index()].is_some_and(|set| set.covers(home_chunks(x, id)));
    match () {
        () if answered < 2 => Health::Unknown,
        () if held != ChunkSet::ALL => Health::Incomplete,
        () if NodeId::ALL.into_iter().all(home) => Health::Complete,
        () => Health::Degraded,
    }
}

/// Whether the file can still be read when the nodes in `lost` fail as well.
pub fn readable_without(have: &PerNode<Option<ChunkSet>>, lost: &[NodeId]) -> bool {
    let left = NodeId::ALL.into_iter().filter(|id| !lost.contains(id));
    let sets = left.filter_map(|id| have[id.index()]);
    sets.fold(ChunkSet::EMPTY, ChunkSet::union) == ChunkSet::ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that four nodes can answer: nothing, or any of 16 sets.
    fn all_answers() -> impl Iterator<Item = PerNode<Option<ChunkSet>>> {
        (0..17u32.pow(4)).map(|code| {
            [code % 17, code / 17 % 17, code / 17 / 17 % 17, code / 17 / 17 / 17]
                .map(ChunkSet::from_mask)
        })
    }

    #[test]
    fn every_answer_is_judged_by_its_words() {
        for have in all_answers() {
            for x in Residue::ALL {
                let answered = have.iter().flatten().count();
                let readable = readable_without(&have, &[]);
                match assess(x, &have) {
                    Health::Unknown => assert!(answered < 2),
                    Health::Incomplete => assert!(answered >= 2 && !readable),
                    Health::Degraded => assert!(answered >= 2 && readable),
                    Health::Complete => {
                        assert!(answered == 4 && readable);
                        for id in NodeId::ALL {
                            assert!(have[id.index()].unwrap().covers(home_chunks(x, id)));
                            assert!(readable_without(&have, &[id]));
                            assert!(readable_without(&have, &[id, id.opposite()]));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_lost_make_a_file_incomplete() {
        for x in Residue::ALL {
            let without = |lost: [NodeId; 2]| {
                NodeId::ALL.map(|id| (!lost.contains(&id)).then(|| home_chunks(x, id)))
            };
            for id in NodeId::ALL {
                let next = NodeId::ALL[(id.index() + 1) % 4];
                assert_eq!(assess(x, &without([id, next])), Health::Incomplete);
                assert_eq!(assess(x, &without([id, id.opposite()])), Health::Degraded);
            }
        }
    }
}
