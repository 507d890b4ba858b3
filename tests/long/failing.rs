//! Disks that fail, and processes that end at any of their calls.

use std::time::Duration;

use harness::cluster::{NODES, STOP_LIMIT};
use harness::content::noise;
use harness::faults::{Fault, Faults};
use harness::mount::Mount;
use harness::skip::skipped;
use harness::{Output, wait};
use serde_json::json;

use crate::{Told, cluster, read, rounds, told};

/// In the index, in a file, and a file of several blocks.
const LENGTHS: [usize; 3] = [1000, 400_000, 6_000_000];

/// Crash points of a usual run, some four of each kind.
const USUAL_POINTS: u64 = 20;

/// Compiles the faults, or says why the test does not run.
fn faults(test: &str) -> Option<Faults> {
    Faults::compile().map_err(|why| skipped(test, &why)).ok()
}

#[test]
fn a_node_whose_sync_fails_stops_and_loses_nothing() {
    let Some(faults) = faults("failing sync") else { return };
    let mut cluster = cluster().started();
    for at in 1..=4 {
        cluster.kill(2);
        let fault = Fault { calls: "sync", path: "/dfs2/", at, does: "EIO" };
        cluster.set_env(2, &faults.env(fault));
        cluster.start_node(2);
        faults.turn(true);
        // Three nodes are enough.
        for length in LENGTHS {
            cluster.put(&format!("{at}/{length}"), noise(at, length));
        }
        let status = wait::until("its end", STOP_LIMIT, || cluster.ended(2));
        assert_eq!(status.code(), Some(1), "sync {at}");
        let log = cluster.log(2);
        assert!(log.contains("the disk failed") && log.contains("Input/output error"), "{log}");
        faults.turn(false);
        cluster.set_env(2, &[]);
        cluster.kill(2);
        cluster.start_node(2);
    }
    for lost in [&[][..], &[1, 3], &[2, 4]] {
        cluster.run_without(lost);
        for at in 1..=4 {
            for length in LENGTHS {
                assert!(cluster.get(&format!("{at}/{length}")) == noise(at, length), "{lost:?}");
            }
        }
    }
}

/// Node 4 is away: whatever is acknowledged rests on node 2, and with nodes 1 and 3 away nobody else has
/// it.
#[test]
fn a_node_whose_index_cannot_be_written_acknowledges_nothing_more() {
    let Some(faults) = faults("failing writes of the index") else { return };
    let mut cluster = cluster();
    let mut acknowledged = Vec::new();
    let errors = [("EIO", "Input/output error"), ("ENOSPC", "No space left on device")];
    // Writes of the journal and of the mark.
    for (at, (does, says)) in [1, 2, 7, 40, 41].into_iter().flat_map(|at| errors.map(|e| (at, e))) {
        let fault = Fault { calls: "write", path: "/dfs2/index", at, does };
        cluster.set_env(2, &faults.env(fault));
        let before = cluster.log(2).len();
        cluster.run_without(&[4]);
        faults.turn(true);
        let failed = (0..30).zip(LENGTHS.into_iter().cycle()).find(|(number, length)| {
            let (name, content) = (format!("{does}/{at}/{number}"), noise(at + number, *length));
            let put = cluster.dfsctl().args(["put", "-", &name]).stdin(content.clone()).run();
            let done = told(&put) == Told::Done;
            acknowledged.extend(done.then_some((name, content)));
            !done
        });
        assert!(failed.is_some(), "{does} {at}: all is acknowledged by a node that cannot write");
        let status = wait::until("its end", STOP_LIMIT, || cluster.ended(2));
        assert_eq!(status.code(), Some(1), "{does} {at}");
        let log = cluster.log(2).split_off(before);
        assert!(log.contains("the disk failed") && log.contains(says), "{does} {at}: {log}");
        faults.turn(false);
        cluster.set_env(2, &[]);
        cluster.kill(2);
        cluster.run_only(&[2, 4]);
        for (name, content) in &acknowledged {
            assert!(cluster.get(name) == *content, "{does} {at}: {name}");
        }
        cluster.run_only(&[]);
    }
    assert!(!acknowledged.is_empty(), "some calls come late enough");
}

#[test]
fn a_chunk_that_cannot_be_read_is_taken_from_another_node() {
    let Some(faults) = faults("failing read") else { return };
    let mut cluster = cluster();
    let fault = Fault { calls: "read", path: "/dfs2/chunks/", at: 0, does: "EIO" };
    cluster.set_env(2, &faults.env(fault));
    let mut cluster = cluster.started();
    let content = noise(1, 6_000_000);
    cluster.put("file", &content);
    faults.turn(true);
    for _ in 0..3 {
        assert!(cluster.get("file") == content);
    }
    cluster.dfsctl().args(["get", "--pair", "2,4", "file", "half"]).run();
    wait::until_true("the node knows", Duration::from_secs(10), || {
        let stat = cluster.ctl(["--output", "json", "stat", "file"]).ok().json();
        stat["state"] == json!("degraded") && stat["nodes"][1] == json!([])
    });
    assert!(cluster.get("file") == content);
    assert_eq!(cluster.ended(2), None, "a bad chunk stops no node");
    cluster.put("another", &content);
    faults.turn(false);
    assert!(cluster.get("another") == content);
}

/// What is there is what the answer said, of the content before and the one after.
#[track_caller]
fn assert_follows(
    answer: &Output,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    now: Option<Vec<u8>>,
) {
    let right = match told(answer) {
        Told::Done => now == after,
        Told::Nothing => now == before,
        Told::Unknown => now == before || now == after,
    };
    assert!(right, "{:?} bytes are there after {answer}", now.map(|bytes| bytes.len()));
}

/// Where the nodes end in a round: at this call of this kind, each of them, or each at another one.
struct Point {
    calls: &'static str,
    at: u64,
    apart: bool,
    /// Of the file that is put.
    length: usize,
}

impl Point {
    /// What makes data durable, each kind alone, and all of it.
    const KINDS: [&str; 5] =
        ["sync", "write", "rename", "create", "sync,write,rename,create,unlink,truncate"];

    /// One kind after the other; the first calls first, and larger and larger steps then.
    fn of(round: u64) -> Self {
        let kinds = u64::try_from(Self::KINDS.len()).expect("a few");
        let (kind, turn) = (round % kinds, round / kinds);
        let index = |number: u64| usize::try_from(number).expect("an index");
        let calls = Self::KINDS[index(kind)];
        let later = 1 + turn * (turn + 1) / 2;
        let (at, lengths) = match calls {
            // A put makes and renames two files on each node, and none where the index has it all.
            "rename" | "create" => (1 + turn / 2 % 2, [1, 2, 1, 2]),
            // What is in the index alone is soon committed.
            "sync" => (later, [1, 0, 1, 2]),
            _ => (later, [1, 2, 0, 0]),
        };
        Self { calls, at, apart: turn % 2 == 1, length: LENGTHS[lengths[index(turn % 4)]] }
    }

    /// The call of a node.
    fn at(&self, node: usize) -> u64 {
        self.at + if self.apart { u64::try_from(node - 1).expect("1..4") } else { 0 }
    }
}

/// All four nodes end at a call of a put and of a remove, and lose power with it.
#[test]
fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    let Some(faults) = faults("crash points") else { return };
    let mount = match Mount::image("ext4", 2 << 30) {
        Ok(mount) => mount,
        Err(why) => return skipped("crash points", &why),
    };
    let mut cluster = cluster();
    mount.take(&cluster, &NODES);
    cluster.run_only(&NODES);
    cluster.put("kept", noise(0, LENGTHS[1]));
    cluster.put("removed", noise(0, LENGTHS[1]));
    for round in 0..rounds(USUAL_POINTS) {
        let point = Point::of(round);
        for node in NODES {
            cluster.kill(node);
            let (calls, at) = (point.calls, point.at(node));
            // By the name that the node knows, and by the one on the disk that it leads to.
            let path = format!("/dfs{node}/");
            let fault = Fault { calls, path: &path, at, does: "exit" };
            cluster.set_env(node, &faults.env(fault));
        }
        cluster.run_only(&NODES);
        let content = noise(round, point.length);
        faults.turn(true);
        let put = cluster.dfsctl().args(["put", "-", "file"]).stdin(content.clone()).run();
        let removed = cluster.ctl(["rm", "removed"]);
        println!("{}, call {}, length {}: put {:?}", point.calls, point.at, point.length, put.code);
        if point.at == 1 {
            wait::until_true(&format!("an end at {}", point.calls), STOP_LIMIT, || {
                NODES.into_iter().any(|node| cluster.ended(node).is_some())
            });
        }
        mount.cut_power();
        faults.turn(false);
        cluster.run_only(&[]);
        mount.remount();
        NODES.iter().for_each(|node| cluster.set_env(*node, &[]));
        cluster.run_only(&NODES);
        let kept = Some(noise(0, LENGTHS[1]));
        assert_follows(&put, None, Some(content), read(&cluster, "file"));
        assert_follows(&removed, kept.clone(), None, read(&cluster, "removed"));
        assert!(read(&cluster, "kept") == kept, "{} {}", point.calls, point.at);
        let removed = cluster.dfsctl().args(["rm", "file"]).run();
        assert!(matches!(removed.code, Some(0 | 3)), "{removed}");
        cluster.put("removed", noise(0, LENGTHS[1]));
    }
    drop(cluster);
    drop(mount);
}
