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

/// All four nodes end at the same call of a put and of a remove, and lose power with it.
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
    // A few of the points, unless more were asked for.
    let points = rounds(5);
    for step in 1..=points {
        let at = if points < 10 { step * step } else { step };
        for node in NODES {
            cluster.kill(node);
            let calls = "sync,write,rename,create,unlink,truncate";
            let fault = Fault { calls, path: "/mounted/", at, does: "exit" };
            cluster.set_env(node, &faults.env(fault));
        }
        cluster.run_only(&NODES);
        let length = LENGTHS[usize::try_from(at % 3).expect("an index")];
        let content = noise(at, length);
        faults.turn(true);
        let put = cluster.dfsctl().args(["put", "-", "file"]).stdin(content.clone()).run();
        let removed = cluster.ctl(["rm", "removed"]);
        mount.cut_power();
        faults.turn(false);
        cluster.run_only(&[]);
        mount.remount();
        NODES.iter().for_each(|node| cluster.set_env(*node, &[]));
        cluster.run_only(&NODES);
        let kept = Some(noise(0, LENGTHS[1]));
        assert_follows(&put, None, Some(content), read(&cluster, "file"));
        assert_follows(&removed, kept.clone(), None, read(&cluster, "removed"));
        assert!(read(&cluster, "kept") == kept, "call {at}");
        let removed = cluster.dfsctl().args(["rm", "file"]).run();
        assert!(matches!(removed.code, Some(0 | 3)), "{removed}");
        cluster.put("removed", noise(0, LENGTHS[1]));
    }
    drop(cluster);
    drop(mount);
}
