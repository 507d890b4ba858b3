//! Asking the four nodes for a path, and carrying the messages of [`protocol::read::Read`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::read::{Effect, Event, Outcome, Read, Reply};
use dfs_proto::wire::{convert, pb};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tonic::Streaming;

use crate::connect::{Node, PROGRESS_LIMIT, UNARY_LIMIT, within};
use crate::error::{Cause, NodeError};
use crate::nodes::Nodes;
use crate::trace::carried;
use crate::upload::Traffic;

/// A chunk up to this length comes with the first answer, in bytes: a file four times as long
/// takes one round trip, and a get holds at most as much in memory.
pub(crate) const INLINE_BYTES: u64 = 256 << 10;

/// Chunks that came with a node's first answer, whole and with good block checksums.
#[derive(Default)]
pub(crate) struct Inbound {
    upload: Option<UploadId>,
    chunks: Vec<(ChunkId, Vec<Bytes>)>,
}

type Open = BoxFuture<'static, (Event, Option<NodeError>, Option<(NodeId, Inbound)>)>;

/// One path being looked up.
pub(crate) struct Look {
    nodes: Arc<Nodes>,
    path: FilePath,
    selection: PerNode<pb::Selection>,
    traffic: Arc<Traffic>,
    machine: Read,
    open: FuturesUnordered<Open>,
    inbound: PerNode<Inbound>,
    errors: Vec<NodeError>,
    started: Instant,
    /// Rounds of messages so far.
    pub(crate) rounds: u32,
}

impl Look {
    /// Asks all four nodes; `selection` says which data each shall send at once.
    pub(crate) fn start(
        nodes: Arc<Nodes>,
        path: FilePath,
        selection: PerNode<pb::Selection>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let (machine, effects) = Read::start();
        let mut look = Self {
            nodes,
            path,
            selection,
            traffic,
            machine,
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
        let (event, error, inbound) = self.open.next().await?;
        self.errors.extend(error);
        if let Some((id, inbound)) = inbound {
            self.inbound[id.index()] = inbound;
        }
        let effects = self.machine.on(event, self.started.elapsed());
        Some(self.apply(effects))
    }

    fn apply(&mut self, effects: Vec<Effect>) -> Option<Outcome> {
        let mut outcome = None;
        for effect in effects {
            match effect {
                Effect::Ask(id) => self.open.push(self.ask(id)),
                Effect::WriteBack { to, version, source } => {
                    self.rounds = 2;
                    let (member, path) = (self.nodes.get(to).clone(), self.path.clone());
                    self.open.push(Box::pin(async move {
                        let (answer, error) = member.commit(&path, &version, true, &[source]).await;
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
        outcome
    }

    fn ask(&self, id: NodeId) -> Open {
        let (member, path) = (self.nodes.get(id).clone(), self.path.clone());
        let (selection, traffic) = (self.selection[id.index()], self.traffic.clone());
        Box::pin(async move {
            match ask(member.node(), &path, selection, &traffic).await {
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

    /// Takes the chunks of `upload` that have come already.
    pub(crate) fn take_chunks(&mut self, upload: UploadId) -> Vec<(ChunkId, Vec<Bytes>)> {
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

/// Asks one node for its record of a path and the selected chunks, if they are short.
async fn ask(
    node: &Node,
    path: &FilePath,
    selection: pb::Selection,
    traffic: &Traffic,
) -> Result<(Reply, Inbound), NodeError> {
    let what = "GetChunks";
    let max_chunk_bytes = if selection == pb::Selection::Unspecified { 0 } else { INLINE_BYTES };
    let source = pb::PathSource {
        path: path.as_str().to_owned(),
        selection: selection.into(),
        max_chunk_bytes,
    };
    let message =
        pb::GetChunksRequest { source: Some(pb::get_chunks_request::Source::ByPath(source)) };
    let (stream, head) = node
        .with_session(|session| {
            let mut client = session.client();
            let request = session.request(message.clone());
            async move {
                let call = async {
                    let mut stream = client.get_chunks(request).await?.into_inner();
                    let head = stream.message().await?;
                    Ok((stream, head))
                };
                within(UNARY_LIMIT, what, call).await
            }
        })
        .await?;
    let nonsense = |why: String| node.error(Cause::Nonsense(why));
    let Some(pb::GetChunksResponse { message: Some(pb::get_chunks_response::Message::Head(head)) }) =
        head
    else {
        return Err(nonsense("the record does not come first".to_owned()));
    };
    let identity =
        convert::identity(head.node.as_ref()).map_err(|error| nonsense(error.to_string()))?;
    if identity.rejoining {
        return Err(node.error(Cause::Rejoining));
    }
    let stat = head.stat.ok_or_else(|| nonsense("stat: is missing".to_owned()))?;
    let reply = convert::reply(&identity, &stat).map_err(|error| nonsense(error.to_string()))?;
    let inbound = match &reply.current {
        Some(record) if selection != pb::Selection::Unspecified => {
            collect(stream, &record.version, node, traffic).await
        }
        _ => Inbound::default(),
    };
    Ok((reply, inbound))
}

/// Collects the chunks that follow a record. What is not whole or not right is left out: it
/// will be asked for again.
async fn collect(
    mut stream: Streaming<pb::GetChunksResponse>,
    version: &Version,
    node: &Node,
    traffic: &Traffic,
) -> Inbound {
    let Some(manifest) = version.manifest() else {
        return Inbound::default();
    };
    let mut chunks: Vec<(ChunkId, Vec<Bytes>, Crc32c)> = Vec::new();
    while let Ok(Ok(Some(message))) = tokio::time::timeout(PROGRESS_LIMIT, stream.message()).await {
        let Some(pb::get_chunks_response::Message::Block(block)) = message.message else {
            break;
        };
        traffic.add(node.id(), block.data.len() as u64);
        // It has come already: whoever moves something next waits for it, too.
        node.reserve(block.data.len() as u64);
        let Some(chunk) = ChunkId::new(block.chunk) else {
            break;
        };
        if chunks.last().is_none_or(|(last, ..)| *last != chunk) {
            if chunks.len() == 2 {
                break;
            }
            chunks.push((chunk, Vec::new(), Crc32c::default()));
        }
        let Some((_, blocks, crc)) = chunks.last_mut() else {
            break;
        };
        let sum = Crc32c::of(&block.data);
        let short = block.data.len() as u64 <= INLINE_BYTES && blocks.is_empty();
        if sum.get() != block.crc32c || !short {
            break;
        }
        *crc = crc.then(sum, block.data.len() as u64);
        blocks.push(block.data);
    }
    let whole = |(chunk, blocks, crc): (ChunkId, Vec<Bytes>, Crc32c)| {
        let length: u64 = blocks.iter().map(|block| block.len() as u64).sum();
        let sum = manifest.chunk(chunk);
        (sum.length == length && sum.crc == crc).then_some((chunk, blocks))
    };
    Inbound { upload: Some(version.upload), chunks: chunks.into_iter().filter_map(whole).collect() }
}
