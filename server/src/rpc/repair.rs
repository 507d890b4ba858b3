//! `Repair`: a tracked task repairs and tells how far it is.

use std::sync::Arc;
use std::time::Duration;

use dfs_proto::name::{Prefix, UserName};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::repair::{Mode, Report, State};
use dfs_proto::wire::convert::{self, Malformed, bad_name};
use dfs_proto::wire::pb;
use dfs_proto::wire::status::Reason;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Answer, Api};
use crate::auth::Principal;
use crate::heal::sweep::{Summary, Sweep, Swept};
use crate::peers::UserPath;
use crate::request_id::carried;
use crate::users::Role;

/// Messages that are ready for the client but not yet taken.
const AHEAD: usize = 4;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Most paths named in one message.
const MAX_PATHS: usize = 1000;

/// A client that takes nothing for this long is gone for good; it can go on where it was.
const MAX_STALL: Duration = Duration::from_secs(60);

/// Nobody listens any more.
struct Gone;

type Message = Result<pb::RepairResponse, Status>;
pub(super) type Stream = ReceiverStream<Message>;

pub(super) fn repair(api: &Api, caller: &Principal, request: &pb::RepairRequest) -> Answer<Stream> {
    let scope = Scope::of(caller, request)?;
    let mode = match request.mode() {
        pb::RepairMode::Unspecified | pb::RepairMode::Thorough => Mode::Thorough,
        pb::RepairMode::Quick => Mode::Quick,
        pb::RepairMode::DryRun => Mode::DryRun,
    };
    if api.node.identity().rejoining {
        return Err(Reason::NodeRejoining.status("this node is rejoining; ask another one"));
    }
    let turn = api.healer.repair_turn().ok_or_else(|| {
        Reason::Overloaded.status("this node runs as many repairs as it may; try again later")
    })?;
    let (messages, stream) = mpsc::channel(AHEAD);
    let (stop, node, healer) = (api.stop.clone(), api.identity(), Arc::clone(&api.healer));
    api.node.tasks().spawn(carried(async move {
        let _turn = turn;
        let all_users = scope.files.is_none();
        let sweep = Sweep::start(&healer, scope.files, scope.after, mode);
        if stop.run_until_cancelled(run(sweep, all_users, node, &messages)).await.is_none() {
            let last = Reason::ShuttingDown.status("the node is about to stop");
            // Nobody may be listening any more.
            let _ = messages.try_send(Err(last));
        }
    }));
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// What is to be repaired.
#[derive(Debug, PartialEq, Eq)]
struct Scope {
    /// A user's files under a prefix; `None` for everything.
    files: Option<(UserName, Prefix)>,
    after: Option<UserPath>,
}

impl Scope {
    fn of(caller: &Principal, request: &pb::RepairRequest) -> Result<Self, Status> {
        let prefix = Prefix::new(&*request.prefix).map_err(|error| bad_name("prefix", &error))?;
        let from = if !request.all_users {
            caller.user.clone()
        } else if caller.role != Role::Admin {
            let text = "only an administrator may repair the files of all users; \
                        'dfsd user role' makes one";
            return Err(Reason::NotAllowed.status(text));
        } else if !request.prefix.is_empty() {
            return Err(Malformed::new("prefix", "has to be empty with all_users").into());
        } else if request.start_after.is_empty() {
            return Ok(Self { files: None, after: None });
        } else {
            UserName::new(&*request.start_after_user)
                .map_err(|error| bad_name("start_after_user", &error))?
        };
        let after = match &*request.start_after {
            "" => None,
            path => {
                Some(UserPath { user: from.clone(), path: convert::path("start_after", path)? })
            }
        };
        Ok(Self { files: (!request.all_users).then_some((from, prefix)), after })
    }
}

/// Repairs until the end, or until nobody listens any more. Names users where the files are
/// those of all.
async fn run(
    mut sweep: Sweep<'_>,
    all_users: bool,
    node: Option<pb::NodeIdentity>,
    messages: &mpsc::Sender<Message>,
) {
    let fresh = || pb::RepairResponse { node: node.clone(), ..Default::default() };
    let mut next = fresh();
    let mut told = tokio::time::interval(TELL_EVERY);
    loop {
        let counts = summary(&sweep.summary);
        let swept = {
            let mut finished = std::pin::pin!(sweep.next());
            loop {
                tokio::select! {
                    swept = &mut finished => break swept,
                    // A large file takes long: the client hears that somebody is at work.
                    _ = told.tick() => {
                        next.summary = Some(counts);
                        let message = std::mem::replace(&mut next, fresh());
                        if send(messages, message).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        let Some(Swept { of: UserPath { user, path }, report }) = swept else { break };
        let user = if all_users { user.as_str() } else { "" };
        next.finished_through = path.as_str().to_owned();
        next.finished_through_user = user.to_owned();
        if let Some(report) = report.filter(|report| report.state != State::Healthy) {
            next.paths.push(repaired_path(user, path.as_str(), &report));
        }
        if next.paths.len() >= MAX_PATHS {
            next.summary = Some(summary(&sweep.summary));
            if send(messages, std::mem::replace(&mut next, fresh())).await.is_err() {
                return;
            }
        }
    }
    if sweep.taking_part() < 2 {
        let text = "fewer than two nodes could be asked for their paths";
        let _ = messages.send(Err(Reason::TooFewNodes.status(text))).await;
        return;
    }
    next.summary = Some(summary(&sweep.summary));
    next.done = true;
    next.problems = sweep
        .problems()
        .map(|(id, message)| pb::NodeProblem { position: id.get().into(), message })
        .collect();
    // Nobody may be listening any more.
    let _ = send(messages, next).await;
}

/// Sends a message, unless the client has gone or takes nothing.
async fn send(messages: &mpsc::Sender<Message>, message: pb::RepairResponse) -> Result<(), Gone> {
    let sent = tokio::time::timeout(MAX_STALL, messages.send(Ok(message))).await;
    sent.map_err(|_| Gone)?.map_err(|_| Gone)
}

fn summary(summary: &Summary) -> pb::RepairSummary {
    let Summary { looked_at, healthy, repaired, unfinished, unreachable, lost, dead, copied_bytes } =
        *summary;
    pb::RepairSummary {
        looked_at,
        healthy,
        repaired,
        unfinished,
        unreachable,
        lost,
        dead,
        copied_bytes,
    }
}

fn repaired_path(user: &str, path: &str, report: &Report) -> pb::RepairedPath {
    let masks = |sets: &PerNode<dfs_proto::chunk::ChunkSet>| {
        sets.iter().map(|set| set.mask().into()).collect()
    };
    let positions = |nodes: &[NodeId]| nodes.iter().map(|id| id.get().into()).collect();
    let (state, missing) = match report.state {
        State::Healthy => (pb::RepairState::Healthy, 0),
        State::Repaired => (pb::RepairState::Repaired, 0),
        State::Unfinished => (pb::RepairState::Unfinished, 0),
        State::Unreachable => (pb::RepairState::Unreachable, 0),
        State::Lost(chunks) => (pb::RepairState::Lost, chunks.mask().into()),
        State::Dead(chunks) => (pb::RepairState::Dead, chunks.mask().into()),
    };
    pb::RepairedPath {
        path: path.to_owned(),
        user: user.to_owned(),
        state: state.into(),
        missing,
        copied: masks(&report.copied),
        bad: masks(&report.bad),
        released: masks(&report.released),
        written_back: positions(&report.written_back),
        failed: positions(&report.failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::name::FilePath;

    fn scope(role: Role, request: pb::RepairRequest) -> Result<Scope, Reason> {
        let user = UserName::new("alice").unwrap();
        let caller = Principal { user, role, token: [0; 32] };
        Scope::of(&caller, &request).map_err(|status| Reason::of(&status).unwrap())
    }

    #[test]
    fn only_administrators_repair_the_files_of_others() {
        let own = pb::RepairRequest { prefix: "a/".to_owned(), ..Default::default() };
        let files = Some((UserName::new("alice").unwrap(), Prefix::new("a/").unwrap()));
        for role in [Role::User, Role::Admin] {
            let expected = Scope { files: files.clone(), after: None };
            assert_eq!(scope(role, own.clone()), Ok(expected));
        }
        let all = pb::RepairRequest { all_users: true, ..Default::default() };
        assert_eq!(scope(Role::User, all.clone()), Err(Reason::NotAllowed));
        assert_eq!(scope(Role::Admin, all.clone()), Ok(Scope { files: None, after: None }));

        let goes_on = pb::RepairRequest {
            start_after: "x".to_owned(),
            start_after_user: "bob".to_owned(),
            ..all.clone()
        };
        let (user, path) = (UserName::new("bob").unwrap(), FilePath::new("x").unwrap());
        let after = Some(UserPath { user, path });
        assert_eq!(scope(Role::Admin, goes_on.clone()), Ok(Scope { files: None, after }));
        for wrong in [
            pb::RepairRequest { start_after_user: String::new(), ..goes_on.clone() },
            pb::RepairRequest { start_after: "/x".to_owned(), ..goes_on },
            pb::RepairRequest { prefix: "a".to_owned(), ..all },
        ] {
            assert!(scope(Role::Admin, wrong).is_err());
        }
    }
}
