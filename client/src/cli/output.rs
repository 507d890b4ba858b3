//! Results as text for people and as JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::EXPIRES;
use dfs_proto::placement::{NodeId, PerNode};
use serde_json::{Value, json};

use super::args::ListArgs;
use super::picture::{self, human, role};
use super::style::{Role, Style};
use super::talk::tell;
use crate::{
    Condition, CopyFault, Health, Listed, RepairMode, RepairReport, RepairState, RepairSummary,
    RepairedPath, Verified, VerifyReport, readable_without,
};

/// Whether the line of `list` is the path and nothing else.
pub(super) fn is_plain(file: &Listed, args: &ListArgs) -> bool {
    !args.long && matches!(file.health, Health::Complete | Health::Degraded)
}

/// One line of `list`.
pub(super) fn list_line(file: &Listed, args: &ListArgs, style: &Style) -> String {
    let mark = match file.health {
        Health::Complete | Health::Degraded => String::new(),
        Health::Incomplete | Health::Unknown => {
            format!(" {}", style.paint(role(file.health), "[incomplete]"))
        }
    };
    if !args.long {
        return format!("{}{mark}", file.path);
    }
    let modified = file.file.manifest.as_ref().map_or("-", |manifest| manifest.modified());
    let flag = if file.unconfirmed { ", unconfirmed" } else { "" };
    let state = format!("{}{flag}", file.health.word());
    let size = if args.human { human(file.file.size) } else { file.file.size.to_string() };
    format!(
        "{size:>14}  {:<20}  {:<10}  {}  {}{mark}",
        short_time(modified),
        style.paint(role(file.health), &state),
        picture::nodes(file, style),
        file.path
    )
}

/// One line of `list --folders` for a folder.
pub(super) fn folder_line(path: &str, args: &ListArgs, style: &Style) -> String {
    let path = style.paint(Role::Heading, path);
    if !args.long {
        return path.to_string();
    }
    format!("{:>14}  {:<20}  {:<10}  {:<4}  {path}", "-", "-", "folder", "")
}

/// A time to the second.
fn short_time(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// A file as JSON: the same object for `list` and `stat`.
pub(super) fn file_json(file: &Listed) -> Value {
    let manifest = file.file.manifest.as_ref();
    let nodes = file
        .nodes
        .map(|have| have.map(|have| have.iter().map(|chunk| chunk.get()).collect::<Vec<u8>>()));
    json!({
        "path": file.path.as_str(),
        "size": file.file.size,
        "md5": manifest.map(|manifest| manifest.md5().to_string()),
        "modified": manifest.map(|manifest| manifest.modified()),
        "expires": manifest.and_then(|manifest| manifest.metadata().get(EXPIRES)),
        "state": file.health.word(),
        "unconfirmed": file.unconfirmed,
        "x": file.file.x.get(),
        "nodes": nodes,
    })
}

/// The answer to `stat`.
pub(super) fn stat_text(file: &Listed, style: &Style) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<10} {value}").expect("a string takes all text");
    };
    line("path", file.path.as_str());
    let size = file.file.size;
    let about = if size < 1024 { String::new() } else { format!(" ({})", human(size)) };
    line("size", &format!("{size}{about}"));
    if let Some(manifest) = &file.file.manifest {
        line("md5", &manifest.md5().to_string());
        line("modified", manifest.modified());
        for (key, value) in manifest.metadata() {
            if key == EXPIRES {
                line("expires", value);
                continue;
            }
            line("note", &format!("{key}: {}", value.escape_debug()));
        }
    }
    line("x", &file.file.x.get().to_string());
    line("version", &file.tag.to_string());
    let flag = if file.unconfirmed { ", not shown to be on three nodes" } else { "" };
    let state = format!("{}{flag}", file.health.word());
    line("state", &style.paint(role(file.health), &state).to_string());
    text.push_str(&picture::table(file, style));
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<10} {value}").expect("a string takes all text");
    };
    line("survives", &survives(&file.nodes));
    text
}

/// Which further losses leave the file readable.
fn survives(have: &PerNode<Option<ChunkSet>>) -> String {
    if !readable_without(have, &[]) {
        return "nothing: it cannot be read now".to_owned();
    }
    let up = || NodeId::ALL.into_iter().filter(|id| have[id.index()].is_some());
    let single = up().filter(|id| readable_without(have, &[*id])).map(|id| id.to_string());
    let single: Vec<String> = single.collect();
    let pairs: Vec<String> = up()
        .flat_map(|a| up().filter(move |b| a < *b).map(move |b| (a, b)))
        .filter(|(a, b)| readable_without(have, &[*a, *b]))
        .map(|(a, b)| format!("{a}+{b}"))
        .collect();
    match (single.is_empty(), pairs.is_empty()) {
        (true, _) => "no further loss".to_owned(),
        (false, true) => format!("the loss of node {}", single.join(" or ")),
        (false, false) => {
            format!("the loss of node {}, or of nodes {}", single.join(" or "), pairs.join(" or "))
        }
    }
}

/// One line of `verify` about a file that is not in order.
pub(super) fn verified_line(file: &Verified) -> String {
    let mut faults: Vec<String> =
        file.faults.iter().map(|fault| format!("chunk {}: {}", fault.chunk, fault.why)).collect();
    faults.extend(file.wrong_md5.map(|md5| format!("its content has the MD5 {md5}")));
    format!("{}: {}: {}", file.path, file.condition.word(), faults.join("; "))
}

/// A file that is not in order as JSON.
pub(super) fn verified_json(file: &Verified) -> Value {
    let copy = |fault: &CopyFault| {
        json!({
            "node": fault.node.get(),
            "chunk": fault.chunk.get(),
            "fault": fault.fault.word(),
            "cause": fault.why,
        })
    };
    json!({
        "path": file.path.as_str(),
        "size": file.size,
        "state": file.condition.word(),
        "copies": file.faults.iter().map(copy).collect::<Vec<Value>>(),
        "wrong_md5": file.wrong_md5.map(|md5| md5.to_string()),
    })
}

/// The summary of `verify`.
pub(super) fn verify_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<10} {value}").expect("a string takes all text");
    };
    line("files", report.files.to_string());
    line("bytes", report.bytes.to_string());
    for condition in Condition::ALL {
        let count = report.count(condition);
        if count > 0 || condition == Condition::Ok {
            line(condition.word(), count.to_string());
        }
    }
    for id in NodeId::ALL {
        let damaged = report.damaged_copies[id.index()];
        if damaged > 0 {
            line(&format!("node {id}"), format!("{damaged} damaged chunks"));
        }
        if report.unreachable[id.index()] {
            line(&format!("node {id}"), "cannot be reached".to_owned());
        }
    }
    text
}

/// The members of the summary of `verify` as JSON, and the end of the object.
pub(super) fn verify_json_end(report: &VerifyReport) -> String {
    let mut members = serde_json::Map::new();
    members.insert("files".into(), report.files.into());
    members.insert("bytes".into(), report.bytes.into());
    for condition in Condition::ALL {
        members.insert(condition.word().into(), report.count(condition).into());
    }
    let unreachable = NodeId::ALL.into_iter().filter(|id| report.unreachable[id.index()]);
    let unreachable: Vec<u8> = unreachable.map(NodeId::get).collect();
    members.insert("damaged_copies".into(), json!(report.damaged_copies));
    members.insert("unreachable".into(), json!(unreachable));
    members.insert("per_node".into(), json!(report.per_node));
    Value::Object(members).to_string().split_off(1)
}

/// One line of `repair` about a path that was not healthy.
pub(super) fn repaired_line(path: &RepairedPath, mode: RepairMode) -> String {
    let mut done = Vec::new();
    let mut each = |sets: &PerNode<ChunkSet>, what: &str| {
        for id in NodeId::ALL {
            let chunks = sets[id.index()];
            if !chunks.is_empty() {
                done.push(format!("node {id} {what} {chunks}"));
            }
        }
    };
    each(&path.bad, "had bad chunks");
    each(&path.copied, "got chunks");
    each(&path.released, "gave up chunks");
    let nodes =
        |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<String>>().join(" and ");
    if !path.written_back.is_empty() {
        done.insert(0, format!("node {} got the version", nodes(&path.written_back)));
    }
    if !path.missing.is_empty() {
        done.push(format!("chunk {} is on no node", path.missing));
    }
    if !path.failed.is_empty() {
        done.push(format!("node {} failed or did not answer", nodes(&path.failed)));
    }
    let would = if mode == RepairMode::DryRun { "would be " } else { "" };
    let state = match path.state {
        RepairState::Repaired => format!("{would}repaired"),
        state => state.word().to_owned(),
    };
    let user = path.user.as_ref().map_or(String::new(), |user| format!("{user}: "));
    format!("{user}{}: {state}: {}", path.path, done.join("; "))
}

/// A path that was not healthy as JSON.
pub(super) fn repaired_json(path: &RepairedPath) -> Value {
    let sets = |sets: &PerNode<ChunkSet>| sets.iter().map(|set| numbers(*set)).collect::<Value>();
    let nodes = |ids: &[NodeId]| ids.iter().map(|id| id.get()).collect::<Vec<u8>>();
    json!({
        "user": path.user.as_ref().map(|user| user.as_str()),
        "path": path.path.as_str(),
        "state": path.state.word(),
        "missing": numbers(path.missing),
        "copied": sets(&path.copied),
        "bad": sets(&path.bad),
        "released": sets(&path.released),
        "written_back": nodes(&path.written_back),
        "failed": nodes(&path.failed),
    })
}

fn numbers(chunks: ChunkSet) -> Value {
    chunks.iter().map(|chunk| chunk.get()).collect::<Vec<u8>>().into()
}

/// The counts of `repair`, those that are not zero.
fn repair_counts(summary: &RepairSummary) -> [(&'static str, u64); 6] {
    [
        ("healthy", summary.healthy),
        ("repaired", summary.repaired),
        ("unfinished", summary.unfinished),
        ("unreachable", summary.unreachable),
        ("lost", summary.lost),
        ("dead", summary.dead),
    ]
}

/// The summary of `repair`.
pub(super) fn repair_text(report: &RepairReport, mode: RepairMode) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12} {value}").expect("a string takes all text");
    };
    line("looked at", report.summary.looked_at.to_string());
    for (word, count) in repair_counts(&report.summary) {
        if count > 0 || word == "healthy" {
            let would = mode == RepairMode::DryRun && word == "repaired";
            line(if would { "would repair" } else { word }, count.to_string());
        }
    }
    let copied = if mode == RepairMode::DryRun { "would copy" } else { "copied" };
    line(copied, format!("{} bytes", report.summary.copied_bytes));
    for (id, why) in &report.problems {
        line(&format!("node {id}"), format!("could not be asked: {why}"));
    }
    text
}

/// The members of the summary of `repair` as JSON, and the end of the object.
pub(super) fn repair_json_end(report: &RepairReport) -> String {
    let mut members = serde_json::Map::new();
    members.insert("looked_at".into(), report.summary.looked_at.into());
    for (word, count) in repair_counts(&report.summary) {
        members.insert(word.into(), count.into());
    }
    members.insert("copied_bytes".into(), report.summary.copied_bytes.into());
    let problem = |(id, why): &(NodeId, String)| json!({"node": id.get(), "cause": why});
    let problems: Vec<Value> = report.problems.iter().map(problem).collect();
    members.insert("problems".into(), problems.into());
    Value::Object(members).to_string().split_off(1)
}

/// The line of `--stats`.
pub(super) fn stats(bytes: u64, per_node: PerNode<u64>, rounds: u32, elapsed: Duration) {
    let line = json!({
        "bytes": bytes,
        "per_node": per_node,
        "rounds": rounds,
        "seconds": elapsed.as_secs_f64(),
    });
    tell(&line.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::digest::{Crc32c, Md5Digest};
    use dfs_proto::manifest::{Manifest, UploadId};
    use dfs_proto::name::FilePath;
    use dfs_proto::placement::home_chunks;
    use dfs_proto::protocol::listing::FileEntry;
    use dfs_proto::tag::{Hlc, Tag};

    fn file(health: Health, up: [bool; 4]) -> Listed {
        let md5 = Md5Digest::of(b"abc");
        let crcs = [Crc32c::new(1); 4];
        let manifest = Manifest::new(md5, 1234, crcs, "2026-11-22T10:00:00.5Z", Default::default());
        let x = md5.residue();
        Listed {
            path: FilePath::new("notes/a b.txt").unwrap(),
            tag: Tag { hlc: Hlc::new(1), writer: [0; 16] },
            file: FileEntry {
                upload: UploadId::new([0; 16]),
                size: 1234,
                x,
                have: ChunkSet::EMPTY,
                manifest: Some(Box::new(manifest.unwrap())),
            },
            nodes: NodeId::ALL.map(|id| up[id.index()].then(|| home_chunks(x, id))),
            health,
            unconfirmed: false,
        }
    }

    #[test]
    fn a_listing_marks_what_cannot_be_read() {
        let args =
            |long, human| ListArgs { long, human, folders: false, null: false, prefix: None };
        let list_line =
            |file: &Listed, long| list_line(file, &args(long, false), &Style::default());
        let complete = file(Health::Complete, [true; 4]);
        assert_eq!(list_line(&complete, false), "notes/a b.txt");
        let incomplete = file(Health::Incomplete, [false, false, true, true]);
        assert_eq!(list_line(&incomplete, false), "notes/a b.txt [incomplete]");
        let unknown = file(Health::Unknown, [true, false, false, false]);
        assert_eq!(list_line(&unknown, false), "notes/a b.txt [incomplete]");
        assert_eq!(
            list_line(&complete, true),
            "          1234  2026-11-22T10:00:00Z  complete    1234  notes/a b.txt"
        );
        let sized = super::list_line(&complete, &args(true, true), &Style::default());
        assert!(sized.starts_with("       1.2 KiB  "), "{sized}");
        let folder = folder_line("notes/", &args(true, false), &Style::default());
        assert_eq!(folder.find("notes/"), sized.find("notes/"), "one below the other");
    }

    #[test]
    fn json_has_null_for_a_node_that_did_not_answer() {
        let json = file_json(&file(Health::Degraded, [true, false, true, true]));
        assert_eq!(
            json.to_string(),
            r#"{"expires":null,"md5":"900150983cd24fb0d6963f7d28e17f72","modified":"2026-11-22T10:00:00.5Z","nodes":[[3,4],null,[1,2],[2,3]],"path":"notes/a b.txt","size":1234,"state":"degraded","unconfirmed":false,"x":2}"#
        );
    }

    #[test]
    fn says_what_a_file_survives() {
        let survives = |up| survives(&file(Health::Degraded, up).nodes);
        let all = "the loss of node 1 or 2 or 3 or 4, or of nodes 1+3 or 2+4";
        assert_eq!(survives([true; 4]), all);
        assert_eq!(survives([true, false, true, true]), "the loss of node 4");
        assert_eq!(survives([true, false, true, false]), "no further loss");
        assert_eq!(survives([true, true, false, false]), "nothing: it cannot be read now");
    }
}
