//! `GetChunks`: a tracked task reads and sends, a few blocks ahead of the client.

mod paths;

use std::iter::once;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use dfs_proto::chunk::ChunkId;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::pb::get_chunks_response;
use dfs_proto::wire::status::Reason;
use dfs_proto::wire::{MAX_GET_BYTES, MAX_GET_PATHS, pb};
use futures_util::future::Either;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tokio_stream::Iter;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::readers::Reader;
use super::{Api, answer, status};
use crate::connections::Caller;
use crate::node::Node;
use crate::node::fetch::{Block, FetchError};
use crate::request_id::carried;
use paths::{asked, by_paths};

/// Messages that are ready for the client but not yet taken. With what is being read and what
/// waits in HTTP/2 this bounds the memory of a stream.
const AHEAD: usize = 2;
/// Most ranges of a request.
const MAX_RANGES: usize = 16;

/// A client that takes nothing for this long is gone for good. So long because a person may
/// pause the pipe that the data goes to.
const MAX_STALL: Duration = Duration::from_secs(600);

/// What may wait for a client uncounted, in bytes: what clients ask for together with a record.
const LITTLE: u64 = 256 << 10;

/// How long one whose place was taken may take to read why, before his connection is closed: what
/// HTTP/2 holds for him cannot be freed in another way.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What there is to send, for HTTP/2 to take; and for the sender to throw away.
#[derive(Debug)]
pub(crate) struct Stream<M>(Arc<Mutex<mpsc::Receiver<Result<M, Status>>>>);

impl<M> futures_util::Stream for Stream<M> {
    type Item = Result<M, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(context)
    }
}

/// An answer that is there as a whole, or one that a task sends.
pub(super) type Messages = Either<
    Iter<std::vec::IntoIter<Result<pb::GetChunksResponse, Status>>>,
    Stream<pb::GetChunksResponse>,
>;

/// The sending side of an answer of messages `M`.
struct Outgoing<M> {
    /// The other side of `messages`; gone with the answer.
    waiting: Weak<Mutex<mpsc::Receiver<Result<M, Status>>>>,
    messages: mpsc::Sender<Result<M, Status>>,
    /// Room for the last word, which has to get through where the client takes nothing.
    last: Option<mpsc::OwnedPermit<Result<M, Status>>>,
    /// Set when the node stops.
    stop: CancellationToken,
    patience: Duration,
    /// Whose place it is where many take nothing; another node is trusted, and little is not counted.
    reader: Option<Reader>,
}

/// Why an answer ended early.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the client has gone")]
    Gone,
    #[error("the client took nothing for {} minutes", MAX_STALL.as_secs() / 60)]
    Stalled,
    #[error("the client took nothing while others waited, and has too many such streams")]
    Displaced,
    #[error("the node is about to stop")]
    Stopping,
}

impl<M> Outgoing<M> {
    fn new(stop: CancellationToken, reader: Option<Reader>) -> (Self, Stream<M>) {
        let (messages, receiver) = mpsc::channel(AHEAD + 1);
        let last = messages.clone().try_reserve_owned().ok();
        let receiver = Arc::new(Mutex::new(receiver));
        let waiting = Arc::downgrade(&receiver);
        let outgoing = Self { waiting, messages, last, stop, patience: MAX_STALL, reader };
        (outgoing, Stream(receiver))
    }

    /// Sends a message as soon as the client has taken what came before. A node that stops
    /// does not wait for that.
    async fn send(&mut self, message: M) -> Result<(), SendError> {
        match self.messages.try_send(Ok(message)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(SendError::Gone),
            Err(TrySendError::Full(message)) => {
                let messages = self.messages.clone();
                self.wait(async move { messages.send(message).await.is_ok() }).await
            }
        }
    }

    /// Waits until the client has taken everything: until then it takes up memory.
    async fn drained(&mut self) -> Result<(), SendError> {
        let messages = self.messages.clone();
        self.wait(async move { messages.reserve_many(AHEAD).await.is_ok() }).await
    }

    /// Waits for the client, as long as that may be.
    async fn wait(&mut self, taken: impl Future<Output = bool>) -> Result<(), SendError> {
        let displaced = self.reader.as_mut().map(Reader::waits);
        let displaced = async {
            match displaced {
                Some(displaced) => displaced.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = timeout(self.patience, taken) => match taken {
                Ok(true) => {}
                Ok(false) => return Err(SendError::Gone),
                Err(_) => return Err(SendError::Stalled),
            },
            () = self.stop.cancelled() => return Err(SendError::Stopping),
            () = displaced => return Err(SendError::Displaced),
        }
        if let Some(reader) = &mut self.reader {
            reader.goes_on();
        }
        Ok(())
    }

    /// Ends the answer with an error.
    fn fail(self, status: Status) {
        if let Some(last) = self.last {
            last.send(Err(status));
        }
    }

    /// Ends the answer of one whose place was taken: what waits for him goes at once, and if he
    /// takes not even the reason, his connection.
    async fn displace(self, status: Status) {
        if let Some(waiting) = self.waiting.upgrade() {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.try_recv().is_ok() {}
        }
        let (messages, caller) = (self.messages.clone(), self.reader.as_ref().map(Reader::caller));
        let caller = caller.flatten();
        self.fail(status);
        let read = timeout(LAST_WORDS, messages.closed()).await;
        if let (Err(_), Some(caller)) = (read, caller) {
            caller.close();
        }
    }
}

/// What the client is told; nothing if nobody listens.
fn last_word(error: SendError, node: &Node) -> Option<Status> {
    let text = error.to_string();
    match error {
        SendError::Fetch(error) => Some(status::fetch(error, node.position())),
        SendError::Gone => None,
        SendError::Stalled | SendError::Displaced => Some(Reason::StreamIdle.status(text)),
        SendError::Stopping => Some(Reason::ShuttingDown.status(text)),
    }
}

pub(super) async fn get_chunks(
    api: &Api,
    (user, caller): (UserName, Option<Caller>),
    request: pb::GetChunksRequest,
) -> Result<Messages, Status> {
    match request.source {
        None => Err(Malformed::new("source", "is missing").into()),
        Some(Source::ByPath(source)) => {
            let asked = once(asked("by_path.path", &source));
            by_paths(api, (user, caller), asked, u64::MAX).await
        }
        Some(Source::ByPaths(source)) => {
            if !(1..=MAX_GET_PATHS).contains(&source.paths.len()) {
                let found = source.paths.len();
                let why = format!("has {found} entries, 1..{MAX_GET_PATHS} are allowed");
                return Err(Malformed::new("by_paths.paths", why).into());
            }
            let asked = source.paths.iter().map(|path| asked("by_paths.paths.path", path));
            let max_bytes = source.max_bytes.min(MAX_GET_BYTES);
            by_paths(api, (user, caller), asked, max_bytes).await
        }
        Some(Source::ByUpload(source)) => {
            by_upload(api, user, caller, &source).await.map(Either::Right)
        }
    }
}

/// A place for one who wants to read, if there is one in time.
async fn reader(api: &Api, user: &UserName, caller: Option<Caller>) -> Result<Reader, Status> {
    api.readers.admit(user, caller).await.ok_or_else(|| {
        let text = "too many reads wait for clients that take nothing";
        Reason::Overloaded.status(text)
    })
}

async fn by_upload(
    api: &Api,
    user: UserName,
    caller: Option<Caller>,
    source: &pb::UploadSource,
) -> Result<Stream<pb::GetChunksResponse>, Status> {
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
    let reader = reader(api, &user, caller).await?;
    let (mut outgoing, stream) = Outgoing::new(api.stop.clone(), Some(reader));
    let node = Arc::clone(&api.node);
    api.node.tasks().spawn(carried(async move {
        let mut sent = Ok(());
        for (chunk, blocks) in ranges {
            if sent.is_ok() {
                let (user, path) = (user.clone(), path.clone());
                let wanted = Wanted { user, path, upload, chunk, blocks };
                sent = send(&node, &mut outgoing, wanted, block_message).await;
            }
        }
        end(outgoing, sent, &node).await;
    }));
    Ok(stream)
}

fn block_message(block: Block) -> pb::GetChunksResponse {
    pb::GetChunksResponse {
        message: Some(get_chunks_response::Message::Block(answer::block(block))),
    }
}

/// Ends an answer as it went.
async fn end<M>(outgoing: Outgoing<M>, sent: Result<(), SendError>, node: &Node) {
    let Err(error) = sent else { return };
    let displaced = matches!(error, SendError::Displaced);
    match last_word(error, node) {
        None => {}
        Some(status) if displaced => outgoing.displace(status).await,
        Some(status) => outgoing.fail(status),
    }
}

/// Blocks of a chunk: `blocks` are the first one and the count, 0 for all.
pub(super) struct Wanted {
    pub(super) user: UserName,
    pub(super) path: FilePath,
    pub(super) upload: UploadId,
    pub(super) chunk: ChunkId,
    pub(super) blocks: (u64, u64),
}

/// Sends blocks of a chunk to another node.
pub(super) fn read_chunk(
    node: &Arc<Node>,
    stop: CancellationToken,
    wanted: Wanted,
) -> Stream<pb::ReadChunkResponse> {
    let (mut outgoing, stream) = Outgoing::new(stop, None);
    let sender = Arc::clone(node);
    node.tasks().spawn(carried(async move {
        let message = |block| pb::ReadChunkResponse { block: Some(answer::block(block)) };
        let sent = send(&sender, &mut outgoing, wanted, message).await;
        end(outgoing, sent, &sender).await;
    }));
    stream
}

/// Sends blocks until they are all sent or the client takes no more.
async fn send<M>(
    node: &Arc<Node>,
    outgoing: &mut Outgoing<M>,
    wanted: Wanted,
    message: impl Fn(Block) -> M,
) -> Result<(), SendError> {
    let Wanted { user, path, upload, chunk, blocks } = wanted;
    let mut sent = 0;
    let mut fetching = node.fetch(&user, &path, upload, chunk, blocks).await?;
    loop {
        let blocks = fetching.next_blocks().await?;
        if blocks.is_empty() {
            return if sent > LITTLE { outgoing.drained().await } else { Ok(()) };
        }
        for block in blocks {
            sent += block.data.len() as u64;
            outgoing.send(message(block)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    async fn ended(outgoing: &mut Outgoing<pb::GetChunksResponse>) -> SendError {
        loop {
            if let Err(error) = outgoing.send(Default::default()).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_told_and_let_go() {
        let (mut outgoing, mut stream) = Outgoing::new(CancellationToken::new(), None);
        outgoing.patience = Duration::from_millis(5);
        assert!(matches!(ended(&mut outgoing).await, SendError::Stalled));
        outgoing.fail(Reason::StreamIdle.status("told"));
        let mut last = None;
        while let Some(message) = stream.next().await {
            last = Some(message);
        }
        assert_eq!(last.unwrap().unwrap_err().message(), "told");
    }

    #[tokio::test]
    async fn a_node_that_stops_waits_for_no_client() {
        let stop = CancellationToken::new();
        let (mut outgoing, stream) = Outgoing::new(stop.clone(), None);
        stop.cancel();
        assert!(matches!(ended(&mut outgoing).await, SendError::Stopping));
        drop(stream);
        assert!(matches!(ended(&mut outgoing).await, SendError::Gone));
    }
}
