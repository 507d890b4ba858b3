//! `PeerService`: what the other nodes ask.

use std::sync::Arc;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::identity::Identity;
use dfs_proto::manifest::{Record, UploadId};
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::placement::PerNode;
use dfs_proto::protocol::row::{CommitOrder, DropEvidence, FenceAnswer, ReleaseOrder};
use dfs_proto::protocol::{NodeRef, Refused};
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::heal_request::Step;
use dfs_proto::wire::pb::peer_service_server::PeerService;
use dfs_proto::wire::status::Reason;
use dfs_proto::wire::{DEFAULT_PAGE, MAX_PAGE};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Answer, answer, get, info, list, status};
use crate::heal::Healer;
use crate::node::known::Meeting;
use crate::node::{Node, NodeError};
use crate::peers::UserPath;

/// A page of records ends when it has about this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// `PeerService` on one node.
#[derive(Clone)]
pub(crate) struct PeerApi {
    pub(crate) node: Arc<Node>,
    pub(crate) healer: Arc<Healer>,
    /// Set at the end of the drain: answers that still wait for their callers end then.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Answer<pb::HelloResponse> {
        let request = request.into_inner();
        let caller = convert::introduction(request.node.as_ref(), request.index.as_ref())?;
        let (own, position) = (self.node.introduction(), caller.identity.node);
        check_place(&own.identity, &caller.identity)?;
        let (meeting, before) = self.node.meet(caller).await.map_err(status::node)?;
        if meeting != Meeting::Expected {
            tracing::error!(
                node = %position, ?meeting,
                "a node introduced itself with a disk that is not the one remembered"
            );
        }
        Ok(Response::new(pb::HelloResponse {
            node: Some((&own.identity).into()),
            index: Some(own.index.into()),
            remembered_incarnation: before
                .map(|peer| peer.incarnation.bytes().to_vec())
                .unwrap_or_default(),
            remembered_boot: before.map_or(0, |peer| peer.boot.count),
            remembered_boot_nonce: before.map_or(0, |peer| peer.boot.nonce),
            remembered_group: before.map_or(0, |peer| peer.group),
        }))
    }

    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Answer<pb::ListRecordsResponse> {
        let request = request.into_inner();
        let after = request.start_after.as_ref().map(record_key).transpose()?;
        let entries = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => MAX_PAGE,
        };
        let asking = convert::node_id("asking", request.asking)?;
        let remembered = self.node.remembered(asking).map_err(status::node)?;
        let mut page = pb::ListRecordsResponse {
            node: Some((&self.node.identity()).into()),
            remembered_incarnation: remembered
                .map(|peer| peer.incarnation.bytes().to_vec())
                .unwrap_or_default(),
            ..Default::default()
        };
        if request.view() == pb::RecordsView::Fences {
            let found = self.node.fences(after, entries).await;
            let (fences, next) = found.map_err(status::node)?;
            page.next = next.map(|(user, path, upload)| key(&user, &path, Some(upload)));
            page.fences = fences.iter().map(user_upload).collect();
            return Ok(Response::new(page));
        }
        let full = request.view() == pb::RecordsView::Full;
        let of = match &*request.user {
            "" => None,
            user => Some((user_name(user)?, prefix(&request.prefix)?)),
        };
        let found = self.node.records(of, after, (entries, PAGE_BYTES)).await;
        let (records, more) = found.map_err(status::node)?;
        page.next = records.last().filter(|_| more).map(|(user, path, _)| key(user, path, None));
        let entries = records.iter().map(|(user, path, current)| pb::UserEntry {
            user: user.as_str().to_owned(),
            entry: Some(list::entry(path, current, full)),
        });
        page.entries = entries.collect();
        Ok(Response::new(page))
    }

    async fn heal(&self, request: Request<pb::HealRequest>) -> Answer<pb::HealResponse> {
        let request = request.into_inner();
        let of = UserPath {
            user: user_name(&request.user)?,
            path: convert::path("path", &request.path)?,
        };
        let step = request.step.ok_or_else(|| Malformed::new("step", "is missing"))?;
        let mut response = self.step(&of, step).await?;
        response.node = Some((&self.node.identity()).into());
        Ok(Response::new(response))
    }

    async fn describe(
        &self,
        _request: Request<pb::DescribeRequest>,
    ) -> Answer<pb::DescribeResponse> {
        let info = Some(info::node_info(&self.node, &self.healer).await?);
        Ok(Response::new(pb::DescribeResponse { info }))
    }

    type ReadChunkStream = get::Stream<pb::ReadChunkResponse>;

    async fn read_chunk(
        &self,
        request: Request<pb::ReadChunkRequest>,
    ) -> Answer<Self::ReadChunkStream> {
        let request = request.into_inner();
        let user = user_name(&request.user)?;
        let (path, upload) = super::required_upload(request.upload.as_ref())?;
        let range = request.range.ok_or_else(|| Malformed::new("range", "is missing"))?;
        let chunk = convert::chunk_id("range.chunk", range.chunk)?;
        let blocks = (range.first_block.into(), range.block_count.into());
        let wanted = get::Wanted { user, path, upload, chunk, blocks };
        Ok(Response::new(get::read_chunk(&self.node, self.stop.clone(), wanted)))
    }
}

impl PeerApi {
    async fn step(&self, of: &UserPath, step: Step) -> Result<pb::HealResponse, Status> {
        let node = &self.node;
        let (user, path) = (of.user.clone(), of.path.clone());
        match step {
            Step::Look(step) => {
                let reread = convert::chunk_set("look.reread", step.reread)?;
                let upload = match &*step.upload_id {
                    [] => None,
                    id => Some(convert::upload_id("look.upload_id", id)?),
                };
                if let Some(upload) = upload {
                    self.healer.reclaim(of, upload).await.map_err(status::node)?;
                }
                let bad = match upload.filter(|_| !reread.is_empty()) {
                    Some(upload) => {
                        let checked = node.check_chunks(user, path, upload, reread).await;
                        checked.map_err(status::node)?.bad
                    }
                    None => ChunkSet::EMPTY,
                };
                self.seen(of, upload, bad).await
            }
            Step::WriteBack(step) => {
                let record = step.record.as_ref();
                let record = record.ok_or_else(|| Malformed::new("record", "is missing"))?;
                let source = step.source.as_ref();
                let source = source.ok_or_else(|| Malformed::new("source", "is missing"))?;
                let order = CommitOrder {
                    version: Record::try_from(record)?.version,
                    write_back: true,
                    sources: vec![NodeRef::try_from(source)?],
                };
                let results = node.commit(user, vec![(path, order)]).await;
                let result = results.map_err(status::node)?.into_iter().next();
                outcome(result.unwrap_or(Err(Refused::TagConflict)))
            }
            Step::Confirm(step) => {
                let tag = convert::tag("confirm.tag", step.tag.as_ref())?;
                node.confirm(user, vec![(path, tag)]).await.map_err(status::node)?;
                outcome(Ok(()))
            }
            Step::Pull(step) => {
                let upload = convert::upload_id("pull.upload_id", &step.upload_id)?;
                let chunks = convert::chunk_set("pull.chunks", step.chunks)?;
                let held = held(&step.held)?;
                let pace = step.bytes_per_second;
                let pulled = self.healer.pull(of, upload, chunks, &held, pace).await;
                match pulled.map_err(status::node)? {
                    Ok(()) => self.seen(of, Some(upload), ChunkSet::EMPTY).await,
                    Err(refused) => outcome::<()>(Err(refused)),
                }
            }
            Step::Release(step) => {
                let homes = step.homes.iter().map(NodeRef::try_from);
                let order = ReleaseOrder {
                    tag: convert::tag("release.tag", step.tag.as_ref())?,
                    upload: convert::upload_id("release.upload_id", &step.upload_id)?,
                    chunks: convert::chunk_set("release.chunks", step.chunks)?,
                    homes: homes.collect::<Result<_, Malformed>>()?,
                };
                outcome(node.release(user, path, order).await.map_err(status::node)?)
            }
            Step::Fence(step) => {
                let upload = convert::upload_id("fence.upload_id", &step.upload_id)?;
                let fenced = node.fence(user, vec![(path, upload)]).await;
                match only(fenced.map_err(status::node)?)? {
                    Ok(FenceAnswer::Fenced) => outcome(Ok(())),
                    Ok(FenceAnswer::Committed(record)) => Ok(pb::HealResponse {
                        committed: Some((&record).into()),
                        ..Default::default()
                    }),
                    Err(refused) => outcome::<()>(Err(refused)),
                }
            }
            Step::Drop(step) => {
                let upload = convert::upload_id("drop.upload_id", &step.upload_id)?;
                let evidence = convert::fenced_by(&step.fenced_by)?;
                let entries = vec![(path, upload, DropEvidence::FencedBy(evidence))];
                let dropped = node.drop_uploads(user, entries).await;
                outcome(only(dropped.map_err(status::node)?)?)
            }
        }
    }

    /// What is known of a path and held of an upload now.
    async fn seen(
        &self,
        of: &UserPath,
        upload: Option<UploadId>,
        bad: ChunkSet,
    ) -> Result<pb::HealResponse, Status> {
        let queries = vec![(of.path.clone(), upload)];
        let stats = self.node.stat(of.user.clone(), queries, false).await;
        let stats = stats.map_err(status::node)?;
        Ok(pb::HealResponse {
            stat: stats.first().map(answer::path_stat),
            bad: bad.mask().into(),
            ..Default::default()
        })
    }
}

/// A step without an answer of its own, done or refused.
fn outcome<T>(result: Result<T, Refused>) -> Result<pb::HealResponse, Status> {
    let Err(refused) = result else { return Ok(pb::HealResponse::default()) };
    Ok(pb::HealResponse {
        refusal: Some((&refused).into()),
        other_incarnation: match refused {
            Refused::PrepareLost(other) => Some(other.into()),
            _ => None,
        },
        ..Default::default()
    })
}

fn only<T>(results: Vec<T>) -> Result<T, Status> {
    results.into_iter().next().ok_or_else(|| status::node(NodeError::Task))
}

fn held(masks: &[u32]) -> Result<PerNode<ChunkSet>, Malformed> {
    let sets: Vec<ChunkSet> = masks
        .iter()
        .map(|mask| convert::chunk_set("pull.held", *mask))
        .collect::<Result<_, _>>()?;
    sets.try_into().map_err(|_| Malformed::new("pull.held", "does not have four entries"))
}

fn user_name(text: &str) -> Result<UserName, Malformed> {
    UserName::new(text).map_err(|error| convert::bad_name("user", &error))
}

fn prefix(text: &str) -> Result<Prefix, Malformed> {
    Prefix::new(text).map_err(|error| convert::bad_name("prefix", &error))
}

fn record_key(key: &pb::RecordKey) -> Result<(UserName, FilePath, UploadId), Malformed> {
    let upload = match &*key.upload_id {
        [] => UploadId::new([0; 16]),
        id => convert::upload_id("start_after.upload_id", id)?,
    };
    Ok((user_name(&key.user)?, convert::path("start_after.path", &key.path)?, upload))
}

fn key(user: &UserName, path: &FilePath, upload: Option<UploadId>) -> pb::RecordKey {
    pb::RecordKey {
        user: user.as_str().to_owned(),
        path: path.as_str().to_owned(),
        upload_id: upload.map(|upload| upload.bytes().to_vec()).unwrap_or_default(),
    }
}

fn user_upload((user, path, upload): &(UserName, FilePath, UploadId)) -> pb::UserUpload {
    pb::UserUpload {
        user: user.as_str().to_owned(),
        upload: Some(pb::UploadRef {
            path: path.as_str().to_owned(),
            upload_id: upload.bytes().to_vec(),
        }),
    }
}

/// Refuses a caller that cannot be another node of this cluster.
fn check_place(own: &Identity, caller: &Identity) -> Result<(), Status> {
    if caller.cluster != own.cluster {
        let text = format!("this node belongs to cluster {}", own.cluster);
        return Err(Reason::WrongNode.status(text));
    }
    if caller.node == own.node {
        let text = format!("this node is node {} itself", own.node);
        return Err(Reason::WrongNode.status(text));
    }
    Ok(())
}
