//! Files that were put with an end to their lives.

use std::time::{Duration, Instant};

use dfs_proto::wire::pb;
use harness::cluster::{NODES, USER, set_key};
use harness::content::{files, noise};
use harness::{Cluster, wait};
use serde_json::Value;

use crate::cluster;

/// Its chunks are files of their own.
const LARGE: usize = 400_000;

const GOES_WITHIN: Duration = Duration::from_secs(60);

fn look_after_files(cluster: &Cluster, every: &str) {
    for node in NODES {
        set_key(&cluster.node_config(node), "heal_every", every);
        set_key(&cluster.node_config(node), "prune_grace", "0s");
    }
}

/// A cluster whose nodes look after their files all the time.
fn healing_cluster() -> Cluster {
    let cluster = Cluster::written(crate::PROGRAMS);
    look_after_files(&cluster, "500ms");
    cluster.started()
}

fn put(cluster: &Cluster, name: &str, seed: u64, more: &[&str]) {
    cluster.file(name, noise(seed, LARGE));
    cluster.dfsctl().args(["put", name]).args(more).run().ok();
}

/// When each node last had looked at all files, milliseconds since 1970.
async fn last_passes(cluster: &Cluster) -> Vec<u64> {
    let mut passes = Vec::new();
    for node in NODES {
        let mut api = cluster.api(node).await;
        let info = api.client.get_node_info(pb::GetNodeInfoRequest {}).await.expect("an answer");
        let healing = info.into_inner().healing.expect("it tells of its healing");
        passes.push(healing.last_pass_ms);
    }
    passes
}

/// Waits until all nodes have looked at all files twice.
async fn let_them_look(cluster: &Cluster) {
    for _ in 0..2 {
        let before = last_passes(cluster).await;
        let deadline = Instant::now() + GOES_WITHIN;
        while last_passes(cluster).await.iter().zip(&before).any(|(now, before)| now <= before) {
            assert!(Instant::now() < deadline, "the nodes do not look after their files");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_when_its_time_is_over_with_all_its_data() {
    let cluster = healing_cluster();
    put(&cluster, "short", 1, &["--expire", "4s"]);
    put(&cluster, "long", 2, &["--expire", "1h"]);
    put(&cluster, "stays", 3, &[]);
    assert_eq!(cluster.list(), ["long", "short", "stays"], "it is there until then");
    wait::until_true("the file goes", GOES_WITHIN, || cluster.list() == ["long", "stays"]);
    cluster.ctl(["get", "short", "-"]).exits(3);
    cluster.ctl(["repair"]).ok();
    wait::until_true("its data goes", GOES_WITHIN, || {
        let held = |node: &usize| files(&cluster.data_dir(*node).join("chunks").join(USER)).len();
        NODES.iter().all(|node| held(node) == 4)
    });
    let_them_look(&cluster).await;
    assert_eq!(cluster.list(), ["long", "stays"]);
    assert_eq!(cluster.ctl(["get", "long", "-"]).ok().stdout, noise(2, LARGE));
    let stat = cluster.ctl(["--output", "json", "stat", "long"]).ok().json();
    assert!(stat["expires"].is_string(), "{stat}");
    assert_eq!(
        cluster.ctl(["--output", "json", "stat", "stays"]).ok().json()["expires"],
        Value::Null
    );
    cluster.ctl(["stat", "long"]).ok().prints("expires");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_since_stays() {
    let mut cluster = Cluster::written(crate::PROGRAMS);
    look_after_files(&cluster, "off");
    cluster.run_only(&NODES);
    put(&cluster, "again", 1, &["--expire", "1s"]);
    put(&cluster, "behind", 1, &["--expire", "1s"]);
    put(&cluster, "goes", 1, &["--expire", "1s"]);
    // Node 3 knows only the version that is over.
    cluster.run_without(&[3]);
    put(&cluster, "behind", 2, &[]);
    cluster.run_without(&[]);
    put(&cluster, "again", 2, &[]);
    cluster.run_only(&[]);
    look_after_files(&cluster, "500ms");
    cluster.run_only(&NODES);
    wait::until_true("one goes", GOES_WITHIN, || cluster.list() == ["again", "behind"]);
    let_them_look(&cluster).await;
    assert_eq!(cluster.list(), ["again", "behind"]);
    for name in cluster.list() {
        assert_eq!(cluster.ctl(["get", "--verify", &name, "-"]).ok().stdout, noise(2, LARGE));
    }
}

#[test]
fn two_nodes_alone_let_nothing_go() {
    let mut cluster = healing_cluster();
    put(&cluster, "file", 1, &["--expire", "4s"]);
    cluster.run_only(&[1, 3]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(cluster.list(), ["file"]);
    assert_eq!(cluster.ctl(["get", "file", "-"]).ok().stdout, noise(1, LARGE));
    cluster.run_only(&[1, 2, 3]);
    wait::until_true("the file goes", GOES_WITHIN, || cluster.list().is_empty());
}

#[test]
fn an_end_that_means_nothing_is_refused() {
    let cluster = cluster();
    cluster.file("file", "content");
    for end in ["soon", "1mo", "2026-12-31"] {
        cluster.ctl(["put", "--expire", end, "file"]).exits(2).says("12h, 7d or 2w");
    }
    cluster.ctl(["put", "--expire", "-1h", "file"]).exits(2).says("not in the future");
    let again = cluster.ctl(["put", "--resume", "--expire", "7d", "file"]).exits(2);
    again.says("2026-12-31T00:00:00Z");
    assert!(cluster.list().is_empty());
    cluster.ctl(["put", "--resume", "--expire", "2100-01-01T00:00:00Z", "file"]).ok();
    cluster.ctl(["stat", "file"]).ok().prints("2100-01-01T00:00:00Z");
}
