//! Healing: what a node does so that every file is whole again. [`path`] repairs one path,
//! [`upload`] sees to an abandoned upload, [`pull`] copies chunks here, [`survey`] finds what
//! needs it, [`pass`] does all that by itself now and then, [`scrub`] re-reads what is on the
//! disk, [`rejoin`] brings a node with a new disk back. `dfsctl repair` runs the same code through [`sweep`].
//!
//! Decisions are made in `dfs_proto`'s machines `repair`, `janitor` and `rejoin`; here they are carried
//! out through [`Peers`]. Nothing here talks gRPC or knows how chunks are stored.

pub(crate) mod pass;
pub(crate) mod path;
mod pull;
pub(crate) mod rejoin;
pub(crate) mod scrub;
pub(crate) mod survey;
pub(crate) mod sweep;
mod upload;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::HealSettings;
use crate::node::Node;
use crate::peers::Peers;

/// Paths repaired at a time.
const PARALLEL: usize = 8;
/// Chunks copied to this node at a time.
const PULLS: usize = 4;

/// What healing has done since the node's start.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) healed_paths: AtomicU64,
    pub(crate) copied_bytes: AtomicU64,
    pub(crate) last_pass_ms: AtomicU64,
    pub(crate) unhealed: AtomicU64,
    pub(crate) last_scrub_ms: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
}

/// Heals the files of this node.
pub(crate) struct Healer {
    pub(crate) node: Arc<Node>,
    pub(crate) peers: Peers,
    pub(crate) settings: HealSettings,
    /// Age from which an upload without a Commit counts as abandoned.
    staging_ttl: Duration,
    pub(crate) figures: Figures,
    pulls: Semaphore,
    /// What a rejoining node waits for. Held for copies of a short text only.
    rejoin_state: Mutex<String>,
}

impl Healer {
    pub(crate) fn new(
        node: Arc<Node>,
        peers: Peers,
        settings: HealSettings,
        staging_ttl: Duration,
    ) -> Self {
        let pulls = Semaphore::new(PULLS);
        let (figures, rejoin_state) = (Figures::default(), Mutex::default());
        Self { node, peers, settings, staging_ttl, figures, pulls, rejoin_state }
    }

    /// What a rejoining node waits for, or has still to do; empty otherwise.
    pub(crate) fn rejoin_state(&self) -> String {
        self.rejoin_state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node serves, but its chunks are still to be copied: it counts as the one node that
    /// may fail.
    pub(crate) fn copying(&self) {
        self.set_rejoin_state("serving; its chunks are being copied".to_owned());
    }

    fn set_rejoin_state(&self, state: String) {
        *self.rejoin_state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn add(figure: &AtomicU64, more: u64) {
    figure.fetch_add(more, Ordering::Relaxed);
}
