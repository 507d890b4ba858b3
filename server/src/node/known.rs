//! What this node remembers of the other three: durable in the index, at hand in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dfs_proto::identity::{Identity, Introduction};
use dfs_proto::manifest::Incarnation;
use dfs_proto::placement::{NodeId, PerNode};

use super::{Node, NodeError, Outlook};
use crate::clock::now_ms;
use crate::index::IndexError;
use crate::index::codec::Peer;
use crate::index::txn::{Lookup, Txn};

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    peer: Option<Peer>,
    last_seen_ms: u64,
}

/// The others, as last met.
#[derive(Debug)]
pub(crate) struct Known {
    /// A plain mutex: held for copies of a few words, never across a wait.
    entries: Mutex<PerNode<Entry>>,
}

/// What to think of a node that introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// Never met, or met at this or an earlier boot.
    Expected,
    /// It serves with a disk that is not the one remembered: a lost one.
    Replaced,
    /// Its last start is not one after that, or lacks changes that were heard of: its disk was
    /// restored from a copy.
    Restored,
}

impl Known {
    pub(crate) fn load(index: &impl Lookup) -> Result<Self, IndexError> {
        let mut entries = PerNode::<Entry>::default();
        for node in NodeId::ALL {
            entries[node.index()].peer = index.peer(node)?;
        }
        Ok(Self { entries: Mutex::new(entries) })
    }

    fn entries(&self) -> MutexGuard<'_, PerNode<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of `node`, at the latest when that is durable.
    pub(crate) fn peer(&self, node: NodeId) -> Option<Peer> {
        self.entries()[node.index()].peer
    }

    /// When `node` was last met since this node's start, in ms since 1970; 0: never.
    pub(crate) fn last_seen_ms(&self, node: NodeId) -> u64 {
        self.entries()[node.index()].last_seen_ms
    }

    /// The incarnations of all four as far as they are known; the own one always is.
    pub(crate) fn incarnations(&self, own: &Identity) -> PerNode<Option<Incarnation>> {
        let mut all = self.entries().map(|entry| entry.peer.map(|peer| peer.incarnation));
        all[own.node.index()] = Some(own.incarnation);
        all
    }

    fn set(&self, node: NodeId, peer: Peer) {
        self.entries()[node.index()].peer = Some(peer);
    }

    fn see(&self, node: NodeId) {
        self.entries()[node.index()].last_seen_ms = now_ms();
    }
}

/// Judges a node by what was remembered of it.
pub(crate) fn judge(known: Option<Peer>, met: &Introduction) -> Meeting {
    let identity = &met.identity;
    match known {
        None => Meeting::Expected,
        // Rejoining explains a new disk, but no earlier state of the same one.
        Some(known) if known.incarnation != identity.incarnation => match identity.rejoining {
            true => Meeting::Expected,
            false => Meeting::Replaced,
        },
        Some(known) if !met.may_follow(known.boot, known.group) => Meeting::Restored,
        Some(_) => Meeting::Expected,
    }
}

impl Node {
    /// What is durably remembered of a node. What [`Known`] says may still be on its way.
    pub(crate) fn remembered(&self, node: NodeId) -> Result<Option<Peer>, NodeError> {
        Ok(self.index.view().peer(node)?)
    }

    /// Remembers another node durably, unless it is not the one that was expected. Returns
    /// what was remembered of it before.
    pub(crate) async fn meet(
        &self,
        met: Introduction,
    ) -> Result<(Meeting, Option<Peer>), NodeError> {
        self.check_poison()?;
        let node = met.identity.node;
        let outlook = self.outlook.clone();
        let (meeting, before) = match self.remembered(node)? {
            Some(known) if is_same_start(known, &met.identity) => {
                if met.index.now > known.group {
                    // Without a sync: what a crash undoes is heard again at the next Hello.
                    self.index.update_lazy(move |txn| refresh(txn, &met)).await?;
                }
                (Meeting::Expected, Some(known))
            }
            _ => self.index.update(move |txn| record(txn, &outlook, &met)).await?,
        };
        if meeting == Meeting::Expected {
            self.known().see(node);
        }
        Ok((meeting, before))
    }
}

fn is_same_start(known: Peer, met: &Identity) -> bool {
    known.incarnation == met.incarnation && known.boot == met.boot
}

/// Remembers how far a node is by now, unless something newer is remembered.
fn refresh(txn: &mut Txn<'_>, met: &Introduction) -> Result<(), IndexError> {
    let Introduction { identity, index } = met;
    if let Some(known) = txn.peer(identity.node)?
        && is_same_start(known, identity)
        && index.now > known.group
    {
        txn.put_peer(identity.node, &Peer { group: index.now, ..known });
    }
    Ok(())
}

/// Judges a node and remembers it in one transaction: of two introductions at the same time
/// the second is judged by what the first left.
fn record(
    txn: &mut Txn<'_>,
    outlook: &Outlook,
    met: &Introduction,
) -> Result<(Meeting, Option<Peer>), IndexError> {
    let Introduction { identity, index } = met;
    let before = txn.peer(identity.node)?;
    let meeting = judge(before, met);
    if meeting == Meeting::Expected {
        let same = before.filter(|known| known.incarnation == identity.incarnation);
        let group = same.map_or(0, |known| known.group).max(index.now);
        let peer = Peer { incarnation: identity.incarnation, boot: identity.boot, group };
        txn.put_peer(identity.node, &peer);
        // In memory too from within the transaction: a Commit that runs after it on the
        // writer thread must not rest on the former incarnation.
        outlook.known.set(identity.node, peer);
    }
    Ok((meeting, before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::identity::{Boot, IndexAge};
    use dfs_proto::name::ClusterName;

    #[test]
    fn a_lost_or_restored_disk_is_noticed() {
        let boot = |count| Boot { count, nonce: count };
        let at = |at_start, incarnation, count, rejoining| Introduction {
            identity: Identity {
                cluster: ClusterName::new("demo").unwrap(),
                node: NodeId::N2,
                incarnation: Incarnation::new([incarnation; 16]),
                boot: boot(count),
                rejoining,
            },
            index: IndexAge { at_start, now: 900 },
        };
        let met = |incarnation, count, rejoining| at(70, incarnation, count, rejoining);
        let incarnation = Incarnation::new([1; 16]);
        let known = Some(Peer { incarnation, boot: boot(5), group: 70 });
        assert_eq!(judge(None, &met(9, 1, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 5, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 6, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 4, false)), Meeting::Restored);
        let mut other = met(1, 5, false);
        other.identity.boot.nonce = 9;
        assert_eq!(judge(known, &other), Meeting::Restored, "another start of the same number");
        assert_eq!(judge(known, &met(2, 9, false)), Meeting::Replaced);
        assert_eq!(judge(known, &met(2, 1, true)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 6, true)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 4, true)), Meeting::Restored, "while it was rejoining");
        assert_eq!(judge(known, &at(69, 1, 6, false)), Meeting::Restored, "in its last run");
        assert_eq!(judge(known, &at(69, 1, 6, true)), Meeting::Restored);
        assert_eq!(judge(known, &at(69, 1, 5, false)), Meeting::Expected, "it runs on");
        assert_eq!(judge(known, &at(0, 2, 1, true)), Meeting::Expected, "a new disk");
    }
}
