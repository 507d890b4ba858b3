//! One chunk of a decided version from one node, block by block, each checked.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet, block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Manifest, Version};
use dfs_proto::name::FilePath;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::pb;
use dfs_proto::wire::status::Reason;
use futures_util::FutureExt;
use tokio::time::timeout;
use tonic::Streaming;

use crate::connect::{Node, PROGRESS_LIMIT, Session, cause, within};
use crate::error::{Cause, Error, NodeError};
use crate::nodes::Nodes;
use crate::partial::Prefix;
use crate::sink::Place;
use crate::trace::carried;
use crate::upload::{Progress, Traffic};

/// How long a block may wait for whoever takes it while the node goes on sending. What it sends
/// meanwhile fills the room that all its answers share.
const PAUSE: Duration = Duration::from_secs(1);

/// Blocks that are asked for one by one after somebody has paused.
const CAUTIOUS_BLOCKS: u64 = 8;

/// Limit for a node's own check of a chunk.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// How far a chunk has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) chunk: ChunkId,
    /// The next block wanted.
    pub(crate) next: u64,
    /// The block after the last one wanted; `None`: all to the end of the chunk.
    end: Option<u64>,
    /// Checksum of the blocks before the next one; `None` where they are not known.
    crc: Option<Crc32c>,
}

impl Piece {
    pub(crate) fn start(chunk: ChunkId) -> Self {
        Self::after(chunk, Prefix::default())
    }

    /// The rest of a chunk of which some has come before.
    pub(crate) fn after(chunk: ChunkId, come: Prefix) -> Self {
        Self { chunk, next: come.blocks, end: None, crc: Some(come.crc) }
    }

    /// Some blocks of a chunk. That the chunk as a whole is right shows only where they are all.
    pub(crate) fn blocks(chunk: ChunkId, blocks: Range<u64>) -> Self {
        let crc = (blocks.start == 0).then(Crc32c::default);
        Self { chunk, next: blocks.start, end: Some(blocks.end), crc }
    }
}

/// Why a transfer ended early.
pub(crate) enum Failure {
    /// Something local.
    Local(Error),
    /// The node; the piece can go on elsewhere. It `broke` off if it may soon be there again.
    Node { piece: Piece, error: NodeError, node_is_gone: bool, broke: bool, bad: bool },
}

/// What all transfers of one version share.
pub(crate) struct Transfer<'a> {
    pub(crate) nodes: &'a Arc<Nodes>,
    pub(crate) path: &'a FilePath,
    pub(crate) version: &'a Version,
    pub(crate) manifest: &'a Manifest,
    pub(crate) traffic: &'a Traffic,
    pub(crate) progress: Option<&'a Arc<dyn Progress>>,
}

impl Transfer<'_> {
    /// Fetches the rest of a piece from one node: in one stream, and for a while block by block where
    /// whoever takes it has paused.
    pub(crate) async fn run(
        &self,
        id: NodeId,
        mut piece: Piece,
        mut place: Place<'_>,
    ) -> Result<(), Failure> {
        let node = self.nodes.get(id).node();
        let sum = self.manifest.chunk(piece.chunk);
        let end = piece.end.unwrap_or_else(|| block_count(sum.length));
        let mut cautious = 0;
        while piece.next < end {
            let until = if cautious > 0 { piece.next + 1 } else { end };
            let opened = self.open(node, &piece, until).await;
            let (session, stream) = opened.map_err(|error| self.fail(piece, error))?;
            let mut stream = Some(stream);
            while let Some(open) = &mut stream {
                let block = match next_block(open).await {
                    Ok(block) => block,
                    Err(cause) => return Err(self.fail(piece, node.failed(&session, cause).await)),
                };
                self.traffic.add(id, block.data.len() as u64);
                node.take(block.data.len() as u64).await;
                let range = block_range(sum.length, piece.next);
                let length = range.end - range.start;
                piece.crc = match self.check(piece, &block) {
                    Ok(crc) => crc,
                    Err((again, what)) if again.next < piece.next && place.may_pause() => {
                        // Its first blocks have left the process and cannot be taken back.
                        let (path, nodes) = (self.path.clone(), Vec::new());
                        return Err(Failure::Local(Error::Corrupt { path, what, nodes }));
                    }
                    Err((again, what)) => {
                        return Err(self.fail(again, node.error(Cause::Nonsense(what))));
                    }
                };
                piece.next += 1;
                if piece.next == until
                    && let Some(stream) = stream.take()
                {
                    self.let_end(stream);
                }
                let written = write(&mut place, range.start, block.data, &mut stream).await;
                let paused = written.map_err(Failure::Local)?;
                cautious = if paused { CAUTIOUS_BLOCKS } else { cautious.saturating_sub(1) };
                if let Some(progress) = self.progress {
                    progress.advance(length);
                }
            }
        }
        Ok(())
    }

    /// Checks the next block of a piece: the checksum of the chunk with it, or from where another node
    /// has to go on, and why.
    fn check(&self, piece: Piece, block: &pb::Block) -> Result<Option<Crc32c>, (Piece, String)> {
        let sum = self.manifest.chunk(piece.chunk);
        let range = block_range(sum.length, piece.next);
        let length = range.end - range.start;
        let crc = Crc32c::of(&block.data);
        let expected = block.chunk == u32::from(piece.chunk.get())
            && u64::from(block.index) == piece.next
            && block.data.len() as u64 == length
            && block.crc32c == crc.get();
        if !expected {
            let why = format!("block {} of chunk {} is damaged", piece.next, piece.chunk);
            return Err((piece, why));
        }
        let whole = piece.crc.map(|before| before.then(crc, length));
        if range.end == sum.length && whole.is_some_and(|whole| whole != sum.crc) {
            // Each block agrees with its checksum but not with the chunk's: start over.
            let why = format!("chunk {} is not the one that was stored", piece.chunk);
            return Err((Piece { next: 0, crc: Some(Crc32c::default()), ..piece }, why));
        }
        Ok(whole)
    }

    /// Asks for the blocks of a piece up to `until`.
    async fn open(
        &self,
        node: &Node,
        piece: &Piece,
        until: u64,
    ) -> Result<(Session, Streaming<pb::GetChunksResponse>), NodeError> {
        let range = pb::BlockRange {
            chunk: piece.chunk.get().into(),
            first_block: u32::try_from(piece.next).unwrap_or(u32::MAX),
            block_count: u32::try_from(until - piece.next).unwrap_or_default(),
        };
        let source = pb::UploadSource {
            path: self.path.as_str().to_owned(),
            upload_id: self.version.upload.bytes().to_vec(),
            ranges: vec![range],
        };
        let source = Some(pb::get_chunks_request::Source::ByUpload(source));
        let message = pb::GetChunksRequest { source };
        node.with_session(|session| {
            let mut client = session.client();
            let request = session.request(message.clone());
            async move {
                let call = client.get_chunks(request);
                let answer = within(PROGRESS_LIMIT, "GetChunks", call).await?;
                Ok((session, answer.into_inner()))
            }
        })
        .await
    }

    /// Reads to the end of a stream, which comes right behind the last block. One that is dropped
    /// before is reset, and a connection breaks when a thousand ends of such streams have come.
    fn let_end(&self, mut stream: Streaming<pb::GetChunksResponse>) {
        if stream.message().now_or_never().is_none() {
            self.nodes.background().spawn(async move {
                let _ = timeout(PROGRESS_LIMIT, stream.message()).await;
            });
        }
    }

    fn fail(&self, piece: Piece, error: NodeError) -> Failure {
        let cause = &error.cause;
        let broke = matches!(
            cause,
            Cause::Broken(_)
                | Cause::Connect(_)
                | Cause::Refused { reason: Some(Reason::ShuttingDown | Reason::StreamIdle), .. }
        );
        let node_is_gone = broke
            || matches!(
                cause,
                Cause::Timeout { .. } | Cause::Credentials | Cause::WrongNode { .. }
            );
        let bad = matches!(
            cause,
            Cause::Refused { reason: Some(Reason::ChunkCorrupt), .. } | Cause::Nonsense(_)
        );
        if bad {
            self.report(error.node, piece.chunk);
        }
        Failure::Node { piece, error, node_is_gone, broke, bad }
    }

    /// Has the node look at a chunk that it sent damaged. Best effort.
    fn report(&self, id: NodeId, chunk: ChunkId) {
        let request = pb::CheckChunksRequest {
            upload: Some(pb::UploadRef {
                path: self.path.as_str().to_owned(),
                upload_id: self.version.upload.bytes().to_vec(),
            }),
            chunks: ChunkSet::EMPTY.with(chunk).mask().into(),
        };
        let member = self.nodes.get(id).clone();
        self.nodes.background().spawn(carried(async move {
            // Not a unary call like others: it reads a whole chunk, and a node that takes long
            // for that is not to be left out.
            let Ok(session) = member.node().session().await else { return };
            let mut client = session.client();
            let check = client.check_chunks(session.request(request));
            let _ = within(CHECK_LIMIT, "CheckChunks", check).await;
        }));
    }
}

/// Writes a block; tells whether whoever takes it has paused. The node's stream ends then.
async fn write(
    place: &mut Place<'_>,
    offset: u64,
    data: Bytes,
    stream: &mut Option<Streaming<pb::GetChunksResponse>>,
) -> Result<bool, Error> {
    let may_pause = place.may_pause();
    let write = place.write(offset, data);
    tokio::pin!(write);
    if may_pause {
        if let Ok(written) = timeout(PAUSE, &mut write).await {
            return written.map(|()| false);
        }
        *stream = None;
    }
    write.await.map(|()| may_pause)
}

async fn next_block(stream: &mut Streaming<pb::GetChunksResponse>) -> Result<pb::Block, Cause> {
    let what = "GetChunks";
    match timeout(PROGRESS_LIMIT, stream.message()).await {
        Ok(Ok(Some(pb::GetChunksResponse {
            message: Some(pb::get_chunks_response::Message::Block(block)),
        }))) => Ok(block),
        Ok(Ok(_)) => Err(Cause::Nonsense("blocks are missing".to_owned())),
        Ok(Err(status)) => Err(cause(&status, what, PROGRESS_LIMIT)),
        Err(_) => Err(Cause::Timeout { what, seconds: PROGRESS_LIMIT.as_secs() }),
    }
}
