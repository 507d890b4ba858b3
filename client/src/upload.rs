//! Sending chunks of an upload to one node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, ChunkSet, block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Manifest, UploadId};
use dfs_proto::name::FilePath;
use dfs_proto::placement::PerNode;
use dfs_proto::protocol::put::Prepared;
use dfs_proto::wire::status::Reason;
use dfs_proto::wire::{convert, pb};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::connect::{Node, PROGRESS_LIMIT, Session, cause, within};
use crate::error::{Cause, NodeError};
use crate::source::{Source, Sums};

/// Files up to this length share streams with others.
const SMALL_BYTES: u64 = 256 << 10;

/// What a node's disk is trusted to sync in a second, in bytes: the last answer to a large
/// upload may take longer by the upload's length over this.
const SYNC_BYTES_PER_SECOND: u64 = 20 << 20;

/// What a header counts for, in bytes: more than it has with any path of usual length. With it
/// a batch also stays far below the 4,000 chunks that a node takes in one stream.
const HEADER_BYTES: usize = 1 << 10;

/// The slowest line that a batch of small files is sent over, in bytes per second.
pub(crate) const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;

/// How long a block of a local file may take to be read: less than a node waits for it.
const READ_LIMIT: Duration = Duration::from_secs(25);

/// How often a stream to one node may break and go on.
const MAX_BREAKS: u32 = 3;

/// How long a node whose stream broke may take to be there again, before its chunks go to, or come
/// from, another one.
pub(crate) const REVIVE_LIMIT: Duration = Duration::from_secs(5);

/// Every byte is read once for its sums and sent twice: three equal parts of the work.
pub(crate) const PASSES: u64 = 3;

/// Told how many bytes of the file's work are done.
pub trait Progress: Send + Sync {
    /// The file has this many bytes. Told once, by a GET when it knows.
    fn start(&self, _total: u64) {}

    /// There are this many bytes more to do. Told by a VERIFY for each file that it finds.
    fn grow(&self, _bytes: u64) {}

    /// `bytes` more of the file are done.
    fn advance(&self, bytes: u64);
}

/// Payload bytes sent to, or received from, each node.
#[derive(Debug, Default)]
pub(crate) struct Traffic(PerNode<AtomicU64>);

impl Traffic {
    pub(crate) fn add(&self, node: dfs_proto::placement::NodeId, bytes: u64) {
        self.0[node.index()].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn per_node(&self) -> PerNode<u64> {
        self.0.each_ref().map(|bytes| bytes.load(Ordering::Relaxed))
    }
}

/// One upload: its name, its content, and who is told about progress.
pub(crate) struct Upload {
    pub(crate) path: FilePath,
    pub(crate) id: UploadId,
    pub(crate) manifest: Manifest,
    pub(crate) source: Source,
    pub(crate) sums: Arc<Sums>,
    /// Nodes may hold some of it: an earlier run has begun it.
    pub(crate) resumed: bool,
    pub(crate) traffic: Traffic,
    pub(crate) progress: Option<Arc<dyn Progress>>,
}

impl Upload {
    pub(crate) fn is_small(&self) -> bool {
        self.sums.size <= SMALL_BYTES
    }

    /// Payload of these chunks, in bytes.
    fn payload(&self, chunks: ChunkSet) -> u64 {
        chunks.iter().map(|chunk| chunk.length(self.sums.size)).sum()
    }

    /// About what these chunks take on the wire, in bytes, headers included.
    pub(crate) fn weight(&self, chunks: ChunkSet) -> usize {
        let note = |(key, value): (&String, &String)| key.len() + value.len();
        let notes: usize = self.manifest.metadata().iter().map(note).sum();
        let headers = chunks.len() as usize * (HEADER_BYTES + notes);
        usize::try_from(self.payload(chunks)).unwrap_or(usize::MAX).saturating_add(headers)
    }

    fn header(&self, chunk: ChunkId, first_block: u64) -> pb::PutChunkRequest {
        let first_block = u32::try_from(first_block).ok().filter(|first| *first > 0);
        let header = pb::ChunkHeader {
            path: self.path.as_str().to_owned(),
            upload_id: self.id.bytes().to_vec(),
            chunk: chunk.get().into(),
            manifest: Some((&self.manifest).into()),
            first_block,
        };
        let message = Some(pb::put_chunk_request::Message::Header(header));
        pb::PutChunkRequest { message }
    }

    /// Part of the work was done by an earlier run.
    fn done_before(&self, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.advance(bytes / PASSES);
        }
    }

    fn sent(&self, node: &Node, bytes: u64) {
        self.traffic.add(node.id(), bytes);
        if let Some(progress) = &self.progress {
            progress.advance(bytes / PASSES);
        }
    }
}

fn block(chunk: ChunkId, index: u32, data: Bytes, crc: Crc32c) -> pb::PutChunkRequest {
    let block = pb::Block { chunk: chunk.get().into(), index, crc32c: crc.get(), data };
    pb::PutChunkRequest { message: Some(pb::put_chunk_request::Message::Block(block)) }
}

/// All of a small upload for one node: each of its chunks is one block, or none.
fn small_messages((upload, chunks): &(Arc<Upload>, ChunkSet)) -> Vec<pb::PutChunkRequest> {
    let mut messages = Vec::with_capacity(4);
    for chunk in chunks.iter() {
        messages.push(upload.header(chunk, 0));
        if let Some((data, crc)) = upload.source.in_memory(&upload.sums, chunk) {
            messages.push(block(chunk, 0, data, crc));
        }
    }
    messages
}

/// Sends many small uploads in one stream.
pub(crate) async fn send_small(
    node: Arc<Node>,
    uploads: Vec<(Arc<Upload>, ChunkSet)>,
) -> Vec<Result<Prepared, NodeError>> {
    let bytes: u64 = uploads.iter().map(|(upload, chunks)| upload.payload(*chunks)).sum();
    let limit = PROGRESS_LIMIT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
    node.take(bytes).await;
    let answer = node
        .with_session(|session| {
            let messages: Vec<_> = uploads.iter().flat_map(small_messages).collect();
            async move {
                let call = session.put_chunk(tokio_stream::iter(messages));
                within(limit, "PutChunk", call).await
            }
        })
        .await;
    match answer {
        Err(error) => vec![Err(error); uploads.len()],
        Ok(answer) => {
            let mut from = 0;
            let mut results = Vec::with_capacity(uploads.len());
            let stats = answer.stats.iter().map(|stat| (&*stat.path, stat));
            let stats: HashMap<&str, &pb::PathStat> = stats.collect();
            for (upload, chunks) in &uploads {
                let to = from + chunks.len() as usize;
                let stat = stats.get(upload.path.as_str()).copied();
                results.push(read_answer(&node, &answer, answer.results.get(from..to), stat));
                upload.sent(&node, upload.payload(*chunks));
                from = to;
            }
            results
        }
    }
}

/// What a node holds of an upload: blocks of each chunk, from the first on.
type Held = [u64; 4];

/// Sends chunks of one large upload in a stream of their own. A stream that breaks goes on where
/// it was, if the node is there again soon: it may have been restarted.
pub(crate) async fn send_large(
    node: &Node,
    upload: &Upload,
    chunks: ChunkSet,
) -> Result<Prepared, NodeError> {
    let mut held = Held::default();
    if upload.resumed {
        held = query(node, upload).await?.held;
        let bytes = chunks
            .iter()
            .map(|chunk| block_range(chunk.length(upload.sums.size), held[chunk.index()]).start);
        upload.done_before(bytes.sum());
    }
    for _ in 0..MAX_BREAKS {
        let sent = node.with_session(|session| stream(node, upload, chunks, held, session)).await;
        let error = match sent {
            Ok(answer) => return read_only_answer(node, upload, &answer),
            Err(error) => error,
        };
        match &error.cause {
            // Somebody else has taken or removed what was there: look again.
            Cause::Refused { reason: Some(Reason::NotStaged), .. } => {}
            Cause::Broken(_) | Cause::Refused { reason: Some(Reason::ShuttingDown), .. } => {
                node.revive(REVIVE_LIMIT).await?;
            }
            _ => return Err(error),
        }
        held = query(node, upload).await.map_err(|_| error)?.held;
    }
    let answer = node.with_session(|session| stream(node, upload, chunks, held, session)).await?;
    read_only_answer(node, upload, &answer)
}

/// What a node knows of an upload.
pub(crate) struct Known {
    held: Held,
    /// Whether nothing may be added to it any more.
    pub(crate) closed: bool,
}

/// Asks a node what it holds of an upload.
pub(crate) async fn query(node: &Node, upload: &Upload) -> Result<Known, NodeError> {
    let upload_id = upload.id.bytes().to_vec();
    let upload_ref = pb::UploadRef { path: upload.path.as_str().to_owned(), upload_id };
    let request = pb::QueryUploadRequest { upload: Some(upload_ref) };
    let answer = node.unary("QueryUpload", request, |mut client, request| async move {
        client.query_upload(request).await
    });
    let answer = answer.await?;
    let mut held = Held::default();
    for (chunk, durable) in ChunkId::ALL.into_iter().zip(answer.durable_bytes) {
        let length = chunk.length(upload.sums.size);
        let whole = durable >= length;
        held[chunk.index()] = if whole { block_count(length) } else { durable / BLOCK_BYTES };
    }
    Ok(Known { held, closed: answer.fenced || answer.committed })
}

/// The order in which chunks are sent: 1 and 3 first. Of a node's two home chunks one is odd, so
/// both nodes of a chunk get it at the same time, and it is read once for both.
fn in_turn(chunks: ChunkSet) -> impl Iterator<Item = ChunkId> {
    let odd = |chunk: &ChunkId| chunk.get() % 2 == 1;
    chunks.iter().filter(odd).chain(chunks.iter().filter(move |chunk| !odd(chunk)))
}

async fn stream(
    node: &Node,
    upload: &Upload,
    chunks: ChunkSet,
    held: Held,
    session: Session,
) -> Result<pb::PutChunkResponse, Cause> {
    let what = "PutChunk";
    let (send, receive) = mpsc::channel(1);
    let started = Instant::now();
    let progress = AtomicU64::new(0);
    let feed = async {
        // Moved in, so that the stream ends when everything is sent.
        let send = send;
        for chunk in in_turn(chunks) {
            let first = held[chunk.index()];
            let mut blocks = upload.source.blocks(upload.sums.clone(), chunk, first);
            let mut message = upload.header(chunk, first);
            for index in u32::try_from(first).unwrap_or(u32::MAX).. {
                if send.send(message).await.is_err() {
                    return Ok(());
                }
                // While it is read, or waits for its turn, the node is not to blame.
                progress.store(millis(started.elapsed() + READ_LIMIT), Ordering::Relaxed);
                let next = timeout(READ_LIMIT, blocks.next()).await.map_err(|_| slow_source())?;
                progress.store(millis(started.elapsed()), Ordering::Relaxed);
                let Some(next) = next else {
                    break;
                };
                let (data, crc) = next?;
                let wait = node.reserve(data.len() as u64);
                if !wait.is_zero() {
                    progress.store(millis(started.elapsed() + wait), Ordering::Relaxed);
                    tokio::time::sleep(wait).await;
                }
                upload.sent(node, data.len() as u64);
                message = block(chunk, index, data, crc);
            }
        }
        Ok::<(), Cause>(())
    };
    let call = session.put_chunk(ReceiverStream::new(receive));
    tokio::pin!(feed, call);
    let mut fed = false;
    let mut limit = PROGRESS_LIMIT;
    loop {
        // It may lie ahead, for as long as nothing is expected of the node.
        let last = started + Duration::from_millis(progress.load(Ordering::Relaxed));
        let last = last.min(Instant::now());
        tokio::select! {
            // The clock last: a client that was stopped looks first at what came meanwhile.
            biased;
            answer = &mut call => {
                return match answer {
                    Ok(answer) => Ok(answer),
                    Err(status) => Err(cause(&status, what, limit)),
                };
            }
            end = &mut feed, if !fed => {
                end?;
                fed = true;
                limit += Duration::from_secs(upload.payload(chunks) / SYNC_BYTES_PER_SECOND);
                progress.store(millis(started.elapsed()), Ordering::Relaxed);
            }
            () = tokio::time::sleep_until(last + limit) => {
                let last = started + Duration::from_millis(progress.load(Ordering::Relaxed));
                if last.elapsed() >= limit {
                    return Err(Cause::Timeout { what, seconds: limit.as_secs() });
                }
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn slow_source() -> Cause {
    Cause::SourceUnreadable(format!("a block took longer than {} s", READ_LIMIT.as_secs()))
}

/// What the answer to a stream with one upload says.
fn read_only_answer(
    node: &Node,
    upload: &Upload,
    answer: &pb::PutChunkResponse,
) -> Result<Prepared, NodeError> {
    let stat = answer.stats.iter().find(|stat| stat.path == upload.path.as_str());
    read_answer(node, answer, answer.results.get(..), stat)
}

/// What an answer says of one upload, whose chunks and path have these places in it.
fn read_answer(
    node: &Node,
    answer: &pb::PutChunkResponse,
    results: Option<&[pb::ChunkResult]>,
    stat: Option<&pb::PathStat>,
) -> Result<Prepared, NodeError> {
    let nonsense = |why: &str| node.error(Cause::Nonsense(why.to_owned()));
    let results = results.ok_or_else(|| nonsense("results are missing"))?;
    if let Some(refusal) = results.iter().find_map(|result| result.refusal.as_ref()) {
        return Err(node.error(Cause::Refused {
            reason: Reason::from_name(&refusal.reason),
            message: refusal.message.clone(),
        }));
    }
    let stat = stat.ok_or_else(|| nonsense("the state of the path is missing"))?;
    let identity =
        convert::identity(answer.node.as_ref()).map_err(|error| nonsense(&error.to_string()))?;
    if identity.rejoining {
        return Err(node.error(Cause::Rejoining));
    }
    let reply = convert::reply(&identity, stat).map_err(|error| nonsense(&error.to_string()))?;
    Ok(Prepared { incarnation: reply.incarnation, tag: reply.tag_answer() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::digest::Residue;
    use dfs_proto::placement::{NodeId, home_chunks};

    #[test]
    fn both_nodes_of_a_chunk_get_it_in_the_same_turn() {
        for x in Residue::ALL {
            let turns = NodeId::ALL.map(|node| in_turn(home_chunks(x, node)).collect::<Vec<_>>());
            for turn in [0, 1] {
                let mut chunks = turns.each_ref().map(|chunks| chunks[turn].get());
                chunks.sort_unstable();
                assert_eq!(chunks, if turn == 0 { [1, 1, 3, 3] } else { [2, 2, 4, 4] });
            }
        }
    }
}
