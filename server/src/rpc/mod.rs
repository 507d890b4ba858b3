//! The API: each handler decodes, calls the node once and encodes.

mod answer;
mod get;
mod info;
mod list;
mod peer;
mod put;
pub(crate) mod readers;
mod repair;
pub(crate) mod status;
pub(crate) mod whole;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dfs_proto::manifest::Content;
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::NodeRef;
use dfs_proto::protocol::row::{CommitOrder, DropEvidence};
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb::dfs_service_server::DfsService;
use dfs_proto::wire::status::{INVALID_CREDENTIALS, Reason};
use dfs_proto::wire::{MAX_BATCH, pb};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::audit::{Audit, Event};
use crate::auth::{Auth, LoginError, Principal, TOKEN_LIFE};
use crate::connections::Caller;
use crate::heal::Healer;
use crate::node::Node;
pub(crate) use peer::PeerApi;
use readers::Readers;
use whole::Beside;

#[cfg(any(test, fuzzing))]
pub(crate) use list::fuzz;

/// Most paths of which the superseded versions are told in one answer: up to 64 manifests each
/// have to fit into a message.
const MAX_SUPERSEDED_QUERIES: usize = 16;

type Answer<T> = Result<Response<T>, Status>;

/// `DfsService` on one node.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) node: Arc<Node>,
    pub(crate) healer: Arc<Healer>,
    pub(crate) auth: Arc<Auth>,
    /// Those whose clients take nothing.
    pub(crate) readers: Arc<Readers>,
    /// How long the next message of a PutChunk may take.
    pub(crate) put_idle: Duration,
    /// Set at the end of the drain: answers that still wait for their clients end then.
    pub(crate) stop: CancellationToken,
}

impl Api {
    fn identity(&self) -> Option<pb::NodeIdentity> {
        Some((&self.node.identity()).into())
    }
}

/// Who is calling. The layer has put him there; without it nobody may.
fn user<T>(request: &Request<T>) -> Result<UserName, Status> {
    principal(request).map(|principal| principal.user.clone())
}

/// Where a call comes from.
fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<Caller>().map(Caller::address)
}

fn principal<T>(request: &Request<T>) -> Result<&Principal, Status> {
    request.extensions().get::<Principal>().ok_or_else(|| {
        tracing::error!("a request reached its handler without a principal");
        Reason::Internal.status("the request has no principal")
    })
}

/// Refuses batches that are empty or too long.
fn batch<T>(field: &'static str, entries: &[T]) -> Result<(), Malformed> {
    if (1..=MAX_BATCH).contains(&entries.len()) {
        Ok(())
    } else {
        let why = format!("has {} entries, 1..{MAX_BATCH} are allowed", entries.len());
        Err(Malformed::new(field, why))
    }
}

#[tonic::async_trait]
impl DfsService for Api {
    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Answer<pb::AuthenticateResponse> {
        let from = address(&request);
        let pb::AuthenticateRequest { user, password } = request.into_inner();
        let token = self.auth.login(user, password, from).await;
        let token = token.map_err(|error| match error {
            LoginError::Refused => Reason::InvalidCredentials.status(INVALID_CREDENTIALS),
            // Whether or not there is such a user, and whatever the password is.
            LoginError::TooManyFailures(wait) => {
                let seconds = (wait.as_secs() + 1).to_string();
                Reason::Overloaded
                    .status_with(error.to_string(), &[("retry_after_seconds", seconds)])
            }
            LoginError::Overloaded => Reason::Overloaded.status(error.to_string()),
            LoginError::Failed => Reason::Internal.status(error.to_string()),
        })?;
        Ok(Response::new(pb::AuthenticateResponse {
            token,
            expires_in_seconds: TOKEN_LIFE.as_secs(),
            node: self.identity(),
        }))
    }

    async fn put_chunk(
        &self,
        request: Request<Streaming<pb::PutChunkRequest>>,
    ) -> Answer<pb::PutChunkResponse> {
        let user = user(&request)?;
        put::put_chunk(self, user, request.into_inner()).await
    }

    /// Nothing: what there is to send is beside it.
    type GetChunksStream = tokio_stream::Empty<Result<pb::GetChunksResponse, Status>>;

    async fn get_chunks(
        &self,
        request: Request<pb::GetChunksRequest>,
    ) -> Answer<Self::GetChunksStream> {
        let caller = (user(&request)?, request.extensions().get::<Caller>().cloned());
        let messages = get::get_chunks(self, caller, request.into_inner()).await?;
        Ok(Beside::answer(messages))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        let user = user(&request)?;
        list::list(self, user, request.into_inner()).await
    }

    async fn stat(&self, request: Request<pb::StatRequest>) -> Answer<pb::StatResponse> {
        let user = user(&request)?;
        let request = request.into_inner();
        batch("queries", &request.queries)?;
        if request.include_superseded && request.queries.len() > MAX_SUPERSEDED_QUERIES {
            let why = format!(
                "has {} entries, 1..{MAX_SUPERSEDED_QUERIES} are allowed with include_superseded",
                request.queries.len()
            );
            return Err(Malformed::new("queries", why).into());
        }
        let each = request.queries.iter().map(|query| {
            let upload = query.upload_id.as_deref();
            let upload = upload.map(|id| convert::upload_id("queries.upload_id", id));
            Ok((convert::path("queries.path", &query.path)?, upload.transpose()?))
        });
        let queries = each.collect::<Result<_, Malformed>>()?;
        let stats = self.node.stat(user, queries, request.include_superseded);
        let stats = stats.await.map_err(status::node)?;
        Ok(Response::new(pb::StatResponse {
            node: self.identity(),
            stats: stats.iter().map(answer::path_stat).collect(),
        }))
    }

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answer<pb::CommitResponse> {
        let (user, from) = (user(&request)?, address(&request));
        let entries = request.into_inner().entries;
        batch("entries", &entries)?;
        let orders: Vec<_> = entries.iter().map(commit_order).collect::<Result<_, _>>()?;
        let told = self.auth.audit.is_on().then(|| orders.clone());
        let results = self.node.commit(user.clone(), orders).await.map_err(status::node)?;
        for (order, _) in told.iter().flatten().zip(&results).filter(|(_, done)| done.is_ok()) {
            tell_committed(&self.auth.audit, from, &user, order);
        }
        Ok(Response::new(pb::CommitResponse {
            node: self.identity(),
            results: results.into_iter().map(answer::commit_result).collect(),
        }))
    }

    async fn confirm(&self, request: Request<pb::ConfirmRequest>) -> Answer<pb::ConfirmResponse> {
        let user = user(&request)?;
        let entries = request.into_inner().entries;
        batch("entries", &entries)?;
        let each = entries.iter().map(|entry| {
            Ok((
                convert::path("entries.path", &entry.path)?,
                convert::tag("entries.tag", entry.tag.as_ref())?,
            ))
        });
        let versions = each.collect::<Result<_, Malformed>>()?;
        self.node.confirm(user, versions).await.map_err(status::node)?;
        Ok(Response::new(pb::ConfirmResponse { node: self.identity() }))
    }

    async fn fence(&self, request: Request<pb::FenceRequest>) -> Answer<pb::FenceResponse> {
        let user = user(&request)?;
        let uploads = request.into_inner().uploads;
        batch("uploads", &uploads)?;
        let uploads = uploads.iter().map(upload_ref).collect::<Result<_, _>>()?;
        let results = self.node.fence(user, uploads).await;
        Ok(Response::new(pb::FenceResponse {
            node: self.identity(),
            results: results.map_err(status::node)?.into_iter().map(answer::fence_result).collect(),
        }))
    }

    async fn drop(&self, request: Request<pb::DropRequest>) -> Answer<pb::DropResponse> {
        let user = user(&request)?;
        let entries = request.into_inner().entries;
        batch("entries", &entries)?;
        let entries = entries.iter().map(drop_entry).collect::<Result<_, _>>()?;
        let results = self.node.drop_uploads(user, entries).await;
        Ok(Response::new(pb::DropResponse {
            node: self.identity(),
            results: results
                .map_err(status::node)?
                .into_iter()
                .map(|result| pb::DropResult { refusal: result.as_ref().err().map(Into::into) })
                .collect(),
        }))
    }

    async fn query_upload(
        &self,
        request: Request<pb::QueryUploadRequest>,
    ) -> Answer<pb::QueryUploadResponse> {
        let user = user(&request)?;
        let (path, upload) = required_upload(request.into_inner().upload.as_ref())?;
        let found = self.node.upload_status(&user, &path, upload);
        let found = found.map_err(status::node)?;
        Ok(Response::new(pb::QueryUploadResponse {
            node: self.identity(),
            have: found.have.mask().into(),
            durable_bytes: found.durable_bytes.to_vec(),
            fenced: found.fenced,
            committed: found.committed,
        }))
    }

    async fn check_chunks(
        &self,
        request: Request<pb::CheckChunksRequest>,
    ) -> Answer<pb::CheckChunksResponse> {
        let user = user(&request)?;
        let request = request.into_inner();
        let (path, upload) = required_upload(request.upload.as_ref())?;
        let chunks = convert::chunk_set("chunks", request.chunks)?;
        let checked = self.node.check_chunks(user, path, upload, chunks).await;
        let checked = checked.map_err(status::node)?;
        Ok(Response::new(pb::CheckChunksResponse {
            node: self.identity(),
            have: checked.have.mask().into(),
            bad: checked.bad.mask().into(),
        }))
    }

    type RepairStream = repair::Stream;

    async fn repair(&self, request: Request<pb::RepairRequest>) -> Answer<Self::RepairStream> {
        let (caller, from) = (principal(&request)?.clone(), address(&request));
        let request = request.into_inner();
        let started = repair::repair(self, &caller, &request);
        let (user, all_users) = (caller.user.as_str(), request.all_users);
        self.auth.audit.tell(
            from,
            &match &started {
                Ok(_) => Event::Repair { user, prefix: &request.prefix, all_users },
                Err(status) => {
                    Event::Refused { user: Some(user), method: "Repair", why: status.message() }
                }
            },
        );
        started
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Answer<pb::LogoutResponse> {
        let caller = principal(&request)?;
        self.auth.logout(&caller.token);
        let user = caller.user.as_str();
        tracing::info!(user, "logged out");
        self.auth.audit.tell(address(&request), &Event::Logout { user });
        Ok(Response::new(pb::LogoutResponse { node: self.identity() }))
    }

    async fn get_node_info(
        &self,
        request: Request<pb::GetNodeInfoRequest>,
    ) -> Answer<pb::GetNodeInfoResponse> {
        let user = user(&request)?;
        let mut info = info::node_info(&self.node, &self.healer).await?;
        info.usage = Some(usage(&self.node, &user));
        Ok(Response::new(info))
    }
}

/// What a user holds on this node, and may hold.
fn usage(node: &Node, user: &UserName) -> pb::UsageView {
    let (held, limits) = (node.held_by(user), node.limits_of(user));
    pb::UsageView {
        bytes: held.bytes,
        files: held.files,
        staged_bytes: held.staged_bytes,
        uploads: held.uploads,
        bytes_allowed: limits.bytes,
        files_allowed: limits.files,
        staged_bytes_allowed: limits.staged,
    }
}

type UploadOfPath = (FilePath, dfs_proto::manifest::UploadId);

fn upload_ref(upload: &pb::UploadRef) -> Result<UploadOfPath, Malformed> {
    Ok((
        convert::path("upload.path", &upload.path)?,
        convert::upload_id("upload.upload_id", &upload.upload_id)?,
    ))
}

fn required_upload(upload: Option<&pb::UploadRef>) -> Result<UploadOfPath, Malformed> {
    upload_ref(upload.ok_or_else(|| Malformed::new("upload", "is missing"))?)
}

fn drop_entry(
    entry: &pb::DropEntry,
) -> Result<(FilePath, dfs_proto::manifest::UploadId, DropEvidence), Malformed> {
    let (path, upload) = required_upload(entry.upload.as_ref())?;
    Ok((path, upload, convert::drop_evidence(entry)?))
}

/// Tells who put or removed what; a version that a reader has brought is nobody's doing.
fn tell_committed(
    audit: &Audit,
    from: Option<IpAddr>,
    user: &UserName,
    (path, order): &(FilePath, CommitOrder),
) {
    let (user, path) = (user.as_str(), path.as_str());
    match &order.version.content {
        _ if order.write_back => {}
        Content::Tombstone => audit.tell(from, &Event::Removed { user, path }),
        Content::File(manifest) => {
            let (bytes, upload) = (manifest.size(), order.version.upload.to_string());
            audit.tell(from, &Event::Put { user, path, bytes, upload });
        }
    }
}

fn commit_order(entry: &pb::CommitEntry) -> Result<(FilePath, CommitOrder), Malformed> {
    let record = entry.record.as_ref();
    let record = record.ok_or_else(|| Malformed::new("entries.record", "is missing"))?;
    let sources = entry.sources.iter().map(NodeRef::try_from);
    let order = CommitOrder {
        version: dfs_proto::manifest::Record::try_from(record)?.version,
        write_back: entry.write_back,
        sources: sources.collect::<Result<_, _>>()?,
    };
    Ok((convert::path("entries.path", &entry.path)?, order))
}
