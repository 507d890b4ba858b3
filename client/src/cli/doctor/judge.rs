//! What the answers of four nodes mean, and what to do about it. Pure.

use std::time::Duration;

use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::tag::{MAX_AHEAD_MS, REPORTED_SKEW_MS};

use crate::{Cause, Limited, NodeError, NodeInfo};

/// Clocks that are further apart than this deserve a look, in milliseconds.
const NOTED_SKEW_MS: u64 = 2_000;

/// A disk with less than one part in so many free is nearly full.
const NEARLY_FULL: u64 = 10;

/// Of a quota, the hundredth parts that may be used before it is told.
const MUCH_OF_A_QUOTA: u64 = 90;

/// How a check ended; the worst is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Ok,
    Warn,
    Fail,
}

impl Status {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// The node that it is about, if it is about one.
    pub(super) node: Option<NodeId>,
    pub(super) status: Status,
    pub(super) found: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: String) -> Self {
        Self { name, node: None, status: Status::Ok, found, advice: None }
    }

    pub(super) fn warn(name: &'static str, found: String, advice: &str) -> Self {
        let advice = Some(advice.to_owned());
        Self { name, node: None, status: Status::Warn, found, advice }
    }

    pub(super) fn fail(name: &'static str, found: String, advice: &str) -> Self {
        let advice = Some(advice.to_owned());
        Self { name, node: None, status: Status::Fail, found, advice }
    }

    fn of(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }
}

/// How far a connection comes.
pub(super) enum Reached {
    /// The name is not known.
    Unknown(String),
    /// Something says no.
    Refused(String),
    /// Nothing says anything.
    Silent(Duration),
    Connected,
}

/// What was seen of one node.
pub(super) struct Seen {
    pub(super) id: NodeId,
    pub(super) address: String,
    pub(super) reached: Reached,
    pub(super) info: Result<NodeInfo, NodeError>,
}

/// What it all means. `nodes_from` is where the addresses are written, `version` that of this
/// program.
pub(super) fn judge(seen: &PerNode<Seen>, nodes_from: &str, version: &str) -> Vec<Check> {
    let mut checks: Vec<Check> = seen.iter().map(|seen| way(seen, nodes_from)).collect();
    checks.extend(identity(seen, nodes_from));
    checks.extend(login(seen));
    let infos: Vec<(NodeId, &NodeInfo)> =
        seen.iter().filter_map(|seen| Some((seen.id, seen.info.as_ref().ok()?))).collect();
    let refused = checks.iter().any(|check| check.name == "login" && check.status != Status::Ok);
    // Who is refused by all cannot tell how they are.
    if !(infos.is_empty() && refused) {
        checks.push(quorum(&infos));
    }
    if infos.is_empty() {
        return checks;
    }
    checks.extend(each(&infos, "state", "all that answered are serving", state));
    checks.extend(versions(&infos, version));
    checks.extend(clocks(&infos));
    checks.extend(each(&infos, "space", &least_free(&infos), space));
    checks.extend(each(&infos, "healing", "nothing waits to be healed", healing));
    checks.extend(each(&infos, "disk", "no bad chunks were found", disk));
    checks.extend(each(&infos, "quota", "far from any limit, or there is none", quota));
    checks
}

/// Whether the node can be talked to.
fn way(seen: &Seen, nodes_from: &str) -> Check {
    let address = &seen.address;
    let fail = |found: String, advice: String| Check::fail("node", found, &advice).of(seen.id);
    let cause = seen.info.as_ref().err().map(|error| &error.cause);
    match (&seen.reached, cause) {
        (Reached::Unknown(why), _) => fail(
            format!("{address}: the name cannot be looked up: {why}"),
            format!("correct the address at {nodes_from}, or the name service"),
        ),
        (Reached::Refused(why), _) => fail(
            format!("{address}: nothing listens there: {why}"),
            format!("start dfsd on that machine, or correct the address at {nodes_from}"),
        ),
        (Reached::Silent(limit), _) => fail(
            format!("{address}: no answer within {limit:?}"),
            "see whether that machine is up, and whether a firewall stands in between".to_owned(),
        ),
        (Reached::Connected, Some(Cause::Untrusted(why))) => fail(
            format!("{address}: TLS: {why}"),
            "correct 'tls' here or on that node, as it says".to_owned(),
        ),
        (Reached::Connected, Some(Cause::Timeout { .. })) => fail(
            format!("{address}: takes connections and does not answer"),
            "see the log of that node; it may be overloaded, stopped, or no dfsd".to_owned(),
        ),
        (
            Reached::Connected,
            Some(cause @ (Cause::Connect(_) | Cause::Broken(_) | Cause::Nonsense(_))),
        ) => fail(
            format!("{address}: {cause}"),
            "see whether a dfsd listens there, with TLS or without, and its log".to_owned(),
        ),
        (Reached::Connected, _) => Check::ok("node", format!("{address} answers")).of(seen.id),
    }
}

/// Whether each address leads to the node that it should.
fn identity(seen: &PerNode<Seen>, nodes_from: &str) -> Vec<Check> {
    let known = |seen: &Seen| match &seen.info {
        Ok(info) => Some(info.identity.node),
        Err(NodeError {
            cause: Cause::WrongNode { position, cluster, expected_cluster, .. },
            ..
        }) if cluster == expected_cluster => Some(*position),
        Err(_) => None,
    };
    let mut positions = seen.each_ref().map(known);
    // The last one can only be at the last address.
    let missing = NodeId::ALL.into_iter().filter(|id| !positions.contains(&Some(*id)));
    if let [missing] = missing.collect::<Vec<_>>()[..]
        && let Some(place) = positions.iter_mut().find(|position| position.is_none())
    {
        *place = Some(missing);
    }
    let address_of = |id: NodeId| {
        let place = positions.iter().position(|position| *position == Some(id))?;
        Some(seen[place].address.as_str())
    };
    let right: Option<Vec<&str>> = NodeId::ALL.into_iter().map(address_of).collect();
    let advice = match right {
        Some(right) => format!("write at {nodes_from}: nodes: [{}]", right.join(", ")),
        None => format!("write the addresses at {nodes_from} in the order of the positions"),
    };
    let mut wrong = Vec::new();
    for seen in seen {
        let Some(Cause::WrongNode { position, cluster, expected, expected_cluster }) =
            seen.info.as_ref().err().map(|error| &error.cause)
        else {
            continue;
        };
        let address = &seen.address;
        let check = if cluster == expected_cluster {
            let found = format!("{address} is node {position}, not node {expected}");
            Check::fail("identity", found, &advice)
        } else {
            let found =
                format!("{address} belongs to the cluster {cluster}, not to {expected_cluster}");
            let advice = format!("correct 'nodes' at {nodes_from}, or 'cluster'");
            Check::fail("identity", found, &advice)
        };
        wrong.push(check.of(seen.id));
    }
    let right = seen.iter().filter(|seen| seen.info.is_ok()).count();
    match (wrong.is_empty(), right) {
        (false, _) => wrong,
        (true, 0) => Vec::new(),
        (true, _) => {
            vec![Check::ok("identity", "each address leads to the node that it should".to_owned())]
        }
    }
}

/// Whether the user is known.
fn login(seen: &PerNode<Seen>) -> Vec<Check> {
    let refused = |seen: &&Seen| {
        let cause = seen.info.as_ref().err().map(|error| &error.cause);
        matches!(cause, Some(Cause::Credentials | Cause::LoggedOut))
    };
    let refusing: Vec<NodeId> = seen.iter().filter(refused).map(|seen| seen.id).collect();
    let accepting = seen.iter().filter(|seen| seen.info.is_ok()).count();
    match (&refusing[..], accepting) {
        ([], 0) => Vec::new(),
        ([], _) => vec![Check::ok("login", "user and password are accepted".to_owned())],
        (_, 0) => vec![Check::fail(
            "login",
            "user or password are refused".to_owned(),
            "correct 'user' and the password ('dfsctl config show' says where they come from); \
             'dfsd user passwd' sets a new one",
        )],
        (refusing, _) => refusing
            .iter()
            .map(|id| {
                let found = "refuses a user and password that other nodes accept".to_owned();
                let advice = "copy 'users_file' of another node to it; it must be the same on all";
                Check::fail("login", found, advice).of(*id)
            })
            .collect(),
    }
}

/// Whether enough of them take part.
fn quorum(infos: &[(NodeId, &NodeInfo)]) -> Check {
    let serving = infos.iter().filter(|(_, info)| !info.identity.rejoining).count();
    let found = format!("{serving} of 4 nodes take part");
    match serving {
        4 => Check::ok("cluster", found),
        3 => {
            let found = format!("{found}: reads and writes go on, none more may be missing");
            Check::warn("cluster", found, "bring the fourth one back")
        }
        2 => {
            let found = format!("{found}: nothing is stored or removed; some files may be read");
            Check::fail("cluster", found, "bring the others back, see above")
        }
        _ => Check::fail("cluster", found, "bring the others back, see above"),
    }
}

/// A check that each node passes by itself: one line if all do, else one for each that does not.
fn each(
    infos: &[(NodeId, &NodeInfo)],
    name: &'static str,
    good: &str,
    look: impl Fn(&NodeInfo) -> Option<(Status, String, &'static str)>,
) -> Vec<Check> {
    let found: Vec<Check> = infos
        .iter()
        .filter_map(|(id, info)| {
            let (status, found, advice) = look(info)?;
            let advice = Some(advice.to_owned());
            Some(Check { name, node: Some(*id), status, found, advice })
        })
        .collect();
    if found.is_empty() { vec![Check::ok(name, good.to_owned())] } else { found }
}

fn state(info: &NodeInfo) -> Option<(Status, String, &'static str)> {
    if info.identity.rejoining {
        let found = format!("is rejoining after the loss of its disk: {}", info.rejoin);
        return Some((Status::Warn, found, "keep the three other nodes up until it is done"));
    }
    (!info.rejoin.is_empty()).then(|| {
        let found = format!("has a new disk, and counts as the one that may fail: {}", info.rejoin);
        (Status::Warn, found, "keep the others up; 'dfsctl repair' speeds it up")
    })
}

fn versions(infos: &[(NodeId, &NodeInfo)], own: &str) -> Vec<Check> {
    let all: Vec<String> =
        infos.iter().map(|(id, info)| format!("node {id} {}", info.version)).collect();
    if infos.iter().all(|(_, info)| info.version == own) {
        return vec![Check::ok("versions", format!("{own}, here and on all that answered"))];
    }
    let found = format!("{own} here, {}", all.join(", "));
    vec![Check::warn("versions", found, "go on with the upgrade, one node at a time")]
}

fn clocks(infos: &[(NodeId, &NodeInfo)]) -> Vec<Check> {
    let mut sorted: Vec<i64> = infos.iter().map(|(_, info)| info.ahead_ms).collect();
    sorted.sort_unstable();
    // The middle of the nodes' clocks, and of two the lower one.
    let middle = sorted[(sorted.len() - 1) / 2];
    let status = |ms: u64| match ms {
        0..=NOTED_SKEW_MS => Status::Ok,
        ms if ms <= REPORTED_SKEW_MS => Status::Warn,
        _ => Status::Fail,
    };
    let words = |ms: i64| {
        let way = if ms > 0 { "ahead of" } else { "behind" };
        format!("{}.{} s {way}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000 / 100)
    };
    let mut checks = Vec::new();
    for (id, info) in infos {
        let off = info.ahead_ms - middle;
        if status(off.unsigned_abs()) != Status::Ok {
            let limit = MAX_AHEAD_MS / 1000;
            let found = format!("its clock is {} the others'", words(off));
            let advice = format!(
                "set it right, and run a time service: nodes refuse what is {limit} s ahead of them"
            );
            let status = status(off.unsigned_abs());
            checks.push(Check { status, ..Check::warn("clocks", found, &advice).of(*id) });
        }
    }
    // Nothing but certificates depends on the clock here.
    if status(middle.unsigned_abs()) != Status::Ok {
        let found = format!("this machine's clock is {} the nodes'", words(-middle));
        let advice = "set it right, and run a time service; certificates may seem not to be valid";
        checks.push(Check::warn("clocks", found, advice));
    }
    if checks.is_empty() {
        let spread = sorted.last().copied().unwrap_or(middle).abs_diff(sorted[0]);
        checks.push(Check::ok("clocks", format!("at most {spread} ms apart")));
    }
    checks
}

/// The scarcest disk, for people.
fn least_free(infos: &[(NodeId, &NodeInfo)]) -> String {
    let percent = |info: &NodeInfo| {
        let part =
            u128::from(info.disk_free_bytes) * 100 / u128::from(info.disk_total_bytes.max(1));
        u64::try_from(part).unwrap_or(100)
    };
    let least = infos.iter().map(|(id, info)| (percent(info), *id)).min();
    least.map_or(String::new(), |(percent, id)| {
        format!("at least {percent} % of each disk are free (node {id})")
    })
}

fn space(info: &NodeInfo) -> Option<(Status, String, &'static str)> {
    let (free, total) = (info.disk_free_bytes, info.disk_total_bytes);
    // What a node keeps free for its index unless it is told otherwise.
    let reserve = (total / 20).min(1 << 30);
    let mib = free >> 20;
    if total > 0 && free <= reserve {
        let found = format!("its disk is full: {mib} MiB free, which it keeps for its index");
        return Some((Status::Fail, found, "make room on it, or remove files"));
    }
    (total > 0 && free < total / NEARLY_FULL).then(|| {
        let found = format!("its disk is nearly full: {mib} MiB of {} MiB free", total >> 20);
        (Status::Warn, found, "make room on it before it refuses files")
    })
}

fn healing(info: &NodeInfo) -> Option<(Status, String, &'static str)> {
    if info.backlog > 0 {
        let found = format!("{} files wait to be healed", info.backlog);
        return Some((Status::Warn, found, "keep all nodes up; 'dfsctl repair' does it now"));
    }
    (!info.heals).then(|| {
        let advice = "set 'heal_every', or run 'dfsctl repair' from time to time";
        (Status::Warn, "does not heal by itself ('heal_every: off')".to_owned(), advice)
    })
}

fn disk(info: &NodeInfo) -> Option<(Status, String, &'static str)> {
    (info.bad_chunks > 0).then(|| {
        let found = format!("{} bad chunks found since its start", info.bad_chunks);
        (Status::Warn, found, "run 'dfsctl verify'; if there are more each time, replace the disk")
    })
}

fn quota(info: &NodeInfo) -> Option<(Status, String, &'static str)> {
    let used = |limited: &Limited| {
        let allowed = limited.allowed?;
        let part = u128::from(limited.used) * 100 / u128::from(allowed.max(1));
        u64::try_from(part).ok()
    };
    let usage = &info.usage;
    let limits = [(usage.bytes, "bytes"), (usage.files, "files"), (usage.staged_bytes, "staged")];
    let (percent, what) =
        limits.iter().filter_map(|(limited, what)| Some((used(limited)?, what))).max()?;
    (percent >= MUCH_OF_A_QUOTA).then(|| {
        let found = format!("{percent} % of the user's quota of {what} are used");
        (Status::Warn, found, "remove files, or ask the operator for a larger quota")
    })
}

#[cfg(test)]
mod tests;
