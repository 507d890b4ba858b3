//! Who a node is.

use crate::manifest::Incarnation;
use crate::name::ClusterName;
use crate::placement::NodeId;

/// Who a node is, as it says in every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Its position there.
    pub node: NodeId,
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// Its last start with this disk.
    pub boot: Boot,
    /// Whether its disk was replaced and its answers do not count yet.
    pub rejoining: bool,
}

/// One start of a node.
///
/// The count alone would take the first start of a restored copy for the start that followed
/// the copy: both are the next one. The nonce tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Counts the starts of an incarnation, from 1; 0: there was none yet.
    pub count: u64,
    /// Drawn at random at each start.
    pub nonce: u64,
}

impl Boot {
    /// Whether this start can be one of the same disk as `earlier`, or that very start.
    pub fn may_follow(self, earlier: Self) -> bool {
        self.count > earlier.count || self == earlier
    }
}

/// How far a node's index is. Its groups of changes have numbers that go up by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexAge {
    /// The last durable group when the node started.
    pub at_start: u64,
    /// The last durable group now.
    pub now: u64,
}

/// How a node introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Who it is.
    pub identity: Identity,
    /// How far its index is.
    pub index: IndexAge,
}

impl Introduction {
    /// Whether this can be the disk of which a start and a group of changes were heard of
    /// before, given that the incarnation is the same.
    ///
    /// A copy of the disk starts with a larger count too, but before changes that were heard of.
    /// What counts is how far it was at its start: by now it may have passed them with others.
    pub fn may_follow(&self, boot: Boot, group: u64) -> bool {
        let own = self.identity.boot;
        own == boot || (own.may_follow(boot) && self.index.at_start >= group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_follow_the_start_it_was_made_before() {
        let boot = |count, nonce| Boot { count, nonce };
        assert!(boot(5, 1).may_follow(boot(5, 1)));
        assert!(boot(6, 2).may_follow(boot(5, 1)));
        assert!(!boot(5, 2).may_follow(boot(5, 1)), "another start with the same number");
        assert!(!boot(4, 1).may_follow(boot(5, 1)));
    }
}
