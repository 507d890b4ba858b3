//! `GetChunks`: a tracked task reads and sends, a few blocks ahead of the client.

use std::sync::Arc;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::placement::{first_home_chunk, home_chunks};
use dfs_proto::protocol::row::Current;
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::pb::get_chunks_response::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Answer, Api, answer, status};
use crate::node::Node;
use crate::node::fetch::FetchError;

/// Messages that are ready for the client but not yet taken. With what is being read and what
/// waits in HTTP/2 this bounds the memory of a stream.
const AHEAD: usize = 2;
/// Most ranges of a request.
const MAX_RANGES: usize = 16;

type Outgoing = mpsc::Sender<Result<pb::GetChunksResponse, Status>>;
type Stream = ReceiverStream<Result<pb::GetChunksResponse, Status>>;

pub(super) async fn get_chunks(
    api: &Api,
    user: UserName,
    request: pb::GetChunksRequest,
) -> Answer<Stream> {
    match request.source {
        None => Err(Malformed::new("source", "is missing").into()),
        Some(Source::ByPath(source)) => by_path(api, user, &source).await,
        Some(Source::ByUpload(source)) => by_upload(api, user, &source),
    }
}

async fn by_path(api: &Api, user: UserName, source: &pb::PathSource) -> Answer<Stream> {
    let path = convert::path("by_path.path", &source.path)?;
    let stats = api.node.stat(user.clone(), vec![(path.clone(), None)], false);
    let stats = stats.await.map_err(status::node)?;
    let current = stats.first().and_then(|stat| stat.current.clone());
    let head =
        pb::GetChunksHead { node: api.identity(), stat: stats.first().map(answer::path_stat) };
    let head = pb::GetChunksResponse { message: Some(Message::Head(head)) };
    let (upload, chunks) = match &current {
        Some(current) => (
            current.record.version.upload,
            selected(api, current, source.selection(), source.max_chunk_bytes),
        ),
        None => (UploadId::new([0; 16]), ChunkSet::EMPTY),
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let node = Arc::clone(&api.node);
    api.node.tasks().spawn(async move {
        if sender.send(Ok(head)).await.is_err() {
            return;
        }
        for chunk in chunks.iter() {
            let wanted = Wanted { user: &user, path: &path, upload, chunk, blocks: (0, 0) };
            // The record is the answer; who misses the data asks for it by upload.
            if let Err(error) = send(&node, &sender, wanted).await {
                tracing::warn!(%path, %chunk, %error, "data left out of an answer by path");
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// The chunks of the current version that go with the answer.
fn selected(
    api: &Api,
    current: &Current,
    selection: pb::Selection,
    max_chunk_bytes: u64,
) -> ChunkSet {
    let Some(manifest) = current.record.version.manifest() else {
        return ChunkSet::EMPTY;
    };
    let position = api.node.identity().node;
    let homes = match selection {
        pb::Selection::Unspecified => ChunkSet::EMPTY,
        pb::Selection::FirstHome => ChunkSet::EMPTY.with(first_home_chunk(manifest.x(), position)),
        pb::Selection::BothHomes => home_chunks(manifest.x(), position),
    };
    let fits = |chunk: &ChunkId| {
        current.record.have.contains(*chunk) && manifest.chunk(*chunk).length <= max_chunk_bytes
    };
    homes.iter().filter(fits).collect()
}

fn by_upload(api: &Api, user: UserName, source: &pb::UploadSource) -> Answer<Stream> {
    let path = convert::path("by_upload.path", &source.path)?;
    let upload = convert::upload_id("by_upload.upload_id", &source.upload_id)?;
    if !(1..=MAX_RANGES).contains(&source.ranges.len()) {
        let why = format!("has {} entries, 1..16 are allowed", source.ranges.len());
        return Err(Malformed::new("by_upload.ranges", why).into());
    }
    let each = source.ranges.iter().map(|range| {
        let chunk = convert::chunk_id("by_upload.ranges.chunk", range.chunk)?;
        Ok((chunk, (range.first_block.into(), range.block_count.into())))
    });
    let ranges: Vec<(ChunkId, (u64, u64))> = each.collect::<Result<_, Malformed>>()?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let node = Arc::clone(&api.node);
    api.node.tasks().spawn(async move {
        for (chunk, blocks) in ranges {
            let wanted = Wanted { user: &user, path: &path, upload, chunk, blocks };
            if let Err(error) = send(&node, &sender, wanted).await {
                // Nobody listens any more, or it is the last thing that is said.
                let _ = sender.send(Err(status::fetch(error, node.identity().node))).await;
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// Blocks of a chunk: `blocks` are the first one and the count, 0 for all.
struct Wanted<'a> {
    user: &'a UserName,
    path: &'a FilePath,
    upload: UploadId,
    chunk: ChunkId,
    blocks: (u64, u64),
}

/// Sends blocks until they are all sent or the client is gone.
async fn send(node: &Arc<Node>, sender: &Outgoing, wanted: Wanted<'_>) -> Result<(), FetchError> {
    let Wanted { user, path, upload, chunk, blocks } = wanted;
    let mut fetching = node.fetch(user, path, upload, chunk, blocks).await?;
    loop {
        let blocks = fetching.next_blocks().await?;
        if blocks.is_empty() {
            return Ok(());
        }
        for block in blocks {
            if sender.send(Ok(answer::block(block))).await.is_err() {
                return Ok(());
            }
        }
    }
}
