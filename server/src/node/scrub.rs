//! What the scrub needs of a node: its chunks one after the other, and to remember its place.

use dfs_proto::name::FilePath;

use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::index::IndexError;
use crate::index::codec::ScrubPlace;
use crate::index::txn::{Lookup, Txn};

impl Node {
    /// Where the scrub is.
    pub(crate) fn scrub_place(&self) -> Result<ScrubPlace, NodeError> {
        Ok(self.index.view().scrub()?)
    }

    /// Remembers where the scrub is.
    pub(crate) async fn set_scrub_place(&self, place: ScrubPlace) -> Result<(), NodeError> {
        let set = move |txn: &mut Txn<'_>| {
            txn.put_scrub(&place);
            Ok(())
        };
        Ok(self.index.update_lazy(set).await?)
    }

    /// The next chunks in the order of their keys with path and length: at most so many, and
    /// not more after they have so many bytes.
    pub(crate) async fn chunks_after(
        &self,
        after: Option<ChunkKey>,
        count: usize,
        bytes: u64,
    ) -> Result<Vec<(ChunkKey, FilePath, u64)>, NodeError> {
        let view = self.index.view();
        let list = move || {
            let mut found = Vec::new();
            let mut size = 0u64;
            for row in view.chunks_after(after.as_ref()) {
                if found.len() >= count || size >= bytes {
                    break;
                }
                let row = row?;
                size = size.saturating_add(row.2);
                found.push(row);
            }
            Ok::<_, IndexError>(found)
        };
        Ok(self.blocking(list).await??)
    }
}
