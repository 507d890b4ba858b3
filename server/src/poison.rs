//! The poison flag: after a failed fsync or index commit nobody knows what the disk holds, so
//! the node acknowledges nothing any more and ends with an error.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Set once, never cleared. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Poison {
    tripped: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Poison {
    /// Sets the flag. The first reason is kept and logged.
    pub(crate) fn trip(&self, reason: impl std::fmt::Display) {
        if self.reason.set(reason.to_string()).is_ok() {
            tracing::error!(%reason, "the disk failed: this node stops");
        }
        self.tripped.cancel();
    }

    /// Whether the flag is set.
    pub(crate) fn is_tripped(&self) -> bool {
        self.tripped.is_cancelled()
    }

    /// Returns when the flag is set.
    pub(crate) async fn tripped(&self) {
        self.tripped.cancelled().await;
    }

    /// Why it was set.
    pub(crate) fn reason(&self) -> &str {
        self.reason.get().map_or("no reason known", String::as_str)
    }
}
