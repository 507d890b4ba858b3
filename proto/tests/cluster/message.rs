//! What actors ask of nodes, and what they hear.

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::{Incarnation, UploadId, Version};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::Prepared;
use dfs_proto::protocol::read::Reply;
use dfs_proto::protocol::rejoin::Peer;
use dfs_proto::protocol::repair::Held;
use dfs_proto::protocol::row::{CommitOrder, FenceAnswer, ReleaseOrder};
use dfs_proto::tag::Tag;

/// A request about one path.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Prepare(UploadId, ChunkSet),
    Commit(CommitOrder),
    Discard(UploadId),
    Confirm(Tag),
    Ask,
    Fetch(UploadId, ChunkId),
    Look(UploadId, ChunkSet),
    Pull { upload: UploadId, chunks: ChunkSet, from: PerNode<ChunkSet> },
    Release(ReleaseOrder),
    Fence(UploadId),
    Drop(UploadId, PerNode<Incarnation>),
    Hello(Caller),
    Page(Caller, usize),
}

/// A node that rejoins, as it introduces itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
}

/// What becomes of a request, as the one who sent it sees it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Refused, or not answered in time, or not sent.
    Failed(CommitAnswer),
    Done,
    Commit(CommitAnswer),
    Prepared(Prepared),
    Reply(Box<Reply>),
    /// A chunk, as it is on the disk; its checksum shows whether it is good.
    Chunk {
        good: bool,
    },
    Held(Held),
    Released(bool),
    Fence(Incarnation, FenceAnswer),
    Dropped(bool),
    Peer(Peer),
    Page(Box<Page>),
}

/// The newest version and the fences of one path on a node.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) peer: Peer,
    pub(crate) path: usize,
    pub(crate) newest: Option<(Version, bool)>,
    pub(crate) fenced: Vec<UploadId>,
    pub(crate) last: bool,
}
