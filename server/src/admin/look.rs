//! Looks up how this node is. What costs something to find out is kept for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dfs_proto::placement::NodeId;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::view::{Facts, Status};
use crate::clock::now_ms;
use crate::heal::Healer;
use crate::node::Node;
use crate::poison::Poison;
use crate::telemetry::millis;
use crate::telemetry::recent::recent;
use crate::telemetry::state::{CensusState, HealingState, State, Uploads};

/// For how long figures are kept that take a walk over the index to find.
const SLOW_AGE: Duration = Duration::from_secs(15);
/// For how long the answers of the four nodes are kept: those who look share them.
const STATUS_AGE: Duration = Duration::from_secs(2);

/// Figures that are not at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Slow {
    index_bytes: Option<u64>,
    uploads: Option<Uploads>,
}

/// Looks after one node.
pub(super) struct Lookout {
    node: Arc<Node>,
    healer: Arc<Healer>,
    poison: Poison,
    ending: CancellationToken,
    /// Held while they are found out, so that all who ask share one walk.
    slow: Mutex<Option<(Instant, Slow)>>,
    /// Held while the nodes are asked, so that all who look share their answers.
    status: Mutex<Option<(Instant, Arc<Status>)>>,
}

impl Lookout {
    pub(super) fn new(
        node: Arc<Node>,
        healer: Arc<Healer>,
        poison: Poison,
        ending: CancellationToken,
    ) -> Self {
        Self { node, healer, poison, ending, slow: Mutex::default(), status: Mutex::default() }
    }

    /// Why the node does not take part in everything; `None` when it does.
    pub(super) fn unready(&self) -> Option<&'static str> {
        match () {
            () if self.poison.is_tripped() => Some("its disk failed"),
            () if self.ending.is_cancelled() => Some("it is stopping"),
            () if self.node.identity().rejoining => Some("it is rejoining"),
            () => None,
        }
    }

    /// The node as the metrics show it.
    pub(super) async fn state(&self) -> State {
        let Slow { index_bytes, uploads } = self.slow().await;
        let identity = self.node.identity();
        let space = self.node.space().ok();
        let known = self.node.known();
        State {
            cluster: identity.cluster.to_string(),
            node: identity.node.get(),
            ready: self.unready().is_none(),
            rejoining: identity.rejoining,
            restoring: self.healer.is_restoring(),
            poisoned: self.poison.is_tripped(),
            started_ms: now_ms().saturating_sub(millis(self.node.uptime())),
            disk_total_bytes: space.map(|space| space.total),
            disk_free_bytes: space.map(|space| space.free),
            index_bytes,
            uploads,
            healing: self.healing(),
            census: self.healer.census().map(|census| CensusState {
                at_ms: census.at_ms,
                complete: census.complete,
                degraded: census.degraded,
                incomplete: census.incomplete,
                unknown: census.unknown,
                home: census.home,
                spilled: census.spilled,
                missing: census.missing,
            }),
            last_seen_ms: NodeId::ALL.map(|id| known.last_seen_ms(id)),
        }
    }

    /// The four nodes and the files, for people.
    pub(super) async fn status(&self) -> Arc<Status> {
        let mut kept = self.status.lock().await;
        if let Some((since, status)) = &*kept
            && since.elapsed() < STATUS_AGE
        {
            return Arc::clone(status);
        }
        let status = Arc::new(Status::of(self.facts().await));
        *kept = Some((Instant::now(), Arc::clone(&status)));
        status
    }

    async fn facts(&self) -> Facts {
        let peers = &self.healer.peers;
        let asked = join_all(NodeId::ALL.map(|id| peers.describe(id))).await;
        let identity = self.node.identity();
        let known = self.node.known();
        Facts {
            cluster: identity.cluster.to_string(),
            own: identity.node,
            now_ms: now_ms(),
            addresses: peers.addresses().clone(),
            reports: asked.try_into().unwrap_or_else(|_| unreachable!("four nodes were asked")),
            last_seen_ms: NodeId::ALL.map(|id| known.last_seen_ms(id)),
            census: self.healer.census(),
            counts_files: self.healer.settings.every.is_some(),
            recent: recent(),
        }
    }

    fn healing(&self) -> HealingState {
        let figures = &self.healer.figures;
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let suspects = self.node.suspects();
        HealingState {
            enabled: self.healer.settings.every.is_some(),
            backlog: u64::try_from(suspects.waiting()).unwrap_or(u64::MAX),
            unhealed: get(&figures.unhealed),
            healed_paths: get(&figures.healed_paths),
            copied_bytes: get(&figures.copied_bytes),
            last_pass_ms: get(&figures.last_pass_ms),
            last_scrub_ms: get(&figures.last_scrub_ms),
            scrubbed_bytes: get(&figures.scrubbed_bytes),
            bad_chunks: suspects.bad_chunks(),
        }
    }

    async fn slow(&self) -> Slow {
        let mut kept = self.slow.lock().await;
        if let Some((since, slow)) = &*kept
            && since.elapsed() < SLOW_AGE
        {
            return *slow;
        }
        let slow = Slow {
            index_bytes: self.node.index_bytes().await.ok(),
            uploads: self.node.uploads_by_state().await.ok(),
        };
        *kept = Some((Instant::now(), slow));
        slow
    }
}
