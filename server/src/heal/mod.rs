//! Healing: what a node does so that every file is whole again. [`path`] repairs one path,
//! [`upload`] sees to an abandoned upload, [`pull`] copies chunks here, [`survey`] finds what
//! needs it, [`expire`] removes files whose time is over, [`pass`] does all that by itself now and
//! then and leaves a [`census`], [`scrub`] re-reads what is on the disk, [`rejoin`] brings a node
//! with a new disk back. `dfsctl repair` runs the same code through [`sweep`].
//!
//! Decisions are made in `dfs_proto`'s machines `repair`, `janitor` and `rejoin`; here they are
//! carried out through [`Peers`]. Nothing here talks gRPC or knows how chunks are stored.

pub(crate) mod census;
mod expire;
pub(crate) mod pass;
pub(crate) mod path;
mod pull;
pub(crate) mod rejoin;
pub(crate) mod scrub;
pub(crate) mod survey;
pub(crate) mod sweep;
mod upload;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfs_proto::manifest::Version;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::NodeRef;
use dfs_proto::protocol::commit::CommitAnswer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::HealSettings;
use crate::identity::DataDir;
use crate::node::Node;
use crate::peers::{PeerError, Peers, UserPath};
use census::Census;

/// Paths repaired at a time.
const PARALLEL: usize = 8;
/// Repairs that clients may have running on this node.
const REPAIRS: usize = 4;
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
    repairs: Arc<Semaphore>,
    /// Where a rejoin that is not over yet is remembered.
    restoring: Option<Arc<DataDir>>,
    is_restoring: AtomicBool,
    /// What the last pass saw. Held for copies of some numbers only.
    census: Mutex<Option<Census>>,
    /// What a rejoining node waits for. Held for copies of a short text only.
    rejoin_state: Mutex<String>,
}

impl Healer {
    /// `restoring`: where it is remembered that files may be on one disk less since this node's
    /// was replaced; absent where they are not.
    pub(crate) fn new(
        node: Arc<Node>,
        peers: Peers,
        settings: HealSettings,
        staging_ttl: Duration,
        restoring: Option<Arc<DataDir>>,
    ) -> Self {
        let (pulls, repairs) = (Semaphore::new(PULLS), Arc::new(Semaphore::new(REPAIRS)));
        let (figures, rejoin_state) = (Figures::default(), Mutex::default());
        let is_restoring = AtomicBool::new(restoring.is_some());
        let healer = Self {
            node,
            peers,
            settings,
            staging_ttl,
            figures,
            pulls,
            repairs,
            restoring,
            is_restoring,
            census: Mutex::default(),
            rejoin_state,
        };
        if !healer.node.identity().rejoining {
            healer.tell_restoring();
        }
        healer
    }

    /// A client's turn to repair, kept until its repair ends; `None` where there are too many.
    pub(crate) fn repair_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.repairs).try_acquire_owned().ok()
    }

    /// What the last pass saw of all files; `None` before the first one has ended.
    pub(crate) fn census(&self) -> Option<Census> {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_census(&self, census: Census) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = Some(census);
    }

    /// What a rejoining node waits for, or has still to do; empty otherwise.
    pub(crate) fn rejoin_state(&self) -> String {
        self.rejoin_state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this node's disk was replaced and not every file has been seen whole since.
    pub(crate) fn is_restoring(&self) -> bool {
        self.is_restoring.load(Ordering::Relaxed)
    }

    /// Has the status say that this node still counts as the one that may fail.
    pub(crate) fn tell_restoring(&self) {
        if self.is_restoring() {
            let text = match self.settings.every {
                Some(_) => "serving; its chunks are being copied",
                None => "serving; its chunks are not copied while heal_every is off",
            };
            self.set_rejoin_state(text.to_owned());
        }
    }

    /// Every file has been seen whole on all four nodes.
    async fn all_is_whole(&self) {
        if !self.is_restoring() {
            return;
        }
        let Some(data_dir) = self.restoring.clone() else { return };
        match tokio::task::spawn_blocking(move || data_dir.end_rejoin()).await {
            Ok(Ok(())) => {
                self.is_restoring.store(false, Ordering::Relaxed);
                self.set_rejoin_state(String::new());
                tracing::info!("every file is whole again");
            }
            // It is tried again after the next pass.
            Ok(Err(error)) => tracing::warn!(%error, "the end of the rejoin is not recorded"),
            Err(error) => tracing::warn!(%error, "the end of the rejoin is not recorded"),
        }
    }

    /// Sends a node a version that another one has; says how that ended where it is certain.
    async fn write_back(
        &self,
        to: NodeId,
        of: &UserPath,
        version: &Version,
        source: NodeRef,
    ) -> Result<CommitAnswer, PeerError> {
        match self.peers.write_back(to, of, version, source).await {
            Ok(()) => Ok(CommitAnswer::Acked),
            Err(PeerError::Refused(refused)) => Ok(CommitAnswer::Refused(refused)),
            Err(error) => Err(error),
        }
    }

    fn set_rejoin_state(&self, state: String) {
        *self.rejoin_state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn add(figure: &AtomicU64, more: u64) {
    figure.fetch_add(more, Ordering::Relaxed);
}
