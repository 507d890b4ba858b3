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
use crate::node::look::Stat;
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
        stats: stats.iter().map(path_stat).collect(),
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

/// What is known of a path whose chunks came, without the notes of the version it has so far:
/// those of a thousand paths fit no message, and who puts needs its tag alone.
fn path_stat(stat: &Stat) -> pb::PathStat {
    let mut told = answer::path_stat(stat);
    if let Some(manifest) = told.current.as_mut().and_then(|record| record.manifest.as_mut()) {
        manifest.metadata.clear();
    }
    told
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

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::chunk::ChunkSet;
    use dfs_proto::digest::Md5Digest;
    use dfs_proto::manifest::{Content, Manifest, Record, UploadId, Version};
    use dfs_proto::name::FilePath;
    use dfs_proto::protocol::row::Current;
    use dfs_proto::tag::{Hlc, Tag};
    use dfs_proto::wire::{MAX_BATCH, MAX_MESSAGE_BYTES};
    use prost::Message as _;

    /// A path of usual length whose version has sixteen notes of 1 KiB each.
    fn noted(number: usize) -> Stat {
        let notes = (0..16).map(|note| (format!("note{note}"), "n".repeat(1000)));
        let crcs = [Crc32c::new(1); 4];
        let modified = "2026-11-22T10:00:00Z";
        let manifest = Manifest::new(Md5Digest::of(b"a"), 9, crcs, modified, notes.collect());
        let version = Version {
            tag: Tag { hlc: Hlc::new(7), writer: [1; 16] },
            upload: UploadId::new([2; 16]),
            content: Content::File(manifest.unwrap()),
        };
        let record = Record { version, have: ChunkSet::ALL };
        Stat {
            path: FilePath::new(&*format!("folder/{number}")).unwrap(),
            current: Some(Current { record, confirmed: true }),
            superseded: vec![],
            upload_have: None,
        }
    }

    #[test]
    fn the_notes_of_replaced_versions_are_no_part_of_the_answer() {
        let stats: Vec<_> = (0..MAX_BATCH).map(|number| path_stat(&noted(number))).collect();
        let answer = pb::PutChunkResponse { node: None, results: vec![], stats };
        let bytes = answer.encoded_len();
        assert!(bytes < MAX_MESSAGE_BYTES / 4, "{bytes}");

        // All else is there, for a client that reads the whole record.
        let record = answer.stats[0].current.as_ref().unwrap();
        let told = Record::try_from(record).unwrap();
        assert_eq!(told.version.tag, Tag { hlc: Hlc::new(7), writer: [1; 16] });
        assert_eq!(told.version.manifest().map(Manifest::size), Some(9));
    }
}
