//! What the status page shows, as values: the four nodes as this one reaches them, what its last
//! pass saw of the files, and what follows for the next failure.
//!
//! What is not known is said to be unknown. No name of a file or a user is in it.

use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Residue;
use dfs_proto::placement::{NodeId, PerNode, home_chunks};
use serde::Serialize;

use crate::heal::census::Census;
use crate::hex;
use crate::peers::PeerError;
use crate::peers::report::PeerReport;
use crate::telemetry::recent::Noted;

/// Fewest nodes that must answer for anything certain.
const QUORUM: usize = 2;

/// What this node knows when it is asked.
pub(super) struct Facts {
    pub(super) cluster: String,
    pub(super) own: NodeId,
    pub(super) now_ms: u64,
    pub(super) addresses: PerNode<String>,
    pub(super) reports: PerNode<Result<PeerReport, PeerError>>,
    pub(super) last_seen_ms: PerNode<u64>,
    pub(super) census: Option<Census>,
    /// Whether this node makes passes over all files.
    pub(super) counts_files: bool,
    pub(super) recent: Vec<Noted>,
}

/// The whole page.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    pub(super) cluster: String,
    /// The node that answers, 1..4.
    pub(super) node: u8,
    /// Milliseconds since 1970, here and below.
    pub(super) now_ms: u64,
    pub(super) verdict: Verdict,
    pub(super) nodes: PerNode<NodeStatus>,
    /// `None`: unknown, for the reason in `files_unknown`.
    pub(super) files: Option<Files>,
    pub(super) files_unknown: Option<&'static str>,
    /// What a further failure would cost; empty where that is unknown.
    pub(super) losses: Vec<Loss>,
    /// The placement table: a row for each x, in it a cell for each node.
    pub(super) placement: [PerNode<Cell>; 4],
    pub(super) recent: Vec<Event>,
}

/// All of it in one line.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) title: String,
    pub(super) text: String,
}

/// How urgent something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Good,
    Warn,
    Bad,
}

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Serving,
    /// Serving, and files are still copied to its new disk.
    Restoring,
    Rejoining,
    Down,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeStatus {
    pub(super) position: u8,
    pub(super) address: String,
    pub(super) state: State,
    /// Why it is down, or what it waits for.
    pub(super) note: Option<String>,
    /// When it was last met by the node that answers; 0: not since that one's start.
    pub(super) last_seen_ms: u64,
    /// What it said of itself; `None` when it is down.
    pub(super) report: Option<Report>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) version: String,
    /// 32 hexadecimal digits.
    pub(super) incarnation: String,
    pub(super) boot: u64,
    pub(super) uptime_seconds: u64,
    pub(super) disk_total_bytes: u64,
    pub(super) disk_free_bytes: u64,
    pub(super) index_bytes: u64,
    /// How far its clock is ahead of the answering node's, in milliseconds.
    pub(super) clock_ahead_ms: i64,
    pub(super) pending_uploads: u64,
    pub(super) heals: bool,
    pub(super) backlog: u64,
    pub(super) bad_chunks: u64,
    /// 0: never.
    pub(super) last_scrub_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Files {
    pub(super) as_of_ms: u64,
    pub(super) total: u64,
    pub(super) complete: u64,
    pub(super) degraded: u64,
    pub(super) incomplete: u64,
    pub(super) unknown: u64,
    pub(super) bytes: u64,
    /// Nodes that were asked to the end.
    pub(super) took_part: PerNode<bool>,
}

/// What it would cost if these nodes failed as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    pub(super) nodes: Vec<u8>,
    /// Files that could not be read then.
    pub(super) unreadable: u64,
    /// Whether enough nodes would be left to read anything.
    pub(super) enough_nodes: bool,
}

/// Two chunks on a node.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cell {
    pub(super) chunks: [u8; 2],
    /// Files with this x, and those of which the node held both chunks; `None`: unknown.
    pub(super) held: Option<[u64; 2]>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    pub(super) at_ms: u64,
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) times: u64,
}

impl Loss {
    /// Whether nothing would be lost.
    pub(super) fn is_harmless(&self) -> bool {
        self.unreadable == 0 && self.enough_nodes
    }
}

impl Status {
    /// Draws the conclusions.
    pub(super) fn of(facts: Facts) -> Self {
        let nodes = NodeId::ALL.map(|id| node_status(&facts, id));
        let census = facts.census.filter(|census| {
            census.took_part.iter().filter(|took_part| **took_part).count() >= QUORUM
        });
        let files_unknown = match (&census, &facts.census) {
            (Some(_), _) => None,
            (None, Some(_)) => Some("fewer than two nodes answered when files were last counted"),
            (None, None) if facts.counts_files => {
                Some("this node has not looked at all files since its start")
            }
            (None, None) => Some("heal_every is off on this node, so it never looks at all files"),
        };
        let out: Vec<NodeId> = NodeId::ALL
            .into_iter()
            .filter(|id| matches!(nodes[id.index()].state, State::Down | State::Rejoining))
            .collect();
        let losses = census.as_ref().map(|census| losses(census, &out)).unwrap_or_default();
        let unreadable = census.as_ref().map(|census| census.unreadable_without(&out));
        Self {
            verdict: verdict(&nodes, &out, census.as_ref(), unreadable, &losses),
            nodes,
            files: census.as_ref().map(files),
            files_unknown,
            losses,
            placement: Residue::ALL.map(|x| NodeId::ALL.map(|id| cell(census.as_ref(), x, id))),
            recent: facts.recent.into_iter().map(event).collect(),
            cluster: facts.cluster,
            node: facts.own.get(),
            now_ms: facts.now_ms,
        }
    }
}

fn node_status(facts: &Facts, id: NodeId) -> NodeStatus {
    let (state, note, report) = match &facts.reports[id.index()] {
        Err(error) => (State::Down, Some(format!("not reached: {error}")), None),
        Ok(report) => {
            let note = (!report.rejoin.is_empty()).then(|| report.rejoin.clone());
            let state = match (report.identity.rejoining, &note) {
                (true, _) => State::Rejoining,
                (false, Some(_)) => State::Restoring,
                (false, None) => State::Serving,
            };
            (state, note, Some(self_portrait(report, facts.now_ms)))
        }
    };
    NodeStatus {
        position: id.get(),
        address: facts.addresses[id.index()].clone(),
        state,
        note,
        last_seen_ms: facts.last_seen_ms[id.index()],
        report,
    }
}

fn self_portrait(report: &PeerReport, now_ms: u64) -> Report {
    let signed = |ms| i64::try_from(ms).unwrap_or(i64::MAX);
    Report {
        version: report.version.clone(),
        incarnation: hex::encode(report.identity.incarnation.bytes()),
        boot: report.identity.boot.count,
        uptime_seconds: report.uptime_seconds,
        disk_total_bytes: report.disk_total_bytes,
        disk_free_bytes: report.disk_free_bytes,
        index_bytes: report.index_bytes,
        clock_ahead_ms: signed(report.clock_ms).saturating_sub(signed(now_ms)),
        pending_uploads: report.pending_uploads,
        heals: report.heals,
        backlog: report.backlog,
        bad_chunks: report.bad_chunks,
        last_scrub_ms: report.last_scrub_ms,
    }
}

fn files(census: &Census) -> Files {
    Files {
        as_of_ms: census.at_ms,
        total: census.files(),
        complete: census.complete,
        degraded: census.degraded,
        incomplete: census.incomplete,
        unknown: census.unknown,
        bytes: census.bytes,
        took_part: census.took_part,
    }
}

fn cell(census: Option<&Census>, x: Residue, id: NodeId) -> Cell {
    let mut chunks = home_chunks(x, id).iter().map(ChunkId::get);
    // As the table is published: 4,1 and not 1,4.
    let (low, high) = (chunks.next().unwrap_or(0), chunks.next().unwrap_or(0));
    let held = census.map(|census| {
        let turn = census.turn(x);
        [turn.files, turn.held[id.index()]]
    });
    Cell { chunks: if high - low == 1 { [low, high] } else { [high, low] }, held }
}

fn event(noted: Noted) -> Event {
    let level = if noted.is_error { Level::Bad } else { Level::Warn };
    Event { at_ms: noted.at_ms, level, text: noted.text, times: noted.times }
}

/// What each further failure would cost that the promises speak of: one node, or two opposite
/// ones.
fn losses(census: &Census, out: &[NodeId]) -> Vec<Loss> {
    let up = |id: &NodeId| !out.contains(id);
    let singles = NodeId::ALL.into_iter().filter(up).map(|id| vec![id]);
    let pairs = [NodeId::N1, NodeId::N2].into_iter().map(|id| vec![id, id.opposite()]);
    let pairs = pairs.filter(|pair| pair.iter().all(up));
    let cost = |nodes: Vec<NodeId>| {
        let lost: Vec<NodeId> = out.iter().chain(&nodes).copied().collect();
        Loss {
            unreadable: census.unreadable_without(&lost),
            enough_nodes: NodeId::ALL.len() - lost.len() >= QUORUM,
            nodes: nodes.into_iter().map(NodeId::get).collect(),
        }
    };
    singles.chain(pairs).map(cost).collect()
}

fn verdict(
    nodes: &PerNode<NodeStatus>,
    out: &[NodeId],
    census: Option<&Census>,
    unreadable: Option<u64>,
    losses: &[Loss],
) -> Verdict {
    let restoring = nodes.iter().any(|node| node.state == State::Restoring);
    let unwhole = census.map_or(0, |census| census.files() - census.complete);
    let (level, title) = match (out.len(), unreadable) {
        (3.., _) => (Level::Bad, "Too few nodes: nothing can be read or written.".to_owned()),
        (down, Some(files @ 1..)) => {
            let by = if down > 0 { " while nodes are down" } else { "" };
            (Level::Bad, format!("{} cannot be read{by}.", count(files, "file")))
        }
        (2, _) => (Level::Bad, "Two nodes are down: files can be read, not written.".to_owned()),
        (1, _) => (Level::Warn, "One node is down: everything works.".to_owned()),
        (_, None) => (Level::Warn, "All four nodes are up; the files are unknown.".to_owned()),
        (_, Some(_)) if restoring => {
            (Level::Warn, "All four nodes are up; a new disk is being filled.".to_owned())
        }
        (_, Some(_)) if unwhole > 0 => {
            (Level::Warn, format!("All four nodes are up; {} degraded.", are(unwhole)))
        }
        (_, Some(_)) => (Level::Good, "All four nodes are up and every file is whole.".to_owned()),
    };
    let harmless: Vec<&Loss> = losses.iter().filter(|loss| loss.is_harmless()).collect();
    let singles = harmless.iter().take_while(|loss| loss.nodes.len() == 1).count();
    let any = (singles == NodeId::ALL.len()).then(|| "any one node".to_owned());
    let named = harmless.iter().skip(if any.is_some() { singles } else { 0 });
    let harmless: Vec<String> =
        any.into_iter().chain(named.map(|loss| names(&loss.nodes))).collect();
    let text = match (census, &harmless[..]) {
        (None, _) => "What may fail next without loss is unknown.".to_owned(),
        (Some(_), []) => "No further node may fail.".to_owned(),
        (Some(_), all) => format!("What may fail next without loss: {}.", all.join("; or ")),
    };
    Verdict { level, title, text }
}

/// `node 1`, or `nodes 1 and 3`.
pub(super) fn names(nodes: &[u8]) -> String {
    match nodes {
        [one] => format!("node {one}"),
        [one, two] => format!("nodes {one} and {two}"),
        more => format!("nodes {more:?}"),
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn are(files: u64) -> String {
    format!("{} {}", count(files, "file"), if files == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests;
