//! `PutChunk`: headers and blocks in, one answer at the end.

use dfs_proto::digest::Crc32c;
use dfs_proto::name::UserName;
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::put_chunk_request::Message;
use dfs_proto::wire::status::Reason;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use super::{Answer, Api, answer, status};
use crate::node::put::{Announced, Outcome, Putting};
use crate::node::quota::Declined;

pub(super) async fn put_chunk(
    api: &Api,
    user: UserName,
    mut stream: Streaming<pb::PutChunkRequest>,
) -> Answer<pb::PutChunkResponse> {
    let mut putting = api.node.start_put(user);
    let idle = api.put_idle;
    loop {
        // Of the whole message: who sends one byte a second brings none.
        let next = timeout(idle, stream.message()).await;
        let next = next.map_err(|_| {
            Reason::StreamIdle.status(format!("no whole message for {} s", idle.as_secs()))
        })?;
        match next? {
            Some(request) => take(&mut putting, request).await?,
            None => break,
        }
    }
    let (outcomes, stats) = putting.finish().await.map_err(status::node)?;
    if outcomes.is_empty() {
        return Err(Reason::InvalidArgument.status("the stream has no header"));
    }
    Ok(Response::new(pb::PutChunkResponse {
        node: api.identity(),
        results: outcomes.into_iter().map(result).collect(),
        stats: stats.iter().map(answer::path_stat).collect(),
    }))
}

async fn take(putting: &mut Putting, request: pb::PutChunkRequest) -> Result<(), Status> {
    let taken = match request.message {
        None => return Err(Malformed::new("message", "is missing").into()),
        Some(Message::Header(header)) => putting.header(announced(&header)?).await,
        Some(Message::Block(block)) => {
            let chunk = convert::chunk_id("block.chunk", block.chunk)?;
            let crc = Crc32c::new(block.crc32c);
            putting.block(chunk, block.index.into(), block.data, crc).await
        }
    };
    taken.map_err(status::node)
}

fn announced(header: &pb::ChunkHeader) -> Result<Announced, Malformed> {
    Ok(Announced {
        path: convert::path("header.path", &header.path)?,
        upload: convert::upload_id("header.upload_id", &header.upload_id)?,
        chunk: convert::chunk_id("header.chunk", header.chunk)?,
        manifest: convert::manifest("header.manifest", header.manifest.as_ref())?,
        first_block: header.first_block.unwrap_or(0).into(),
    })
}

fn result(outcome: Outcome) -> pb::ChunkResult {
    pb::ChunkResult {
        upload_id: outcome.upload.bytes().to_vec(),
        chunk: outcome.chunk.get().into(),
        refusal: outcome.result.err().map(refusal),
    }
}

fn refusal(declined: Declined) -> pb::Refusal {
    match declined {
        Declined::Rule(refused) => (&refused).into(),
        Declined::Quota(over) => Reason::QuotaExceeded.refusal(over.to_string()),
    }
}
