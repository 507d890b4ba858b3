//! From the node's answers to messages.

use dfs_proto::protocol::Refused;
use dfs_proto::protocol::row::{Ack, FenceAnswer};
use dfs_proto::tag::Hlc;
use dfs_proto::wire::pb;

use crate::clock::now_ms;
use crate::node::fetch::Block;
use crate::node::look::Stat;

pub(super) fn path_stat(stat: &Stat) -> pb::PathStat {
    let current = stat.current.as_ref();
    pb::PathStat {
        path: stat.path.as_str().to_owned(),
        current: current.map(|current| (&current.record).into()),
        confirmed: current.is_some_and(|current| current.confirmed),
        proposed_hlc: Hlc::from_ms(now_ms()).get(),
        superseded: stat.superseded.iter().map(Into::into).collect(),
        upload_have: stat.upload_have.map(|have| have.mask().into()),
    }
}

pub(super) fn commit_result(result: Result<Ack, Refused>) -> pb::CommitResult {
    match result {
        Ok(Ack { superseded }) => pb::CommitResult { superseded, ..Default::default() },
        Err(refused) => pb::CommitResult {
            refusal: Some((&refused).into()),
            superseded: false,
            other_incarnation: match refused {
                Refused::PrepareLost(other) => Some(other.into()),
                _ => None,
            },
        },
    }
}

pub(super) fn fence_result(result: Result<FenceAnswer, Refused>) -> pb::FenceResult {
    match result {
        Ok(FenceAnswer::Fenced) => pb::FenceResult::default(),
        Ok(FenceAnswer::Committed(record)) => {
            pb::FenceResult { committed: Some((&record).into()), refusal: None }
        }
        Err(refused) => pb::FenceResult { committed: None, refusal: Some((&refused).into()) },
    }
}

pub(super) fn block(block: Block) -> pb::Block {
    pb::Block {
        chunk: block.chunk.get().into(),
        // A chunk has fewer than 2^28 blocks by the limit on a file's length.
        index: u32::try_from(block.index).unwrap_or(u32::MAX),
        crc32c: block.crc.get(),
        data: block.data,
    }
}
