//! Repairing one path: carries the messages of [`dfs_proto::protocol::repair`].

use dfs_proto::placement::NodeId;
use dfs_proto::protocol::repair::{Effect, Event, Mode, Repair, Report, State};
use dfs_proto::protocol::row::ReleaseOrder;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Healer;
use crate::peers::{PeerError, UserPath};

/// A repair that is asked for more often than this has lost its way.
const MAX_STEPS: usize = 1000;

impl Healer {
    /// Repairs a path; copies at most `pace` bytes a second to each node, 0 without a limit.
    pub(crate) async fn repair(&self, of: &UserPath, mode: Mode, pace: u64) -> Report {
        let (mut repair, effects) = Repair::start(mode);
        let mut open = FuturesUnordered::new();
        let mut effects = effects;
        let mut released_some = false;
        for _ in 0..MAX_STEPS {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Finish(report) => {
                        // Nothing is due any more but Confirms, and they are to arrive.
                        while open.next().await.is_some() {}
                        tell(of, mode, &report);
                        return report;
                    }
                    effect @ Effect::Release { .. } => {
                        // Only Confirms may be under way, and a release rests on them.
                        while !released_some && open.next().await.is_some() {}
                        released_some = true;
                        open.push(self.carry(of, effect, pace));
                    }
                    effect => open.push(self.carry(of, effect, pace)),
                }
            }
            match open.next().await {
                Some(Some(event)) => effects = repair.on(event),
                Some(None) => {}
                None => break,
            }
        }
        tracing::error!(user = %of.user, path = %of.path, "a repair does not end");
        repair.give_up()
    }

    /// Does what an effect says; `None` where it has no answer.
    fn carry<'a>(
        &'a self,
        of: &'a UserPath,
        effect: Effect,
        pace: u64,
    ) -> BoxFuture<'a, Option<Event>> {
        let failed = move |id: NodeId, step: &'static str, error: PeerError| {
            tracing::debug!(user = %of.user, path = %of.path, node = %id, step, %error, "failed");
            Event::Failed(id)
        };
        Box::pin(async move {
            Some(match effect {
                Effect::Ask(id) => match self.peers.ask(id, of).await {
                    Ok(reply) => Event::Reply(id, Box::new(reply)),
                    Err(error) => failed(id, "ask", error),
                },
                Effect::Look { node, version, reread } => {
                    match self.peers.look(node, of, &version, reread).await {
                        Ok(held) => Event::Held(node, held),
                        Err(error) => failed(node, "look", error),
                    }
                }
                Effect::WriteBack { to, version, source } => {
                    match self.write_back(to, of, &version, source).await {
                        Ok(answer) => Event::WriteBack(to, answer),
                        Err(error) => failed(to, "write back", error),
                    }
                }
                Effect::Confirm(id, tag) => {
                    if let Err(error) = self.peers.confirm(id, of, tag).await {
                        failed(id, "confirm", error);
                    }
                    return None;
                }
                Effect::Pull { to, version, chunks, from } => {
                    match self.peers.pull(to, of, &version, chunks, &from, pace).await {
                        Ok(held) => Event::Held(to, held),
                        Err(error) => failed(to, "pull", error),
                    }
                }
                Effect::Release { node, version, chunks, homes } => {
                    let (tag, upload) = (version.tag, version.upload);
                    let order = ReleaseOrder { tag, upload, chunks, homes };
                    match self.peers.release(node, of, &order).await {
                        Ok(()) => Event::Released(node, true),
                        Err(PeerError::Refused(_)) => Event::Released(node, false),
                        Err(error) => failed(node, "release", error),
                    }
                }
                Effect::Finish(_) => return None,
            })
        })
    }
}

/// Tells the operator what was done, and what is past doing.
fn tell(of: &UserPath, mode: Mode, report: &Report) {
    let UserPath { user, path } = of;
    match report.state {
        State::Lost(chunks) => {
            tracing::error!(%user, %path, ?chunks, "chunks of a file are on no node");
        }
        State::Dead(chunks) => {
            tracing::warn!(%user, %path, ?chunks, "a version was never completed and cannot be");
        }
        State::Repaired if mode != Mode::DryRun => {
            let bytes = report.copied_bytes();
            tracing::info!(%user, %path, bytes, "repaired");
        }
        State::Healthy | State::Repaired | State::Unfinished | State::Unreachable => {}
    }
}
