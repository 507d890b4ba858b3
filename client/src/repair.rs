//! REPAIR: one node does it for all, path after path; where it goes away, another one goes on
//! after the last path that was finished.

use std::sync::Arc;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::wire::convert::{self, Malformed};
use dfs_proto::wire::pb;
use dfs_proto::wire::status::Reason;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::connect::{PROGRESS_LIMIT, UNARY_LIMIT, within};
use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;

/// How a REPAIR goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RepairMode {
    /// Every chunk is re-read from disk.
    #[default]
    Thorough,
    /// Only what looks wrong is looked into.
    Quick,
    /// Nothing is changed: tells what a quick repair would do.
    DryRun,
}

/// What a REPAIR may be told.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// How.
    pub mode: RepairMode,
    /// The files of all users, for administrators; the prefix has to be empty.
    pub all_users: bool,
    /// Only paths of the caller after this one, in byte order: where an earlier REPAIR stopped.
    pub start_after: Option<FilePath>,
    /// Stops it. What has been repaired stays so.
    pub cancel: CancellationToken,
}

/// How a path is after a REPAIR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairState {
    /// It was whole.
    Healthy,
    /// It is whole now; in a dry run: would be.
    Repaired,
    /// A node failed, or the path was being written: repair it again.
    Unfinished,
    /// Too few nodes answered.
    Unreachable,
    /// Chunks of it are on no node.
    Lost,
    /// Its newest version was never completed and cannot be. Nothing was changed.
    Dead,
}

impl RepairState {
    /// The word shown to people and scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Repaired => "repaired",
            Self::Unfinished => "unfinished",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Dead => "dead",
        }
    }
}

/// One path that was not healthy.
#[derive(Debug, Clone)]
pub struct RepairedPath {
    /// Whose path it is, in a REPAIR of all users' files.
    pub user: Option<UserName>,
    /// The path.
    pub path: FilePath,
    /// How it is now.
    pub state: RepairState,
    /// Chunks that are on no node, of lost and dead paths.
    pub missing: ChunkSet,
    /// Chunks copied to each node.
    pub copied: PerNode<ChunkSet>,
    /// Chunks found bad on each node.
    pub bad: PerNode<ChunkSet>,
    /// Chunks that each node gave up because they live elsewhere.
    pub released: PerNode<ChunkSet>,
    /// Nodes that were sent the version.
    pub written_back: Vec<NodeId>,
    /// Nodes that failed or did not answer.
    pub failed: Vec<NodeId>,
}

/// Counts of a REPAIR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairSummary {
    /// Paths looked at, removed ones included.
    pub looked_at: u64,
    /// Found whole.
    pub healthy: u64,
    /// Made whole; in a dry run: would be.
    pub repaired: u64,
    /// Not finished.
    pub unfinished: u64,
    /// Could not be decided.
    pub unreachable: u64,
    /// Chunks of them are on no node.
    pub lost: u64,
    /// Never completed, and cannot be.
    pub dead: u64,
    /// Bytes copied between nodes; in a dry run: would be.
    pub copied_bytes: u64,
}

impl RepairSummary {
    fn plus(self, more: &pb::RepairSummary) -> Self {
        Self {
            looked_at: self.looked_at.saturating_add(more.looked_at),
            healthy: self.healthy.saturating_add(more.healthy),
            repaired: self.repaired.saturating_add(more.repaired),
            unfinished: self.unfinished.saturating_add(more.unfinished),
            unreachable: self.unreachable.saturating_add(more.unreachable),
            lost: self.lost.saturating_add(more.lost),
            dead: self.dead.saturating_add(more.dead),
            copied_bytes: self.copied_bytes.saturating_add(more.copied_bytes),
        }
    }
}

/// What a REPAIR came to.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// Counts.
    pub summary: RepairSummary,
    /// Nodes that could not be asked for their paths, and why.
    pub problems: Vec<(NodeId, String)>,
}

/// Told what happens, as it happens.
#[derive(Debug)]
pub enum RepairNews<'a> {
    /// A path that was not healthy.
    Path(&'a RepairedPath),
    /// The counts so far.
    Counts(&'a RepairSummary),
}

pub(crate) async fn repair(
    nodes: &Arc<Nodes>,
    prefix: &Prefix,
    options: RepairOptions,
    mut tell: impl FnMut(RepairNews<'_>),
) -> Result<RepairReport, Error> {
    let RepairOptions { mode, all_users, start_after, cancel } = options;
    let after = start_after.map(|path| (String::new(), path));
    let mut run = Run { nodes, prefix, mode, all_users, after, report: RepairReport::default() };
    let mut errors = Vec::new();
    for id in NodeId::ALL {
        let attempt = run.on_node(id, &mut tell);
        match tokio::select! {
            done = attempt => done,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        } {
            Ok(()) => return Ok(run.report),
            Err(node) if is_forbidden(&node.cause) => {
                return Err(Error::NotAllowed { operation: Operation::Repair, node });
            }
            Err(error) => errors.push(error),
        }
    }
    if run.after.is_none() {
        return Err(Error::unavailable(Operation::Repair, None, errors));
    }
    // What was done is told, and why it did not go on.
    let why = errors.iter().map(|error| (error.node, error.cause.to_string()));
    run.report.problems.extend(why);
    Ok(run.report)
}

fn is_forbidden(cause: &Cause) -> bool {
    matches!(cause, Cause::Refused { reason: Some(Reason::NotAllowed), .. })
}

struct Run<'a> {
    nodes: &'a Arc<Nodes>,
    prefix: &'a Prefix,
    mode: RepairMode,
    all_users: bool,
    /// With its user where the files are those of all.
    after: Option<(String, FilePath)>,
    report: RepairReport,
}

impl Run<'_> {
    /// Has one node repair all that is left.
    async fn on_node(
        &mut self,
        id: NodeId,
        tell: &mut impl FnMut(RepairNews<'_>),
    ) -> Result<(), NodeError> {
        let member = self.nodes.get(id);
        let (start_after_user, start_after) = match &self.after {
            Some((user, path)) => (user.clone(), path.as_str().to_owned()),
            None => Default::default(),
        };
        let request = pb::RepairRequest {
            prefix: self.prefix.as_str().to_owned(),
            start_after,
            all_users: self.all_users,
            start_after_user,
            mode: match self.mode {
                RepairMode::Thorough => pb::RepairMode::Thorough,
                RepairMode::Quick => pb::RepairMode::Quick,
                RepairMode::DryRun => pb::RepairMode::DryRun,
            }
            .into(),
        };
        let stream = member.node().with_session(|session| {
            let (mut client, request) = (session.client(), session.request(request.clone()));
            async move {
                let call = async { Ok(client.repair(request).await?.into_inner()) };
                within(UNARY_LIMIT, "Repair", call).await
            }
        });
        let mut stream = stream.await?;
        let before = self.report.summary;
        loop {
            let message = next(&mut stream).await.map_err(|cause| member.node().error(cause))?;
            let done = message.done;
            let nonsense = |malformed| member.nonsense(&malformed);
            self.take(before, message, tell).map_err(nonsense)?;
            if done {
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        before: RepairSummary,
        message: pb::RepairResponse,
        tell: &mut impl FnMut(RepairNews<'_>),
    ) -> Result<(), Malformed> {
        for path in &message.paths {
            tell(RepairNews::Path(&repaired_path(path)?));
        }
        if let Some(summary) = &message.summary {
            self.report.summary = before.plus(summary);
            tell(RepairNews::Counts(&self.report.summary));
        }
        if !message.finished_through.is_empty() {
            let path = convert::path("finished_through", &message.finished_through)?;
            self.after = Some((message.finished_through_user, path));
        }
        for problem in message.problems {
            let node = convert::node_id("problems.position", problem.position)?;
            self.report.problems.push((node, problem.message));
        }
        Ok(())
    }
}

async fn next(stream: &mut Streaming<pb::RepairResponse>) -> Result<pb::RepairResponse, Cause> {
    let message = within(PROGRESS_LIMIT, "Repair", stream.message()).await?;
    message.ok_or_else(|| Cause::Broken("the repair ended early".to_owned()))
}

fn repaired_path(path: &pb::RepairedPath) -> Result<RepairedPath, Malformed> {
    let state = match path.state() {
        pb::RepairState::Unspecified => {
            return Err(Malformed::new("paths.state", "is missing"));
        }
        pb::RepairState::Healthy => RepairState::Healthy,
        pb::RepairState::Repaired => RepairState::Repaired,
        pb::RepairState::Unfinished => RepairState::Unfinished,
        pb::RepairState::Unreachable => RepairState::Unreachable,
        pb::RepairState::Lost => RepairState::Lost,
        pb::RepairState::Dead => RepairState::Dead,
    };
    let sets = |field, masks: &[u32]| -> Result<PerNode<ChunkSet>, Malformed> {
        let sets: Vec<ChunkSet> =
            masks.iter().map(|mask| convert::chunk_set(field, *mask)).collect::<Result<_, _>>()?;
        sets.try_into().map_err(|_| Malformed::new(field, "does not have four entries"))
    };
    let nodes = |field, positions: &[u32]| {
        positions.iter().map(|id| convert::node_id(field, *id)).collect::<Result<_, Malformed>>()
    };
    let user = match &*path.user {
        "" => None,
        user => Some(UserName::new(user).map_err(|e| Malformed::new("paths.user", e.to_string()))?),
    };
    Ok(RepairedPath {
        user,
        path: convert::path("paths.path", &path.path)?,
        state,
        missing: convert::chunk_set("paths.missing", path.missing)?,
        copied: sets("paths.copied", &path.copied)?,
        bad: sets("paths.bad", &path.bad)?,
        released: sets("paths.released", &path.released)?,
        written_back: nodes("paths.written_back", &path.written_back)?,
        failed: nodes("paths.failed", &path.failed)?,
    })
}
