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
    /// Counts the starts of this incarnation, from 1.
    pub boot: u64,
    /// Whether its disk was replaced and its answers do not count yet.
    pub rejoining: bool,
}
