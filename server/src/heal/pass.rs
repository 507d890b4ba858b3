//! The pass: a node looks after what it should hold, soon after its start and then again and
//! again. Each node sees to paths where something is wrong with its own part, so the four of
//! them together see to all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dfs_proto::protocol::janitor::Outcome;
use dfs_proto::protocol::repair::{Mode, State};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use super::census::Census;
use super::survey::Survey;
use super::{Healer, PARALLEL, add};
use crate::clock::now_ms;
use crate::jitter::jitter;
use crate::node::NodeError;
use crate::peers::UserPath;

/// From the start to the first pass: the others may have been started at the same time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Pause before paths that turned out to be bad are healed: more may come.
const SETTLE: Duration = Duration::from_millis(200);

impl Healer {
    /// Heals until `stop`; returns at once where the node is not to heal by itself.
    pub(crate) async fn keep_healing(self: Arc<Self>, stop: CancellationToken) {
        let Some(every) = self.settings.every else { return };
        let mut pause = FIRST_PAUSE.min(every);
        loop {
            let due = tokio::time::sleep(pause.mul_f64(jitter()));
            tokio::pin!(due);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = &mut due => break,
                    () = self.node.suspects().wait() => {
                        if stop.run_until_cancelled(self.heal_suspects()).await.is_none() {
                            return;
                        }
                    }
                }
            }
            match stop.run_until_cancelled(self.pass()).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::warn!(%error, "could not heal"),
            }
            pause = every;
        }
    }

    /// Heals the paths in which bad chunks were found.
    async fn heal_suspects(&self) {
        tokio::time::sleep(SETTLE).await;
        while let Some((user, path)) = self.node.suspects().take() {
            self.heal(&UserPath { user, path }).await;
        }
    }

    pub(super) async fn heal(&self, of: &UserPath) -> bool {
        let report = self.repair(of, Mode::Quick, self.settings.bytes_per_second).await;
        match report.state {
            State::Healthy => true,
            State::Repaired => {
                add(&self.figures.healed_paths, 1);
                true
            }
            State::Unfinished | State::Unreachable | State::Lost(_) | State::Dead(_) => false,
        }
    }

    /// Looks at all paths once, heals those that concern this node, removes files whose time is
    /// over, and sees to abandoned uploads.
    async fn pass(&self) -> Result<(), NodeError> {
        let own = self.node.position();
        if self.node.identity().rejoining {
            return Ok(());
        }
        let mut survey = Survey::start(&self.peers, None, None);
        let mut running: FuturesUnordered<BoxFuture<'_, bool>> = FuturesUnordered::new();
        let mut unhealed = 0;
        let mut all_whole = true;
        let mut census = Census::default();
        loop {
            let surveyed = {
                // What runs goes on while the survey waits for other nodes.
                let mut next = std::pin::pin!(survey.next());
                loop {
                    tokio::select! {
                        biased;
                        surveyed = &mut next, if running.len() < PARALLEL => break surveyed,
                        Some(healed) = running.next() => unhealed += u64::from(!healed),
                    }
                }
            };
            let Some(surveyed) = surveyed else { break };
            all_whole &= surveyed.is_whole();
            census.count(own, &surveyed);
            if !surveyed.concerns(own) {
                continue;
            }
            running.push(Box::pin(async move { self.heal(&surveyed.of).await }));
        }
        census.at_ms = now_ms();
        census.took_part = survey.who_takes_part();
        self.set_census(census);
        while let Some(healed) = running.next().await {
            unhealed += u64::from(!healed);
        }
        self.expire().await?;
        self.clear_abandoned().await?;
        self.figures.unhealed.store(unhealed, Ordering::Relaxed);
        self.figures.last_pass_ms.store(now_ms(), Ordering::Relaxed);
        if all_whole && survey.problems.is_empty() {
            self.all_is_whole().await;
        }
        for (node, error) in &survey.problems {
            tracing::debug!(%node, %error, "took no part in a pass");
        }
        Ok(())
    }

    async fn clear_abandoned(&self) -> Result<(), NodeError> {
        let age = u64::try_from(self.staging_ttl.as_millis()).unwrap_or(u64::MAX);
        for abandoned in self.node.abandoned(age).await? {
            let outcome = self.clear(&abandoned).await;
            tracing::info!(
                user = %abandoned.user, path = %abandoned.path, upload = %abandoned.upload,
                ?outcome, "an abandoned upload"
            );
            match outcome {
                // A node is missing: the others would wait for it as well.
                Outcome::Unfinished => break,
                // Those of other users must not wait for one that no node can end.
                Outcome::Dropped | Outcome::Committed | Outcome::Refused => {}
            }
        }
        Ok(())
    }
}
