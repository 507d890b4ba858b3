//! Answering by path: records, and what of their data shall come with them.

use std::iter::once;
use std::sync::Arc;

use dfs_proto::name::UserName;
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::get_chunks_response;
use futures_util::future::Either;
use tonic::Status;

use super::{LITTLE, Messages, Outgoing, SendError, Wanted, block_message, end, reader, send};
use crate::connections::Caller;
use crate::node::Node;
use crate::node::look::Stat;
use crate::node::tell::{Asked, Homes, Told};
use crate::request_id::carried;
use crate::rpc::{Api, answer, status};

/// Answers with the records of paths and what shall come with them. A little of what is in the
/// index is there at once; where it is more, or chunk files have to be read, a task sends it.
pub(super) async fn by_paths(
    api: &Api,
    (user, caller): (UserName, Option<Caller>),
    asked: impl Iterator<Item = Result<Asked, Malformed>>,
    max_bytes: u64,
) -> Result<Messages, Status> {
    let asked = asked.collect::<Result<_, _>>()?;
    let told = api.node.tell(user.clone(), asked, max_bytes).await.map_err(status::node)?;
    let mut identity = api.identity();
    let heads: Vec<_> = told
        .iter()
        .map(|told| {
            let stat = Some(answer::path_stat(&told.stat));
            let head = pb::GetChunksHead { node: identity.take(), stat };
            let message = Some(get_chunks_response::Message::Head(head));
            pb::GetChunksResponse { message }
        })
        .collect();
    let little = told.iter().map(|told| told.bytes).sum::<u64>() <= LITTLE;
    if little && told.iter().all(|told| told.files.is_empty()) {
        let messages = heads
            .into_iter()
            .zip(told)
            .flat_map(|(head, told)| once(head).chain(told.blocks.into_iter().map(block_message)));
        let messages: Vec<_> = messages.map(Ok).collect();
        return Ok(Either::Left(tokio_stream::iter(messages)));
    }
    let reader = match little {
        true => None,
        false => Some(reader(api, &user, caller).await?),
    };
    let (mut outgoing, stream) = Outgoing::new(api.stop.clone(), reader);
    let node = Arc::clone(&api.node);
    api.node.tasks().spawn(carried(async move {
        let mut sent = Ok(());
        for (head, told) in heads.into_iter().zip(told) {
            if sent.is_ok() {
                sent = send_told(&node, &mut outgoing, &user, head, told).await;
            }
        }
        end(outgoing, sent, &node).await;
    }));
    Ok(Either::Right(stream))
}

/// Sends what is told of one path.
async fn send_told(
    node: &Arc<Node>,
    outgoing: &mut Outgoing<pb::GetChunksResponse>,
    user: &UserName,
    head: pb::GetChunksResponse,
    told: Told,
) -> Result<(), SendError> {
    outgoing.send(head).await?;
    for block in told.blocks {
        outgoing.send(block_message(block)).await?;
    }
    let Stat { path, current, .. } = told.stat;
    let Some(upload) = current.map(|current| current.record.version.upload) else {
        return Ok(());
    };
    for chunk in told.files {
        let wanted =
            Wanted { user: user.clone(), path: path.clone(), upload, chunk, blocks: (0, 0) };
        match send(node, outgoing, wanted, block_message).await {
            // The record is the answer; who misses the data asks for it by upload.
            Err(SendError::Fetch(error)) => {
                tracing::warn!(%path, %error, "data left out of an answer by path");
            }
            sent => sent?,
        }
    }
    Ok(())
}

/// What is asked for, of a field of the request.
pub(super) fn asked(field: &'static str, source: &pb::PathSource) -> Result<Asked, Malformed> {
    Ok(Asked {
        path: convert::path(field, &source.path)?,
        homes: match source.selection() {
            pb::Selection::Unspecified => Homes::None,
            pb::Selection::FirstHome => Homes::First,
            pb::Selection::BothHomes => Homes::Both,
        },
        max_chunk_bytes: source.max_chunk_bytes,
    })
}
