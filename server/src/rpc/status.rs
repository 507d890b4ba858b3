//! From the node's errors to statuses. Matched without `_`, so that a new error gets its
//! reason when it is made.

use dfs_proto::placement::NodeId;
use dfs_proto::wire::status::Reason;
use tonic::Status;

use crate::node::NodeError;
use crate::node::fetch::FetchError;
use crate::node::quota::OverQuota;
use crate::store::room::NoRoom;
use crate::store::writer::WriteError;

pub(crate) fn node(error: NodeError) -> Status {
    let text = error.to_string();
    match error {
        NodeError::Poisoned => Reason::Poisoned.status(text),
        NodeError::Stopping => Reason::ShuttingDown.status(text),
        NodeError::Full(NoRoom::Bytes { needed, free }) => {
            let missing = needed.saturating_sub(free);
            let facts = [("needed", needed), ("free", free), ("missing", missing)];
            Reason::DiskFull.status_with(text, &facts.map(|(name, n)| (name, n.to_string())))
        }
        NodeError::Full(NoRoom::Files { free }) => {
            Reason::DiskFull.status_with(text, &[("free_files", free.to_string())])
        }
        NodeError::Quota(over) => quota(&over, text),
        NodeError::Data { chunk, source } => {
            let facts = [("chunk", chunk.to_string())];
            match source {
                WriteError::Block { .. } | WriteError::Checksum { .. } => {
                    Reason::ChecksumMismatch.status_with(text, &facts)
                }
                WriteError::NotStaged { .. } => Reason::NotStaged.status_with(text, &facts),
                WriteError::Incomplete { .. } => Reason::InvalidArgument.status_with(text, &facts),
                WriteError::Full { .. } => Reason::DiskFull.status(text),
                WriteError::Io(_) | WriteError::Sync(_) => internal(&text),
            }
        }
        NodeError::Stream(_) => Reason::InvalidArgument.status(text),
        NodeError::Index(_) | NodeError::Io(_) | NodeError::Task => internal(&text),
    }
}

/// Which limit was met, and the figures that it is about: bytes, or files.
fn quota(over: &OverQuota, text: String) -> Status {
    let facts = [
        ("limit", over.limit.to_string()),
        ("used", over.used.to_string()),
        ("needed", over.needed.to_string()),
        ("allowed", over.allowed.to_string()),
    ];
    Reason::QuotaExceeded.status_with(text, &facts)
}

/// What a reader on `node` is told.
pub(crate) fn fetch(error: FetchError, node: NodeId) -> Status {
    let text = error.to_string();
    match error {
        FetchError::NotFound(chunk) => {
            Reason::ChunkNotFound.status_with(text, &[("chunk", chunk.to_string())])
        }
        FetchError::Corrupt { chunk, block, .. } => {
            tracing::error!(%chunk, block, error = text, "a chunk cannot be read");
            let facts = [
                ("node", node.to_string()),
                ("chunk", chunk.to_string()),
                ("block", block.to_string()),
            ];
            Reason::ChunkCorrupt.status_with(text, &facts)
        }
        FetchError::Busy { .. } => internal(&text),
        FetchError::Node(error) => self::node(error),
    }
}

fn internal(text: &str) -> Status {
    tracing::error!(error = text, "a request failed");
    Reason::Internal.status(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reader::ReadError;
    use dfs_proto::chunk::ChunkId;

    #[test]
    fn a_corrupt_chunk_names_its_node() {
        let error = FetchError::Corrupt { chunk: ChunkId::C2, block: 7, source: ReadError::Sum };
        let status = fetch(error, NodeId::N3);
        // An entry of the map as it is on the wire.
        let entry = b"\n\x04node\x12\x013";
        assert!(status.details().windows(entry.len()).any(|bytes| bytes == entry));
    }
}
