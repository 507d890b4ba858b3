//! How a node is, for its users and for the other nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dfs_proto::chunk::BLOCK_BYTES;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::{MAX_BATCH, MAX_MESSAGE_BYTES, pb};
use tonic::Status;

use super::status;
use crate::clock::now_ms;
use crate::heal::Healer;
use crate::node::Node;

/// Everything that a node tells of itself.
pub(super) async fn node_info(
    node: &Arc<Node>,
    healer: &Healer,
) -> Result<pb::GetNodeInfoResponse, Status> {
    let space = node.space().map_err(status::node)?;
    let index_bytes = node.index_bytes().await.map_err(status::node)?;
    let known = node.known();
    let others = NodeId::ALL.into_iter().filter(|id| *id != node.position());
    let peers = others.map(|id| pb::PeerView {
        position: id.get().into(),
        incarnation: known
            .peer(id)
            .map(|peer| peer.incarnation.bytes().to_vec())
            .unwrap_or_default(),
        last_seen_ms: known.last_seen_ms(id),
    });
    Ok(pb::GetNodeInfoResponse {
        node: Some((&node.identity()).into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: node.uptime().as_secs(),
        disk_total_bytes: space.total,
        disk_free_bytes: space.free,
        clock_ms: now_ms(),
        max_block_bytes: BLOCK_BYTES,
        pending_uploads: node.pending_uploads(),
        peers: peers.collect(),
        healing: Some(healing(healer)),
        max_message_bytes: u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX),
        max_batch_entries: u64::try_from(MAX_BATCH).unwrap_or(u64::MAX),
        index_bytes,
        usage: None,
    })
}

/// What the node does for the health of its files.
fn healing(healer: &Healer) -> pb::HealingView {
    let figures = &healer.figures;
    let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let suspects = healer.node.suspects();
    pb::HealingView {
        enabled: healer.settings.every.is_some(),
        backlog: u64::try_from(suspects.waiting()).unwrap_or(u64::MAX),
        healed_paths: get(&figures.healed_paths),
        copied_bytes: get(&figures.copied_bytes),
        last_pass_ms: get(&figures.last_pass_ms),
        unhealed: get(&figures.unhealed),
        last_scrub_ms: get(&figures.last_scrub_ms),
        scrubbed_bytes: get(&figures.scrubbed_bytes),
        bad_chunks: suspects.bad_chunks(),
        rejoin: healer.rejoin_state(),
    }
}
