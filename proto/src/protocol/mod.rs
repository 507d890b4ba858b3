//! The protocol as machines without I/O, clock or randomness.
//!
//! On a node, [`row`] turns (row, message, now) into (row, answer), and [`rejoin`] says when
//! one whose disk was replaced may serve. On a client, [`put`], [`remove`], [`read`] and
//! [`listing`] take events and give effects; [`decide`] is the read decision they share,
//! [`commit`] the commit round, [`fetch`] the choice of who sends which chunk, [`health`] what
//! the answers say about redundancy. [`repair`] and [`janitor`] heal: the nodes run them on
//! themselves, as they do [`expire`]. The programs only carry messages between these machines and the world; a
//! simulator can do the same.

pub mod row;

pub mod decide;

pub mod commit;

pub mod put;

pub mod read;

pub mod remove;

pub mod fetch;

pub mod health;

pub mod listing;

pub mod repair;

pub mod janitor;

pub mod expire;

pub mod rejoin;

#[cfg(test)]
mod samples;

use std::time::Duration;

use crate::manifest::Incarnation;
use crate::placement::NodeId;

/// Longest time between the first Commit of an operation and its third acknowledgement, and
/// between the first reply of a read and its decision. A node that rejoins waits longer than
/// this before it counts, so no operation rests on answers of its former disk.
pub const T_OP: Duration = Duration::from_secs(60);

/// A node at a certain incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRef {
    /// Its position.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// Why a node did not do what it was asked to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The node's disk was replaced and it may not take part yet.
    #[error("the node is rejoining")]
    Rejoining,
    /// The tag is more than a minute ahead of the node's clock.
    #[error("the version is {ahead_ms} ms ahead of the node's clock")]
    FutureTag {
        /// How far ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// The upload was fenced.
    #[error("the upload is fenced")]
    Fenced,
    /// The upload is fenced nowhere here, so it may not be dropped.
    #[error("the upload is not fenced")]
    NotFenced,
    /// A plain commit that does not rest on enough prepared nodes, this one included if named.
    #[error("the upload is not prepared")]
    NotPrepared,
    /// The upload was committed under another tag, or the tag names another upload.
    #[error("the upload or the tag belongs to another version")]
    TagConflict,
    /// Data to be copied of an upload that is no version here.
    #[error("the upload is not committed here")]
    NotCommitted,
    /// The version to give chunks up of is not current and confirmed here.
    #[error("the version is not current and confirmed")]
    NotCurrent,
    /// Chunks that the node itself is a home of are never given up.
    #[error("the chunks live on this node")]
    AtHome,
    /// The node knows a newer incarnation of a node that the request rests on.
    #[error("node {} lost its disk since it prepared", .0.node)]
    PrepareLost(NodeRef),
}
