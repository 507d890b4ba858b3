//! The four nodes, each with the lanes that let concurrent operations share round trips.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::name::{ClusterName, FilePath, UserName};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::NodeRef;
use dfs_proto::protocol::commit::CommitAnswer;
use dfs_proto::protocol::put::Prepared;
use dfs_proto::protocol::read::Reply;
use dfs_proto::tag::Tag;
use dfs_proto::wire::network::Network;
use dfs_proto::wire::{MAX_BATCH, MAX_GET_PATHS, MAX_MESSAGE_BYTES, convert, pb, status};
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use crate::ask::{self, Ask};
use crate::config::Config;
use crate::connect::{CONNECT_LIMIT, Credentials, Node, Notice, Notify};
use crate::error::{Cause, Error, NodeError};
use crate::lane::{Caller, Lane};
use crate::pairs::Turns;
use crate::random::UploadIds;
use crate::room::Room;
use crate::upload::{self, Upload};
use crate::whole::{self, Whole, Written};

/// About what a version without notes takes on the wire, in bytes.
const ENTRY_BYTES: usize = 2 << 10;

/// Versions in one Commit, in bytes: a full batch of them without notes.
const COMMIT_BATCH_BYTES: usize = MAX_BATCH * ENTRY_BYTES;

const _: () = assert!(COMMIT_BATCH_BYTES < MAX_MESSAGE_BYTES);

fn entry_weight(entry: &pb::CommitEntry) -> usize {
    let manifest = entry.record.as_ref().and_then(|record| record.manifest.as_ref());
    let notes = manifest.into_iter().flat_map(|manifest| &manifest.metadata);
    ENTRY_BYTES + notes.map(|(key, value)| key.len() + value.len()).sum::<usize>()
}

/// Payload of one batch of small uploads, in bytes.
const SMALL_BATCH_BYTES: usize = 2 << 20;

/// Between two Confirms to a node, where there are many.
const CONFIRM_PAUSE: Duration = Duration::from_millis(20);

/// How long a Commit without an answer waits before it is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(300);

type Answer<T> = Result<T, NodeError>;

/// One node with its lanes.
pub(crate) struct Member {
    node: Arc<Node>,
    commits: Lane<pb::CommitEntry, Answer<pb::CommitResult>>,
    confirms: Lane<pb::ConfirmEntry, ()>,
    uploads: Lane<(Arc<Upload>, ChunkSet), Answer<Prepared>>,
    asks: Lane<Ask, ask::Answer>,
}

impl Member {
    fn new(node: Arc<Node>) -> Self {
        let (a, b, c, d) = (node.clone(), node.clone(), node.clone(), node.clone());
        let alone = Arc::new(AtomicBool::new(false));
        Self {
            node,
            commits: Lane::start(COMMIT_BATCH_BYTES, entry_weight, move |entries| {
                commit(a.clone(), entries)
            }),
            confirms: Lane::start_each(
                MAX_BATCH,
                |_| 1,
                move |entries| confirm(b.clone(), entries),
            ),
            uploads: Lane::start(
                SMALL_BATCH_BYTES,
                |(upload, chunks)| upload.weight(*chunks),
                move |uploads| upload::send_small(c.clone(), uploads),
            ),
            asks: Lane::start_each(
                MAX_GET_PATHS,
                |_| 1,
                move |batch| ask::send(d.clone(), alone.clone(), batch),
            ),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Sends chunks of an upload; answers when they are durable.
    pub(crate) async fn prepare(&self, upload: Arc<Upload>, chunks: ChunkSet) -> Answer<Prepared> {
        if upload.is_small() {
            let answer = self.uploads.request((upload, chunks)).await;
            answer.unwrap_or_else(|| Err(self.gone()))
        } else {
            upload::send_large(&self.node, &upload, chunks).await
        }
    }

    /// Asks for the node's record of a path and the selected chunks, if they are short.
    pub(crate) async fn ask(&self, ask: Ask) -> ask::Answer {
        self.asks.request(ask).await.unwrap_or_else(|| Err(self.gone()))
    }

    /// Sends one version; the error, if any, is for the user.
    pub(crate) async fn commit(
        &self,
        path: &FilePath,
        version: &Version,
        write_back: bool,
        sources: &[NodeRef],
    ) -> (CommitAnswer, Option<NodeError>) {
        if let Err(error) = self.node.session().await {
            return (CommitAnswer::NotSent, Some(error));
        }
        let entry = pb::CommitEntry {
            path: path.as_str().to_owned(),
            record: Some(version.into()),
            write_back,
            sources: sources.iter().map(|source| (*source).into()).collect(),
        };
        let answer = self.commits.request(entry).await.unwrap_or_else(|| Err(self.gone()));
        match answer {
            Err(error) => {
                tokio::time::sleep(RESEND_AFTER).await;
                (CommitAnswer::NoAnswer, Some(error))
            }
            Ok(pb::CommitResult { refusal: None, .. }) => (CommitAnswer::Acked, None),
            Ok(pb::CommitResult { refusal: Some(refusal), other_incarnation, .. }) => {
                let other = other_incarnation.and_then(|other| NodeRef::try_from(&other).ok());
                let refused = status::refused(&refusal, other);
                let cause = Cause::Refused {
                    reason: status::Reason::from_name(&refusal.reason),
                    message: refusal.message,
                };
                (CommitAnswer::Refused(refused), Some(self.node.error(cause)))
            }
        }
    }

    /// Tells the node that a version is on three nodes. Best effort.
    pub(crate) async fn confirm(&self, path: &FilePath, tag: Tag) {
        let entry = pb::ConfirmEntry { path: path.as_str().to_owned(), tag: Some(tag.into()) };
        let _ = self.confirms.request(entry).await;
    }

    /// Fences an upload that was never committed and drops its data. Best effort.
    pub(crate) async fn discard(&self, path: &FilePath, upload: UploadId) {
        let upload =
            pb::UploadRef { path: path.as_str().to_owned(), upload_id: upload.bytes().to_vec() };
        let fence = pb::FenceRequest { uploads: vec![upload.clone()] };
        let fenced = self.node.unary("Fence", fence, |mut client, request| async move {
            client.fence(request).await
        });
        let took = |fenced: &pb::FenceResponse| {
            fenced.results.iter().all(|r| r.committed.is_none() && r.refusal.is_none())
        };
        if fenced.await.is_ok_and(|fenced| took(&fenced)) {
            let entry =
                pb::DropEntry { upload: Some(upload), never_committed: true, fenced_by: vec![] };
            let drop = pb::DropRequest { entries: vec![entry] };
            let _ = self
                .node
                .unary(
                    "Drop",
                    drop,
                    |mut client, request| async move { client.drop(request).await },
                )
                .await;
        }
    }

    /// Asks for the node's view of a path, as a reply that counts in a read.
    pub(crate) async fn stat(&self, path: &FilePath) -> Answer<Reply> {
        let query = pb::StatQuery { path: path.as_str().to_owned(), upload_id: None };
        let request = pb::StatRequest { queries: vec![query], include_superseded: false };
        let answer = self
            .node
            .unary("Stat", request, |mut client, request| async move { client.stat(request).await })
            .await?;
        let reply = || {
            let identity = convert::identity(answer.node.as_ref())?;
            let missing = || convert::Malformed::new("stats", "is empty");
            let reply = convert::reply(&identity, answer.stats.first().ok_or_else(missing)?)?;
            Ok((identity.rejoining, reply))
        };
        match reply() {
            Ok((false, reply)) => Ok(reply),
            Ok((true, _)) => Err(self.node.error(Cause::Rejoining)),
            Err(malformed) => Err(self.nonsense(&malformed)),
        }
    }

    pub(crate) fn nonsense(&self, malformed: &convert::Malformed) -> NodeError {
        self.node.error(Cause::Nonsense(malformed.to_string()))
    }

    fn gone(&self) -> NodeError {
        self.node.error(Cause::Broken("the client is closing".to_owned()))
    }
}

async fn commit(node: Arc<Node>, entries: Vec<pb::CommitEntry>) -> Vec<Answer<pb::CommitResult>> {
    let count = entries.len();
    let request = pb::CommitRequest { entries };
    let answer = node
        .unary("Commit", request, |mut client, request| async move { client.commit(request).await })
        .await;
    match answer {
        Ok(answer) if answer.results.len() == count => answer.results.into_iter().map(Ok).collect(),
        Ok(_) => {
            let cause = Cause::Nonsense("results are missing".to_owned());
            vec![Err(node.error(cause)); count]
        }
        Err(error) => vec![Err(error); count],
    }
}

async fn confirm(node: Arc<Node>, batch: Vec<(pb::ConfirmEntry, Caller<()>)>) {
    let (entries, callers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let request = pb::ConfirmRequest { entries };
    // Best effort: a lost confirmation costs a later reader one write-back.
    let _ =
        node.unary("Confirm", request, |mut client, request| async move {
            client.confirm(request).await
        })
        .await;
    for caller in callers {
        // A caller that went away needs no answer.
        let _ = caller.send(());
    }
    // Nobody waits for the next ones: let them gather.
    tokio::time::sleep(CONFIRM_PAUSE).await;
}

/// The four nodes.
pub(crate) struct Nodes {
    members: PerNode<Arc<Member>>,
    files: Lane<Whole, Written>,
    room: Room,
    turns: Arc<Turns>,
    uploads: UploadIds,
    notify: Notify,
    cluster: ClusterName,
    user: UserName,
    /// Work that goes on after an operation was answered: late Commits, Confirms, discards.
    background: TaskTracker,
}

impl Nodes {
    pub(crate) fn new(
        config: &Config,
        credentials: Credentials,
        notify: Notify,
        network: &Arc<dyn Network>,
    ) -> Self {
        let (cluster, user) = (config.cluster.clone(), credentials.user().clone());
        let credentials = Arc::new(credentials);
        let members = NodeId::ALL.map(|id| {
            let (network, credentials) = (network.clone(), credentials.clone());
            let node = Node::new(id, config, network, credentials, notify.clone());
            Arc::new(Member::new(Arc::new(node)))
        });
        let files = Lane::start_each(whole::BATCH, |_| 1, whole::write);
        let room = Room::new(config.bandwidth.is_some());
        let (turns, uploads) = (Arc::new(Turns::new()), UploadIds::new());
        let background = TaskTracker::new();
        Self { members, files, room, turns, uploads, notify, cluster, user, background }
    }

    /// Writes a file that has come as a whole.
    pub(crate) async fn write(&self, file: Whole) -> Written {
        let target = file.target.clone();
        let gone = || Error::local("write", &*target)(std::io::Error::other("it was given up"));
        self.files.request(file).await.unwrap_or_else(|| Err(gone()))
    }

    pub(crate) fn get(&self, id: NodeId) -> &Arc<Member> {
        &self.members[id.index()]
    }

    /// What large files wait for.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Which pair of nodes a GET asks first.
    pub(crate) fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// The id of another upload.
    pub(crate) fn next_upload(&self) -> UploadId {
        self.uploads.next()
    }

    /// Whose files they are, and of which cluster.
    pub(crate) fn owner(&self) -> (&ClusterName, &UserName) {
        (&self.cluster, &self.user)
    }

    /// Tells something that is about no node.
    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    pub(crate) fn background(&self) -> &TaskTracker {
        &self.background
    }

    /// Ends the kept logins; tells what did not work.
    pub(crate) async fn log_out(&self) -> Vec<NodeError> {
        let each = self.members.iter().map(|member| member.node.log_out());
        join_all(each).await.into_iter().filter_map(Result::err).collect()
    }

    /// Starts connecting to all four at once and waits until each has answered or failed; past
    /// the connection limit only until two have answered. What is still open goes on.
    pub(crate) async fn connect(&self) -> PerNode<Option<NodeError>> {
        let mut attempts = tokio::task::JoinSet::new();
        for id in NodeId::ALL {
            let member = self.get(id).clone();
            attempts.spawn(async move { (id, member.node.session().await.err()) });
        }
        let limit = tokio::time::sleep(CONNECT_LIMIT);
        tokio::pin!(limit);
        let mut errors = [const { None }; 4];
        let (mut up, mut late) = (0, false);
        while !(late && up >= 2) {
            tokio::select! {
                () = &mut limit, if !late => late = true,
                attempt = attempts.join_next() => match attempt {
                    Some(Ok((_, None))) => up += 1,
                    Some(Ok((id, error))) => errors[id.index()] = error,
                    Some(Err(_)) => {}
                    None => break,
                },
            }
        }
        attempts.detach_all();
        errors
    }
}
