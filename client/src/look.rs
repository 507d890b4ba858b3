//! Asking the four nodes for a path, and carrying the messages of [`protocol::read::Read`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::read::{Effect, Event, Outcome, Read};
use dfs_proto::wire::pb;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::ask::{Ask, Inbound};
use crate::error::NodeError;
use crate::nodes::Nodes;
use crate::pairs::{PATIENCE, Pair};
use crate::trace::carried;
use crate::upload::Traffic;

type Answered = (Event, Option<NodeError>, Option<(NodeId, Inbound)>);
type Open = BoxFuture<'static, Answered>;

/// One path being looked up.
pub(crate) struct Look {
    nodes: Arc<Nodes>,
    path: FilePath,
    selection: PerNode<pb::Selection>,
    traffic: Arc<Traffic>,
    machine: Read,
    /// The pair that is asked alone so far; the other nodes are asked if it does not do.
    first: Option<Pair>,
    open: FuturesUnordered<Open>,
    inbound: PerNode<Inbound>,
    errors: Vec<NodeError>,
    started: Instant,
    /// Rounds of messages so far.
    pub(crate) rounds: u32,
}

impl Look {
    /// Asks all four nodes, or those of the pair `first`, and the others if that is not enough;
    /// `selection` says which data each shall send at once.
    pub(crate) fn start(
        nodes: Arc<Nodes>,
        path: FilePath,
        selection: PerNode<pb::Selection>,
        first: Option<Pair>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let (machine, effects) = Read::start();
        let mut look = Self {
            nodes,
            path,
            selection,
            traffic,
            machine,
            first,
            open: FuturesUnordered::new(),
            inbound: Default::default(),
            errors: Vec::new(),
            started: Instant::now(),
            rounds: 1,
        };
        look.apply(effects);
        look
    }

    /// Waits for the decision.
    pub(crate) async fn decide(&mut self) -> Outcome {
        loop {
            match self.step().await {
                Some(Some(outcome)) => return outcome,
                Some(None) => {}
                None => return Outcome::Unavailable,
            }
        }
    }

    /// After the decision: waits a little longer for nodes that are `wanted` as sources.
    pub(crate) async fn linger(&mut self, limit: Duration, wanted: impl Fn(NodeId) -> bool) {
        let deadline = Instant::now() + limit;
        let missing =
            |look: &Self| NodeId::ALL.into_iter().any(|id| look.machine.waiting(id) && wanted(id));
        while missing(self) {
            if tokio::time::timeout_at(deadline, self.step()).await.is_err() {
                return;
            }
        }
    }

    /// After the decision: waits until the nodes that are `wanted` as sources and have answered
    /// hold every chunk of `version`, or none of them is left to answer. A node that is slow to
    /// log in may have what the others lack; each answer has a deadline of its own.
    pub(crate) async fn await_chunks(
        &mut self,
        version: &Version,
        wanted: impl Fn(NodeId) -> bool,
    ) {
        let sources = || NodeId::ALL.into_iter().filter(|id| wanted(*id));
        loop {
            let have = self.have(version);
            let held =
                sources().filter_map(|id| have[id.index()]).fold(ChunkSet::EMPTY, ChunkSet::union);
            let waiting = sources().any(|id| self.machine.waiting(id));
            if held == ChunkSet::ALL || !waiting || self.step().await.is_none() {
                return;
            }
        }
    }

    /// Handles one answer: `None` when none is open, `Some(Some(_))` at the decision.
    async fn step(&mut self) -> Option<Option<Outcome>> {
        let (event, error, inbound) = self.next().await?;
        if matches!(event, Event::Failed(_)) {
            self.ask_others_for_failure();
        }
        self.errors.extend(error);
        if let Some((id, inbound)) = inbound {
            self.inbound[id.index()] = inbound;
        }
        let effects = self.machine.on(event, self.started.elapsed());
        let outcome = self.apply(effects);
        if outcome.is_none() && self.open.is_empty() {
            self.ask_others();
        }
        Some(outcome)
    }

    /// The next answer.
    async fn next(&mut self) -> Option<Answered> {
        if self.first.is_some() {
            match timeout_at(self.started + PATIENCE, self.open.next()).await {
                Ok(answered) => return answered,
                Err(_) => self.ask_others_for_failure(),
            }
        }
        self.open.next().await
    }

    fn ask_others_for_failure(&mut self) {
        if let Some(pair) = self.first {
            self.nodes.turns().failed(pair);
            self.ask_others();
        }
    }

    /// Asks the nodes that were held back, for their records alone: of the data two have sent
    /// what they hold already.
    pub(crate) fn ask_others(&mut self) {
        let Some(pair) = self.first.take() else { return };
        self.rounds += 1;
        for id in NodeId::ALL.into_iter().filter(|id| !pair.contains(*id)) {
            let asked = self.ask(id);
            self.open.push(asked);
        }
    }

    fn apply(&mut self, effects: Vec<Effect>) -> Option<Outcome> {
        let (mut outcome, mut wrote_back) = (None, false);
        for effect in effects {
            match effect {
                Effect::Ask(id) if self.first.is_some_and(|pair| !pair.contains(id)) => {}
                Effect::Ask(id) => self.open.push(self.ask(id)),
                Effect::WriteBack { to, version, source } => {
                    wrote_back = true;
                    let (member, path) = (self.nodes.get(to).clone(), self.path.clone());
                    // A task, which goes on when the decision no longer needs it: one that nobody
                    // drives while it logs in would keep the node from everybody else.
                    let write_back = self.nodes.background().spawn(carried(async move {
                        member.commit(&path, &version, true, &[source]).await
                    }));
                    self.open.push(Box::pin(async move {
                        let (answer, error) =
                            write_back.await.unwrap_or((CommitAnswer::NoAnswer, None));
                        (Event::WriteBack(to, answer), error, None)
                    }));
                }
                Effect::Confirm(id, tag) => {
                    let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
                    self.nodes
                        .background()
                        .spawn(carried(async move { member.confirm(&path, tag).await }));
                }
                Effect::Finish(end) => outcome = Some(end),
            }
        }
        self.rounds += u32::from(wrote_back);
        outcome
    }

    fn ask(&self, id: NodeId) -> Open {
        let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
        let (selection, traffic) = (self.selection[id.index()], self.traffic.clone());
        Box::pin(async move {
            match member.ask(Ask { path, selection, traffic }).await {
                Ok((reply, inbound)) => {
                    (Event::Reply(id, Box::new(reply)), None, Some((id, inbound)))
                }
                Err(error) => (Event::Failed(id), Some(error), None),
            }
        })
    }

    /// What each node said it holds of `version`; `None` where it did not answer.
    pub(crate) fn have(&self, version: &Version) -> PerNode<Option<ChunkSet>> {
        self.machine.have(version)
    }

    /// Whether all of `version` has come with the first answers.
    pub(crate) fn has_come(&self, version: &Version) -> bool {
        let come = |chunk: ChunkId| {
            let same = self.inbound.iter().filter(|inbound| inbound.upload == Some(version.upload));
            same.flat_map(|inbound| &inbound.chunks).any(|(come, _)| *come == chunk)
        };
        let empty = |chunk: ChunkId| {
            version.manifest().is_some_and(|manifest| manifest.chunk(chunk).length == 0)
        };
        ChunkId::ALL.into_iter().all(|chunk| come(chunk) || empty(chunk))
    }

    /// Takes the chunks of `upload` that have come already.
    pub(crate) fn take_chunks(&mut self, upload: UploadId) -> Vec<(ChunkId, Bytes)> {
        let same = self.inbound.iter_mut().filter(|inbound| inbound.upload == Some(upload));
        let mut chunks: Vec<_> = same.flat_map(|inbound| inbound.chunks.drain(..)).collect();
        chunks.sort_by_key(|(chunk, _)| *chunk);
        chunks.dedup_by_key(|(chunk, _)| *chunk);
        chunks
    }

    /// Why nodes did not answer.
    pub(crate) fn errors(&self) -> Vec<NodeError> {
        self.errors.clone()
    }
}
