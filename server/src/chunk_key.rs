//! The name of one chunk on this node: what index, store and node call the same thing by.

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::UploadId;
use dfs_proto::name::UserName;

/// One chunk of one upload of one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) user: UserName,
    pub(crate) upload: UploadId,
    pub(crate) chunk: ChunkId,
}

impl ChunkKey {
    /// The keys of some chunks of one upload.
    pub(crate) fn each(user: &UserName, upload: UploadId, chunks: ChunkSet) -> Vec<Self> {
        let key = |chunk| Self { user: user.clone(), upload, chunk };
        chunks.iter().map(key).collect()
    }
}
