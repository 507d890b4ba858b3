//! The other nodes, as this one calls them, with the cluster's secret: [`hello`] keeps in
//! touch, [`Peers`] carries the messages of healing. A node is called through its front door
//! even where it calls itself.

pub(crate) mod dial;
pub(crate) mod hello;
pub(crate) mod report;

use std::time::Duration;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Crc32c;
use dfs_proto::identity::{Identity, Introduction};
use dfs_proto::manifest::{Incarnation, Record, UploadId, Version};
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::NodeRef;
use dfs_proto::protocol::Refused;
use dfs_proto::protocol::listing::Entry;
use dfs_proto::protocol::read::Reply;
use dfs_proto::protocol::repair::Held;
use dfs_proto::protocol::row::{FenceAnswer, ReleaseOrder};
use dfs_proto::tag::Tag;
use dfs_proto::wire::pb::heal_request::Step;
use dfs_proto::wire::pb::peer_service_client::PeerServiceClient;
use dfs_proto::wire::{MAX_MESSAGE_BYTES, convert, pb, status};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::request_id;
/// Limit for an answer that needs no reading of chunks.
const UNARY_LIMIT: Duration = Duration::from_secs(5);
/// Limit for a step that reads or copies chunks, beside the time for their bytes.
const CHUNK_LIMIT: Duration = Duration::from_secs(30);
/// Bytes a second that a node must at least read or copy.
const SLOWEST: u64 = 1 << 20;
/// Limit for the next block of a chunk.
const PROGRESS_LIMIT: Duration = Duration::from_secs(10);
/// Entries of a page of records: with manifests they have to fit into a message, and a survey holds
/// one of each node.
const PAGE: u32 = 500;

/// Why a peer did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{0}")]
    Connect(#[from] dial::DialError),
    #[error("{0}")]
    Status(String),
    #[error("{0}")]
    Refused(Refused),
    #[error("its answer makes no sense: {0}")]
    Malformed(#[from] convert::Malformed),
    #[error("it is rejoining")]
    Rejoining,
    #[error("it is node {} of cluster {}", .0.node, .0.cluster)]
    Foreign(Box<Identity>),
}

impl From<Status> for PeerError {
    fn from(status: Status) -> Self {
        Self::Status(dial::innermost(&status))
    }
}

/// All four nodes as they are called for healing. Connections are made when they are needed.
pub(crate) struct Peers {
    own: Identity,
    secret: MetadataValue<Ascii>,
    dial: dial::Dial,
}

/// Whose path it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UserPath {
    pub(crate) user: UserName,
    pub(crate) path: FilePath,
}

/// A page of another node's versions.
#[derive(Debug)]
pub(crate) struct RecordPage {
    pub(crate) node: Identity,
    /// The newest versions; of a basic view only.
    pub(crate) entries: Vec<(UserName, Entry)>,
    /// The newest versions and whether they are confirmed; of a full view only.
    pub(crate) versions: Vec<(UserName, FilePath, Version, bool)>,
    pub(crate) fences: Vec<(UserName, FilePath, UploadId)>,
    pub(crate) next: Option<pb::RecordKey>,
    /// The incarnation of this node that the other one has recorded.
    pub(crate) remembers: Option<Incarnation>,
}

/// What to list.
#[derive(Debug, Clone)]
pub(crate) struct RecordsQuery {
    /// Only these; `None`: all users'.
    pub(crate) of: Option<(UserName, Prefix)>,
    pub(crate) view: pb::RecordsView,
    pub(crate) after: Option<pb::RecordKey>,
}

/// A chunk that another node is sending.
pub(crate) struct Blocks {
    stream: Streaming<pb::ReadChunkResponse>,
}

/// The metadata with which a node proves that it is one.
pub(crate) fn credential(secret: &str) -> Option<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = format!("Peer {secret}").parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Peers {
    /// Prepares to call the nodes; `None` where the secret cannot be sent.
    pub(crate) fn new(own: Identity, dial: dial::Dial, secret: &str) -> Option<Self> {
        Some(Self { own, secret: credential(secret)?, dial })
    }

    /// Where the nodes are called, as the configuration says.
    pub(crate) fn addresses(&self) -> &PerNode<String> {
        self.dial.addresses()
    }

    fn client(&self, node: NodeId) -> Result<PeerServiceClient<Channel>, PeerError> {
        Ok(PeerServiceClient::new(self.dial.channel(node)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.secret.clone());
        let id = request_id::current();
        if let Some(id) = id.and_then(|id| id.as_str().parse().ok()) {
            request.metadata_mut().insert("x-request-id", id);
        }
        request
    }

    /// Refuses answers of a node that is not the one called.
    fn check(
        &self,
        node: NodeId,
        answer: Option<&pb::NodeIdentity>,
    ) -> Result<Identity, PeerError> {
        let found = convert::identity(answer)?;
        if found.cluster == self.own.cluster && found.node == node {
            Ok(found)
        } else {
            Err(PeerError::Foreign(Box::new(found)))
        }
    }

    async fn heal(
        &self,
        node: NodeId,
        of: &UserPath,
        step: Step,
        limit: Duration,
    ) -> Result<(Identity, pb::HealResponse), PeerError> {
        let request = pb::HealRequest {
            user: of.user.as_str().to_owned(),
            path: of.path.as_str().to_owned(),
            step: Some(step),
        };
        let mut client = self.client(node)?;
        let answer = tokio::time::timeout(limit, client.heal(self.request(request))).await;
        let answer = answer.map_err(|_| PeerError::Timeout(limit))??.into_inner();
        let identity = self.check(node, answer.node.as_ref())?;
        if let Some(refusal) = &answer.refusal {
            let other = answer.other_incarnation.as_ref().map(NodeRef::try_from).transpose()?;
            return Err(PeerError::Refused(status::refused(refusal, other)));
        }
        Ok((identity, answer))
    }

    /// Introduces this node, and returns who answers. The other node has recorded this one's
    /// incarnation then.
    pub(crate) async fn hello(
        &self,
        node: NodeId,
        own: &Introduction,
    ) -> Result<Introduction, PeerError> {
        let request = self.request(hello::request(own));
        let mut client = self.client(node)?;
        let answer = tokio::time::timeout(UNARY_LIMIT, client.hello(request)).await;
        let answer = answer.map_err(|_| PeerError::Timeout(UNARY_LIMIT))??.into_inner();
        self.check(node, answer.node.as_ref())?;
        Ok(convert::introduction(answer.node.as_ref(), answer.index.as_ref())?)
    }

    /// What a Serving node knows of a path.
    pub(crate) async fn ask(&self, node: NodeId, of: &UserPath) -> Result<Reply, PeerError> {
        let step = Step::Look(pb::LookStep { upload_id: Vec::new(), reread: 0 });
        let (identity, answer) = self.heal(node, of, step, UNARY_LIMIT).await?;
        if identity.rejoining {
            return Err(PeerError::Rejoining);
        }
        Ok(convert::reply(&identity, stat(&answer)?)?)
    }

    /// What a node holds of a version, after it re-read some of it.
    pub(crate) async fn look(
        &self,
        node: NodeId,
        of: &UserPath,
        version: &Version,
        reread: ChunkSet,
    ) -> Result<Held, PeerError> {
        let step = Step::Look(pb::LookStep {
            upload_id: version.upload.bytes().to_vec(),
            reread: reread.mask().into(),
        });
        let limit = UNARY_LIMIT + chunk_limit(version, reread, SLOWEST);
        let (identity, answer) = self.heal(node, of, step, limit).await?;
        held(&identity, &answer)
    }

    /// Spreads a version.
    pub(crate) async fn write_back(
        &self,
        node: NodeId,
        of: &UserPath,
        version: &Version,
        source: NodeRef,
    ) -> Result<(), PeerError> {
        let record = Some(version.into());
        let step = Step::WriteBack(pb::WriteBackStep { record, source: Some(source.into()) });
        self.heal(node, of, step, UNARY_LIMIT).await.map(drop)
    }

    /// Confirms a version.
    pub(crate) async fn confirm(
        &self,
        node: NodeId,
        of: &UserPath,
        tag: Tag,
    ) -> Result<(), PeerError> {
        let step = Step::Confirm(pb::ConfirmStep { tag: Some(tag.into()) });
        self.heal(node, of, step, UNARY_LIMIT).await.map(drop)
    }

    /// Has a node copy chunks from the others.
    pub(crate) async fn pull(
        &self,
        node: NodeId,
        of: &UserPath,
        version: &Version,
        chunks: ChunkSet,
        from: &PerNode<ChunkSet>,
        bytes_per_second: u64,
    ) -> Result<Held, PeerError> {
        let step = Step::Pull(pb::PullStep {
            upload_id: version.upload.bytes().to_vec(),
            chunks: chunks.mask().into(),
            held: from.iter().map(|set| set.mask().into()).collect(),
            bytes_per_second,
        });
        let pace = if bytes_per_second == 0 { SLOWEST } else { bytes_per_second.min(SLOWEST) };
        // Several copies share the pace and wait for a turn, and a chunk may have to be read
        // from one node after the other.
        let limit = chunk_limit(version, chunks, pace) * 8;
        let (identity, answer) = self.heal(node, of, step, limit).await?;
        held(&identity, &answer)
    }

    /// Has a node give up spilled chunks.
    pub(crate) async fn release(
        &self,
        node: NodeId,
        of: &UserPath,
        order: &ReleaseOrder,
    ) -> Result<(), PeerError> {
        let step = Step::Release(pb::ReleaseStep {
            tag: Some(order.tag.into()),
            upload_id: order.upload.bytes().to_vec(),
            chunks: order.chunks.mask().into(),
            homes: order.homes.iter().map(|home| (*home).into()).collect(),
        });
        self.heal(node, of, step, UNARY_LIMIT).await.map(drop)
    }

    /// Has a node fence an upload.
    pub(crate) async fn fence(
        &self,
        node: NodeId,
        of: &UserPath,
        upload: UploadId,
    ) -> Result<(Identity, FenceAnswer), PeerError> {
        let step = Step::Fence(pb::FenceStep { upload_id: upload.bytes().to_vec() });
        let (identity, answer) = self.heal(node, of, step, UNARY_LIMIT).await?;
        let fenced = match &answer.committed {
            Some(record) => FenceAnswer::Committed(Record::try_from(record)?),
            None => FenceAnswer::Fenced,
        };
        Ok((identity, fenced))
    }

    /// Has a node drop an upload that all four fenced.
    pub(crate) async fn drop_upload(
        &self,
        node: NodeId,
        of: &UserPath,
        upload: UploadId,
        fenced_by: &[NodeRef],
    ) -> Result<(), PeerError> {
        let step = Step::Drop(pb::DropStep {
            upload_id: upload.bytes().to_vec(),
            fenced_by: fenced_by.iter().map(|node| (*node).into()).collect(),
        });
        self.heal(node, of, step, UNARY_LIMIT).await.map(drop)
    }

    /// A page of a node's rows.
    pub(crate) async fn records(
        &self,
        node: NodeId,
        query: RecordsQuery,
    ) -> Result<RecordPage, PeerError> {
        let (user, prefix) = match &query.of {
            Some((user, prefix)) => (user.as_str(), prefix.as_str()),
            None => ("", ""),
        };
        let request = pb::ListRecordsRequest {
            user: user.to_owned(),
            prefix: prefix.to_owned(),
            start_after: query.after,
            page_size: PAGE,
            view: query.view.into(),
            asking: self.own.node.get().into(),
        };
        let mut client = self.client(node)?;
        let call = client.list_records(self.request(request));
        let answer = tokio::time::timeout(PROGRESS_LIMIT, call).await;
        let answer = answer.map_err(|_| PeerError::Timeout(PROGRESS_LIMIT))??.into_inner();
        let identity = self.check(node, answer.node.as_ref())?;
        let remembered = &answer.remembered_incarnation;
        let remembers = (!remembered.is_empty())
            .then(|| convert::incarnation("remembered_incarnation", remembered))
            .transpose()?;
        let full = query.view == pb::RecordsView::Full;
        let (mut entries, mut versions) = (Vec::new(), Vec::new());
        for entry in &answer.entries {
            let user = user_name(&entry.user)?;
            let entry = entry.entry.as_ref();
            let entry = entry.ok_or_else(|| convert::Malformed::new("entry", "is missing"))?;
            if full {
                let (path, version, confirmed) = convert::listed_version(entry)?;
                versions.push((user, path, version, confirmed));
            } else {
                entries.push((user, Entry::try_from(entry)?));
            }
        }
        let fences = answer.fences.iter().map(|fence| {
            let upload = fence.upload.as_ref();
            let upload = upload.ok_or_else(|| convert::Malformed::new("upload", "is missing"))?;
            Ok((
                user_name(&fence.user)?,
                convert::path("upload.path", &upload.path)?,
                convert::upload_id("upload.upload_id", &upload.upload_id)?,
            ))
        });
        Ok(RecordPage {
            node: identity,
            entries,
            versions,
            fences: fences.collect::<Result<_, convert::Malformed>>()?,
            next: answer.next,
            remembers,
        })
    }

    /// Starts to read a chunk, from a block on.
    pub(crate) async fn read_chunk(
        &self,
        node: NodeId,
        of: &UserPath,
        upload: UploadId,
        chunk: ChunkId,
    ) -> Result<Blocks, PeerError> {
        let request = pb::ReadChunkRequest {
            user: of.user.as_str().to_owned(),
            upload: Some(pb::UploadRef {
                path: of.path.as_str().to_owned(),
                upload_id: upload.bytes().to_vec(),
            }),
            range: Some(pb::BlockRange {
                chunk: chunk.get().into(),
                first_block: 0,
                block_count: 0,
            }),
        };
        let mut client = self.client(node)?;
        let call = client.read_chunk(self.request(request));
        let answer = tokio::time::timeout(PROGRESS_LIMIT, call).await;
        let answer = answer.map_err(|_| PeerError::Timeout(PROGRESS_LIMIT))??;
        Ok(Blocks { stream: answer.into_inner() })
    }
}

impl Blocks {
    /// The next block with its number and checksum; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Bytes, Crc32c)>, PeerError> {
        let next = tokio::time::timeout(PROGRESS_LIMIT, self.stream.message()).await;
        let next = next.map_err(|_| PeerError::Timeout(PROGRESS_LIMIT))??;
        let Some(next) = next else { return Ok(None) };
        let block = next.block;
        let block = block.ok_or_else(|| convert::Malformed::new("block", "is missing"))?;
        Ok(Some((block.index.into(), block.data, Crc32c::new(block.crc32c))))
    }
}

fn user_name(text: &str) -> Result<UserName, convert::Malformed> {
    UserName::new(text).map_err(|error| convert::bad_name("user", &error))
}

fn stat(answer: &pb::HealResponse) -> Result<&pb::PathStat, convert::Malformed> {
    answer.stat.as_ref().ok_or_else(|| convert::Malformed::new("stat", "is missing"))
}

fn held(node: &Identity, answer: &pb::HealResponse) -> Result<Held, PeerError> {
    let have = stat(answer)?.upload_have.unwrap_or_default();
    Ok(Held {
        incarnation: node.incarnation,
        have: convert::chunk_set("stat.upload_have", have)?,
        bad: convert::chunk_set("bad", answer.bad)?,
    })
}

/// How long a node may take over chunks, at so many bytes a second.
fn chunk_limit(version: &Version, chunks: ChunkSet, pace: u64) -> Duration {
    let Some(manifest) = version.manifest() else { return CHUNK_LIMIT };
    let bytes: u64 = chunks.iter().map(|chunk| manifest.chunk(chunk).length).sum();
    CHUNK_LIMIT + Duration::from_secs(bytes / pace.max(1))
}
