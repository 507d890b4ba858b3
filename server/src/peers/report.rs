//! How another node says that it is.

use std::time::Duration;

use dfs_proto::identity::Identity;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::pb;

use super::{PeerError, Peers};

/// Limit for the answer: somebody looks at a page.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(2);

/// How a node is.
#[derive(Debug, Clone)]
pub(crate) struct PeerReport {
    pub(crate) identity: Identity,
    pub(crate) version: String,
    pub(crate) uptime_seconds: u64,
    pub(crate) disk_total_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) clock_ms: u64,
    pub(crate) pending_uploads: u64,
    pub(crate) heals: bool,
    /// Files known to need healing there, and those that its last pass could not heal.
    pub(crate) backlog: u64,
    pub(crate) bad_chunks: u64,
    /// Milliseconds since 1970; 0: never.
    pub(crate) last_scrub_ms: u64,
    /// What it waits for or has still to do since its disk was replaced; empty otherwise.
    pub(crate) rejoin: String,
}

impl Peers {
    /// Asks a node, this one included, how it is.
    pub(crate) async fn describe(&self, node: NodeId) -> Result<PeerReport, PeerError> {
        let request = self.request(pb::DescribeRequest {});
        let mut client = self.client(node)?;
        let answer = tokio::time::timeout(DESCRIBE_LIMIT, client.describe(request)).await;
        let answer = answer.map_err(|_| PeerError::Timeout(DESCRIBE_LIMIT))??.into_inner();
        let info = answer.info.unwrap_or_default();
        let identity = self.check(node, info.node.as_ref())?;
        let healing = info.healing.unwrap_or_default();
        Ok(PeerReport {
            identity,
            version: info.version,
            uptime_seconds: info.uptime_seconds,
            disk_total_bytes: info.disk_total_bytes,
            disk_free_bytes: info.disk_free_bytes,
            index_bytes: info.index_bytes,
            clock_ms: info.clock_ms,
            pending_uploads: info.pending_uploads,
            heals: healing.enabled,
            backlog: healing.backlog.saturating_add(healing.unhealed),
            bad_chunks: healing.bad_chunks,
            last_scrub_ms: healing.last_scrub_ms,
            rejoin: healing.rejoin,
        })
    }
}
