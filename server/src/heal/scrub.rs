//! The scrub: re-reads all chunks of this node, slowly, one after the other in the order of
//! their keys, round after round. Where it is survives a restart, so in every round each chunk
//! is read once. What is bad is taken out of service as by any check, and its path is healed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use tokio_util::sync::CancellationToken;

use super::{Healer, add};
use crate::clock::now_ms;
use crate::node::NodeError;

/// Chunks between two records of the place.
const BATCH: usize = 64;
/// Bytes between two records of the place.
const BATCH_BYTES: u64 = 256 << 20;
/// Longest pause before it is looked again whether a round is due.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Healer {
    /// Scrubs until `stop`; returns at once where the node is not to scrub.
    pub(crate) async fn keep_scrubbing(self: Arc<Self>, stop: CancellationToken) {
        let Some(every) = self.settings.scrub_every else { return };
        if let Ok(place) = self.node.scrub_place() {
            self.figures.last_scrub_ms.store(place.completed_ms, Ordering::Relaxed);
        }
        loop {
            match stop.run_until_cancelled(self.scrub_some(every)).await {
                None => return,
                Some(Ok(true)) => {}
                Some(Ok(false)) => {
                    let pause = tokio::time::sleep(every.min(LOOK_AGAIN));
                    if stop.run_until_cancelled(pause).await.is_none() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "could not scrub");
                    let pause = tokio::time::sleep(LOOK_AGAIN);
                    if stop.run_until_cancelled(pause).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads the next chunks if a round is due; whether there may be more.
    async fn scrub_some(&self, every: Duration) -> Result<bool, NodeError> {
        let mut place = self.node.scrub_place()?;
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let waited = now_ms().saturating_sub(place.completed_ms);
        if place.after.is_none() && waited < every_ms {
            return Ok(false);
        }
        let batch = self.node.chunks_after(place.after.clone(), BATCH, BATCH_BYTES).await?;
        let more = !batch.is_empty();
        for (key, path, length) in batch {
            let chunks = ChunkSet::EMPTY.with(key.chunk);
            let (user, upload) = (key.user.clone(), key.upload);
            match self.node.check_chunks(user, path.clone(), upload, chunks).await {
                Ok(_) => {}
                Err(error @ (NodeError::Poisoned | NodeError::Stopping)) => return Err(error),
                // Neither good nor bad: the rest must not wait for it.
                Err(error) => {
                    tracing::warn!(user = %key.user, %path, %upload, chunk = %key.chunk, %error,
                        "a chunk cannot be scrubbed");
                }
            }
            add(&self.figures.scrubbed_bytes, length);
            let millis = length.saturating_mul(1000) / self.settings.scrub_bytes_per_second.max(1);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            place.after = Some(key);
        }
        if !more {
            place.completed_ms = now_ms();
            place.after = None;
            self.figures.last_scrub_ms.store(place.completed_ms, Ordering::Relaxed);
            tracing::info!("scrubbed: every chunk has been read");
        }
        self.node.set_scrub_place(place).await?;
        Ok(more)
    }
}
