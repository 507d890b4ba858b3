//! How the four nodes are.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dfs_proto::identity::Identity;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::wire::{convert, pb};
use futures_util::future::join_all;

use crate::error::NodeError;
use crate::nodes::Nodes;

/// How one node is.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Who it is.
    pub identity: Identity,
    /// Version of its software.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Size of the file system under its data, in bytes.
    pub disk_total_bytes: u64,
    /// Free space there, in bytes.
    pub disk_free_bytes: u64,
    /// Its clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// How far its clock is ahead of this machine's, in milliseconds, as of the middle of the call.
    pub ahead_ms: i64,
    /// What it waits for or has still to do after its disk was replaced; empty otherwise.
    pub rejoin: String,
    /// Whether it heals by itself.
    pub heals: bool,
    /// Paths known to need healing, and those that the last pass could not heal.
    pub backlog: u64,
    /// Paths healed since its start.
    pub healed_paths: u64,
    /// Bytes copied to it since its start.
    pub copied_bytes: u64,
    /// Bad chunks found since its start.
    pub bad_chunks: u64,
    /// When its scrub last had read everything, milliseconds since 1970; 0: never.
    pub last_scrub_ms: u64,
    /// Uploads that are neither committed nor dropped, and superseded versions.
    pub pending_uploads: u64,
    /// What the user holds on it, and may hold.
    pub usage: Usage,
}

/// What the user holds on one node, and may hold there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of all his chunks: of files, of what they replaced until that is pruned, and staged.
    pub bytes: Limited,
    /// His files, with those that are being put.
    pub files: Limited,
    /// Bytes of his chunks that are coming in or not committed yet.
    pub staged_bytes: Limited,
}

/// A figure with a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limited {
    /// What there is.
    pub used: u64,
    /// Most that there may be; `None` without a limit.
    pub allowed: Option<u64>,
}

impl From<pb::UsageView> for Usage {
    fn from(view: pb::UsageView) -> Self {
        let limited = |used, allowed| Limited { used, allowed };
        Self {
            bytes: limited(view.bytes, view.bytes_allowed),
            files: limited(view.files.saturating_add(view.uploads), view.files_allowed),
            staged_bytes: limited(view.staged_bytes, view.staged_bytes_allowed),
        }
    }
}

fn ahead(clock_ms: u64, here: SystemTime) -> i64 {
    let here = here.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let here = i64::try_from(here.as_millis()).unwrap_or(i64::MAX);
    i64::try_from(clock_ms).unwrap_or(i64::MAX).saturating_sub(here)
}

pub(crate) async fn info(nodes: &Arc<Nodes>) -> PerNode<Result<NodeInfo, NodeError>> {
    let ask = |id: NodeId| async move {
        let member = nodes.get(id);
        let request = pb::GetNodeInfoRequest {};
        let call = member.node().unary("GetNodeInfo", request, |mut client, request| async move {
            client.get_node_info(request).await
        });
        let (asked, started) = (SystemTime::now(), Instant::now());
        let answer = call.await?;
        let middle = asked + started.elapsed() / 2;
        let identity = convert::identity(answer.node.as_ref())
            .map_err(|malformed| member.nonsense(&malformed))?;
        let healing = answer.healing.unwrap_or_default();
        Ok(NodeInfo {
            identity,
            rejoin: healing.rejoin,
            heals: healing.enabled,
            backlog: healing.backlog.saturating_add(healing.unhealed),
            healed_paths: healing.healed_paths,
            copied_bytes: healing.copied_bytes,
            bad_chunks: healing.bad_chunks,
            last_scrub_ms: healing.last_scrub_ms,
            version: answer.version,
            uptime_seconds: answer.uptime_seconds,
            disk_total_bytes: answer.disk_total_bytes,
            disk_free_bytes: answer.disk_free_bytes,
            clock_ms: answer.clock_ms,
            ahead_ms: ahead(answer.clock_ms, middle),
            pending_uploads: answer.pending_uploads,
            usage: answer.usage.unwrap_or_default().into(),
        })
    };
    let answers = join_all(NodeId::ALL.map(ask)).await;
    answers.try_into().unwrap_or_else(|_| unreachable!("four nodes were asked"))
}
