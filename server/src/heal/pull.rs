//! Copying chunks of a version to this node: from its own disk where a former life left them
//! there, else from another node that holds them. Every block is checked on arrival, and the
//! whole chunk before it counts.

use std::time::{Duration, Instant};

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::Refused;

use super::{Healer, PULLS, add};
use crate::node::NodeError;
use crate::node::heal::Restoring;
use crate::peers::{PeerError, UserPath};

/// Why a chunk could not be copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("node {0}: {1}")]
    Peer(NodeId, PeerError),
    #[error("no other node that holds it is known")]
    Nowhere,
    #[error("{0}")]
    Refused(Refused),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Holds a copy to so many bytes a second.
struct Pace {
    started: Instant,
    bytes: u64,
    per_second: u64,
}

impl Pace {
    fn new(per_second: u64) -> Self {
        Self { started: Instant::now(), bytes: 0, per_second }
    }

    async fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(millis) = self.bytes.saturating_mul(1000).checked_div(self.per_second) {
            let due = Duration::from_millis(millis);
            tokio::time::sleep(due.saturating_sub(self.started.elapsed())).await;
        }
    }
}

impl Healer {
    /// Copies chunks of an upload that is committed here. A chunk that cannot be had is left
    /// out: what is held afterwards is the answer.
    pub(crate) async fn pull(
        &self,
        of: &UserPath,
        upload: UploadId,
        chunks: ChunkSet,
        held: &PerNode<ChunkSet>,
        bytes_per_second: u64,
    ) -> Result<Result<(), Refused>, NodeError> {
        let Ok(_turn) = self.pulls.acquire().await else { return Err(NodeError::Stopping) };
        let committed = self.node.committed(&of.user, &of.path, upload)?;
        let Some(record) = committed else { return Ok(Err(Refused::NotCommitted)) };
        let share = u64::try_from(PULLS).unwrap_or(1);
        let mut pace = Pace::new(bytes_per_second.div_ceil(share));
        for chunk in chunks.iter() {
            match self.get(of, &record.version, chunk, held, &mut pace).await {
                Ok(()) => {}
                Err(CopyError::Node(error)) => return Err(error),
                Err(CopyError::Refused(refused)) => return Ok(Err(refused)),
                Err(error @ (CopyError::Peer(..) | CopyError::Nowhere)) => {
                    let UserPath { user, path } = of;
                    tracing::warn!(%user, %path, %upload, %chunk, %error, "not copied");
                }
            }
        }
        Ok(Ok(()))
    }

    /// Looks for chunk files of a version that a former life of this node's disk has left.
    pub(crate) async fn reclaim(&self, of: &UserPath, upload: UploadId) -> Result<(), NodeError> {
        if !self.is_restoring() {
            return Ok(());
        }
        let Some(record) = self.node.committed(&of.user, &of.path, upload)? else { return Ok(()) };
        for chunk in ChunkSet::ALL.minus(record.have).iter() {
            let (user, path) = (of.user.clone(), of.path.clone());
            self.node.reclaim(user, path, &record.version, chunk).await?;
        }
        Ok(())
    }

    /// Gets one chunk from wherever it can be had.
    async fn get(
        &self,
        of: &UserPath,
        version: &Version,
        chunk: ChunkId,
        held: &PerNode<ChunkSet>,
        pace: &mut Pace,
    ) -> Result<(), CopyError> {
        let (user, path) = (of.user.clone(), of.path.clone());
        if self.node.reclaim(user, path, version, chunk).await? {
            return Ok(());
        }
        let own = self.node.position();
        let mut last = CopyError::Nowhere;
        // The neighbours first: a chunk's other home is one of them.
        let sources = [1, 3, 2].map(|step| NodeId::ALL[(own.index() + step) % 4]);
        for source in sources.into_iter().filter(|id| held[id.index()].contains(chunk)) {
            match self.copy(of, version, chunk, source, pace).await {
                Err(error @ CopyError::Peer(..)) => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    async fn copy(
        &self,
        of: &UserPath,
        version: &Version,
        chunk: ChunkId,
        source: NodeId,
        pace: &mut Pace,
    ) -> Result<(), CopyError> {
        let peer = |error| CopyError::Peer(source, error);
        let (user, path) = (of.user.clone(), of.path.clone());
        let started = self.node.start_restore(user, path, version, chunk).await?;
        let Some(mut restoring): Option<Restoring> = started.map_err(CopyError::Refused)? else {
            return Ok(());
        };
        let mut blocks =
            self.peers.read_chunk(source, of, version.upload, chunk).await.map_err(peer)?;
        while let Some((index, data, crc)) = blocks.next().await.map_err(peer)? {
            let bytes = u64::try_from(data.len()).unwrap_or(0);
            // A block that is not what it should be is the source's fault, not this disk's.
            match restoring.block(index, data, crc).await {
                Err(NodeError::Data { source: error, .. }) => {
                    return Err(peer(PeerError::Status(error.to_string())));
                }
                taken => taken?,
            }
            add(&self.figures.copied_bytes, bytes);
            pace.moved(bytes).await;
        }
        match restoring.finish().await {
            Err(NodeError::Data { source: error, .. }) => {
                Err(peer(PeerError::Status(error.to_string())))
            }
            done => done?.map_err(CopyError::Refused),
        }
    }
}
