//! Asking one node for its records of paths, and for the chunks of small files with them.
//!
//! Gets that go on at the same time share requests. A node that is older than requests for
//! several paths refuses the first one, and is asked for each path alone from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkId};
use dfs_proto::digest::Crc32c;
use dfs_proto::identity::Identity;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::FilePath;
use dfs_proto::protocol::read::Reply;
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::pb::get_chunks_response::Message;
use dfs_proto::wire::status::Reason;
use dfs_proto::wire::{MAX_GET_BYTES, convert, pb};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use crate::connect::{Node, PROGRESS_LIMIT, Session, UNARY_LIMIT, cause, within};
use crate::error::{Cause, NodeError};
use crate::lane::Caller;
use crate::upload::{SLOWEST_BYTES_PER_SECOND, Traffic};

/// A chunk up to this length comes with the first answer, in bytes: a file four times as long
/// takes one round trip, and a get holds at most as much in memory.
pub(crate) const INLINE_BYTES: u64 = 256 << 10;

const _: () = assert!(INLINE_BYTES <= BLOCK_BYTES, "a chunk that comes along is one block");

const WHAT: &str = "GetChunks";

/// A path that a node is asked for.
pub(crate) struct Ask {
    pub(crate) path: FilePath,
    /// Which of its chunks the node shall send, if they are short.
    pub(crate) selection: pb::Selection,
    /// Where the data counts.
    pub(crate) traffic: Arc<Traffic>,
}

/// Chunks that came with a node's first answer, whole and with good checksums.
#[derive(Default)]
pub(crate) struct Inbound {
    pub(crate) upload: Option<UploadId>,
    pub(crate) chunks: Vec<(ChunkId, Bytes)>,
}

/// What a node says.
pub(crate) type Answer = Result<(Reply, Inbound), NodeError>;

type Batch = Vec<(Ask, Caller<Answer>)>;

/// Asks one node. `alone` remembers that it takes one path at a time.
pub(crate) async fn send(node: Arc<Node>, alone: Arc<AtomicBool>, batch: Batch) {
    let batch = if batch.len() > 1 && alone.load(Ordering::Relaxed) {
        batch
    } else {
        match request(&node, batch).await {
            Ok(()) => return,
            Err(batch) => batch,
        }
    };
    alone.store(true, Ordering::Relaxed);
    join_all(batch.into_iter().map(|one| request(&node, vec![one]))).await;
}

/// Sends one request and answers each caller as soon as its answer is there. The batch comes
/// back where the node does not know such requests.
async fn request(node: &Node, batch: Batch) -> Result<(), Batch> {
    let message = pb::GetChunksRequest { source: Some(source(&batch)) };
    let opened = node.with_session(|session| {
        let mut client = session.client();
        let request = session.request(message.clone());
        async move {
            let call = async {
                let mut stream = client.get_chunks(request).await?.into_inner();
                let first = stream.message().await?;
                Ok((stream, first))
            };
            let (stream, first) = within(UNARY_LIMIT, WHAT, call).await?;
            Ok((session, stream, first))
        }
    });
    match opened.await {
        Ok(opened) => {
            read(node, opened, batch).await;
            Ok(())
        }
        Err(error) if batch.len() > 1 && is_unknown(&error.cause) => Err(batch),
        Err(error) => {
            fail(batch.into_iter(), &error);
            Ok(())
        }
    }
}

fn source(batch: &[(Ask, Caller<Answer>)]) -> Source {
    let paths = batch.iter().map(|(ask, _)| pb::PathSource {
        path: ask.path.as_str().to_owned(),
        selection: ask.selection.into(),
        max_chunk_bytes: match ask.selection {
            pb::Selection::Unspecified => 0,
            pb::Selection::FirstHome | pb::Selection::BothHomes => INLINE_BYTES,
        },
    });
    let mut paths: Vec<_> = paths.collect();
    match paths.pop() {
        Some(path) if paths.is_empty() => Source::ByPath(path),
        last => {
            paths.extend(last);
            Source::ByPaths(pb::PathsSource { paths, max_bytes: MAX_GET_BYTES })
        }
    }
}

/// Whether a node refuses a request as one that names nothing it knows.
fn is_unknown(cause: &Cause) -> bool {
    matches!(cause, Cause::Refused { reason: Some(Reason::InvalidArgument), .. })
}

fn fail(callers: impl Iterator<Item = (Ask, Caller<Answer>)>, error: &NodeError) {
    for (_, caller) in callers {
        // A caller that went away needs no answer.
        let _ = caller.send(Err(error.clone()));
    }
}

type Responses = Streaming<pb::GetChunksResponse>;

/// Reads the answers to a batch.
async fn read(
    node: &Node,
    (session, mut stream, first): (Session, Responses, Option<pb::GetChunksResponse>),
    batch: Batch,
) {
    let started = Instant::now();
    let (mut waiting, mut received) = (batch.into_iter(), 0_u64);
    let (mut identity, mut open) = (None, None::<Open>);
    let mut next = first;
    let cause = loop {
        match next.map(|response| response.message) {
            Some(Some(Message::Head(head))) => {
                open.take().into_iter().for_each(Open::close);
                let Some((ask, caller)) = waiting.next() else {
                    break Cause::Nonsense("there are more records than paths".to_owned());
                };
                match reply(&mut identity, &head) {
                    Ok(reply) => open = Some(Open::new(ask, caller, reply)),
                    Err(cause) => {
                        fail([(ask, caller)].into_iter(), &node.error(cause.clone()));
                        break cause;
                    }
                }
            }
            Some(Some(Message::Block(block))) => {
                let Some(open) = &mut open else {
                    break Cause::Nonsense("the record does not come first".to_owned());
                };
                let bytes = block.data.len() as u64;
                received = received.saturating_add(bytes);
                open.ask.traffic.add(node.id(), bytes);
                // It has come already: whoever moves something next waits for it, too.
                node.reserve(bytes);
                open.take(block);
            }
            Some(None) | None => break Cause::Nonsense("records are missing".to_owned()),
        }
        let limit = PROGRESS_LIMIT + Duration::from_secs(received / SLOWEST_BYTES_PER_SECOND);
        next = match timeout_at(started + limit, stream.message()).await {
            Ok(Ok(next)) => next,
            Ok(Err(status)) => break cause(&status, WHAT, limit),
            Err(_) => break Cause::Timeout { what: WHAT, seconds: limit.as_secs() },
        };
    };
    // What has come of the last one is an answer, however the stream ended.
    open.into_iter().for_each(Open::close);
    if waiting.len() > 0 {
        fail(waiting, &node.failed(&session, cause).await);
    }
}

/// Reads a record. Who answers is said with the first one.
fn reply(identity: &mut Option<Identity>, head: &pb::GetChunksHead) -> Result<Reply, Cause> {
    let nonsense = |error: convert::Malformed| Cause::Nonsense(error.to_string());
    if identity.is_none() || head.node.is_some() {
        *identity = Some(convert::identity(head.node.as_ref()).map_err(nonsense)?);
    }
    let missing = |what| Cause::Nonsense(format!("{what}: is missing"));
    let identity = identity.as_ref().ok_or_else(|| missing("node"))?;
    if identity.rejoining {
        return Err(Cause::Rejoining);
    }
    let stat = head.stat.as_ref().ok_or_else(|| missing("stat"))?;
    convert::reply(identity, stat).map_err(nonsense)
}

/// A record that has come, and the chunks that follow it.
struct Open {
    ask: Ask,
    caller: Caller<Answer>,
    reply: Reply,
    chunks: Vec<(ChunkId, Bytes)>,
}

impl Open {
    fn new(ask: Ask, caller: Caller<Answer>, reply: Reply) -> Self {
        Self { ask, caller, reply, chunks: Vec::new() }
    }

    /// Takes a chunk. What is not whole or not right is left out: it will be asked for again.
    fn take(&mut self, block: pb::Block) {
        let record = self.reply.current.as_ref();
        let manifest = record.and_then(|record| record.version.manifest());
        let (Some(manifest), Some(chunk)) = (manifest, ChunkId::new(block.chunk)) else {
            return;
        };
        let (expected, crc) = (manifest.chunk(chunk), Crc32c::of(&block.data));
        let right = expected.crc == crc && expected.length == block.data.len() as u64;
        let wanted = expected.length <= INLINE_BYTES && self.chunks.len() < 2;
        if right && wanted && block.crc32c == crc.get() {
            self.chunks.push((chunk, block.data));
        }
    }

    fn close(self) {
        let upload = self.reply.current.as_ref().map(|record| record.version.upload);
        // A caller that went away needs no answer.
        let _ = self.caller.send(Ok((self.reply, Inbound { upload, chunks: self.chunks })));
    }
}
