//! What this node remembers of the other three: durable in the index, at hand in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dfs_proto::identity::Identity;
use dfs_proto::manifest::Incarnation;
use dfs_proto::placement::{NodeId, PerNode};

use super::{Node, NodeError, Outlook, now_ms};
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
    /// Its last start is not one after that: its disk was restored from a copy.
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
pub(crate) fn judge(known: Option<Peer>, met: &Identity) -> Meeting {
    match known {
        None => Meeting::Expected,
        // Rejoining explains a new disk, but no earlier state of the same one.
        Some(known) if known.incarnation != met.incarnation => match met.rejoining {
            true => Meeting::Expected,
            false => Meeting::Replaced,
        },
        Some(known) if !met.boot.may_follow(known.boot) => Meeting::Restored,
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
    pub(crate) async fn meet(&self, met: Identity) -> Result<(Meeting, Option<Peer>), NodeError> {
        self.check_poison()?;
        let before = self.remembered(met.node)?;
        let (meeting, before) = if before == Some(peer(&met)) {
            (judge(before, &met), before)
        } else {
            let outlook = self.outlook.clone();
            let met = met.clone();
            self.index.update(move |txn| record(txn, &outlook, &met)).await?
        };
        if meeting == Meeting::Expected {
            self.known().see(met.node);
        }
        Ok((meeting, before))
    }
}

fn peer(met: &Identity) -> Peer {
    Peer { incarnation: met.incarnation, boot: met.boot }
}

/// Judges a node and remembers it in one transaction: of two introductions at the same time
/// the second is judged by what the first left.
fn record(
    txn: &mut Txn<'_>,
    outlook: &Outlook,
    met: &Identity,
) -> Result<(Meeting, Option<Peer>), IndexError> {
    let before = txn.peer(met.node)?;
    let meeting = judge(before, met);
    if meeting == Meeting::Expected {
        txn.put_peer(met.node, &peer(met));
        // In memory too from within the transaction: a Commit that runs after it on the
        // writer thread must not rest on the former incarnation.
        outlook.known.set(met.node, peer(met));
    }
    Ok((meeting, before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::identity::Boot;
    use dfs_proto::name::ClusterName;

    #[test]
    fn a_lost_or_restored_disk_is_noticed() {
        let boot = |count| Boot { count, nonce: count };
        let met = |incarnation, count, rejoining| Identity {
            cluster: ClusterName::new("demo").unwrap(),
            node: NodeId::N2,
            incarnation: Incarnation::new([incarnation; 16]),
            boot: boot(count),
            rejoining,
        };
        let known = Some(Peer { incarnation: Incarnation::new([1; 16]), boot: boot(5) });
        assert_eq!(judge(None, &met(9, 1, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 5, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 6, false)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 4, false)), Meeting::Restored);
        let other = Identity { boot: Boot { count: 5, nonce: 9 }, ..met(1, 5, false) };
        assert_eq!(judge(known, &other), Meeting::Restored, "another start of the same number");
        assert_eq!(judge(known, &met(2, 9, false)), Meeting::Replaced);
        assert_eq!(judge(known, &met(2, 1, true)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 6, true)), Meeting::Expected);
        assert_eq!(judge(known, &met(1, 4, true)), Meeting::Restored, "while it was rejoining");
    }
}
