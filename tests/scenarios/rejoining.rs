//! A node whose disk is gone comes back with a new one.

use std::fs;
use std::time::Duration;

use harness::cluster::{NODES, USER, set_key};
use harness::content::{files, noise};
use harness::{Cluster, wait};
use serde_json::{Value, json};

/// Its chunks are files of their own.
const LARGE: usize = 400_000;
/// Its chunks are inside the index.
const SMALL: usize = 500;

/// Longer than a node waits before it reads the others out, and does so.
const REJOINS_WITHIN: Duration = Duration::from_secs(110);

fn written() -> Cluster {
    let cluster = Cluster::written(crate::PROGRAMS);
    for node in NODES {
        set_key(&cluster.node_config(node), "heal_every", "500ms");
        set_key(&cluster.node_config(node), "prune_grace", "0s");
    }
    cluster
}

fn status(cluster: &Cluster, node: usize) -> Value {
    let status = cluster.ctl(["--output", "json", "status"]).ok().json();
    status[node - 1].clone()
}

fn config(cluster: &Cluster, node: usize) -> String {
    cluster.node_config(node).to_str().expect("a plain path").to_owned()
}

fn chunk_files(cluster: &Cluster, node: usize) -> usize {
    files(&cluster.data_dir(node).join("chunks").join(USER)).len()
}

fn wait_until_whole(cluster: &Cluster, node: usize) {
    wait::until_true("the node serves", REJOINS_WITHIN, || {
        status(cluster, node)["status"] == "serving"
    });
    wait::until_true("every file is whole", REJOINS_WITHIN, || {
        let list = cluster.ctl(["--output", "json", "list"]).ok().json();
        let whole = |file: &Value| file["state"] == "complete";
        list.as_array().is_some_and(|files| files.iter().all(whole))
            && status(cluster, node)["rejoin"] == ""
    });
}

/// Whoever asks a node whether it serves is told that it does not.
fn says_that_it_does_not_serve(cluster: &Cluster, node: usize) {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let ready = harness::admin::get(cluster.admin_address(node), "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "not ready: it is rejoining\n"));
    let metrics = harness::admin::get(cluster.admin_address(node), "/metrics").body;
    assert!(metrics.contains("\ndfs_rejoining 1\n"), "{metrics}");
    assert!(metrics.contains("\ndfs_ready 0\n"), "{metrics}");
    harness::api::block_on(async {
        let mut health = HealthClient::new(harness::api::connect(cluster.address(node)).await);
        for service in ["", "dfs.v1.DfsService", "dfs.v1.PeerService"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.expect("an answer").into_inner();
            assert_eq!(answer.status(), ServingStatus::NotServing, "{service:?}");
        }
    });
}

#[test]
fn a_node_with_an_empty_disk_counts_only_when_it_knows_what_the_others_know() {
    let mut cluster = written().started();
    cluster.put("before/large", noise(1, LARGE));
    cluster.put("before/small", noise(2, SMALL));
    cluster.put("removed", noise(3, LARGE));
    wait::until_true("the nodes know each other", Duration::from_secs(10), || {
        NODES.iter().all(|node| cluster.log(*node).matches(" met ").count() == 3)
    });
    cluster.kill(2);
    fs::remove_dir_all(cluster.data_dir(2)).expect("its data");
    cluster.put("meanwhile", noise(4, LARGE));

    let config = config(&cluster, 2);
    let (refused, text) = cluster.dfsd(["serve", "--config", &config]);
    assert_eq!((refused.code(), text.contains("init")), (Some(2), true), "{text}");
    let (refused, text) = cluster.dfsd(["init", "--config", &config]);
    assert_eq!((refused.code(), text.contains("dfsd rejoin")), (Some(2), true), "{text}");
    assert!(!cluster.data_dir(2).join("identity").exists(), "init has made nothing");
    let (refused, text) = cluster.dfsd(["rejoin", "--config", &config, "--without", "2"]);
    assert_eq!(refused.code(), Some(2), "{text}");

    let (made, text) = cluster.dfsd(["rejoin", "--config", &config]);
    assert!(made.success(), "{text}");
    cluster.start_node(2);
    assert_eq!(status(&cluster, 2)["status"], "rejoining");
    says_that_it_does_not_serve(&cluster, 2);
    // It is the one node that may be away: everything works, nothing rests on it.
    let put = cluster.file("during", noise(5, LARGE));
    let put = put.to_str().expect("a plain path");
    let stats = cluster.ctl(["put", "--stats", put, "during"]).ok().stats();
    assert_eq!(stats.per_node[3], LARGE as u64, "its opposite takes its chunks");
    cluster.ctl(["rm", "removed"]).ok();
    assert!(cluster.get("before/large") == noise(1, LARGE));
    assert_eq!(cluster.list().len(), 4);

    wait_until_whole(&cluster, 2);
    assert_eq!(cluster.list(), ["before/large", "before/small", "during", "meanwhile"]);
    wait::until_true("nothing is left over", REJOINS_WITHIN, || {
        NODES.iter().all(|node| chunk_files(&cluster, *node) == 6)
    });
    // Now node 2 may be one of only two.
    cluster.run_only(&[2, 4]);
    for (name, content) in [
        ("before/large", noise(1, LARGE)),
        ("before/small", noise(2, SMALL)),
        ("during", noise(5, LARGE)),
        ("meanwhile", noise(4, LARGE)),
    ] {
        assert!(cluster.get(name) == content, "{name}");
    }
}

#[test]
fn chunk_files_of_a_lost_index_are_reused_where_they_are_good() {
    let mut cluster = written().started();
    for number in 0..4 {
        cluster.put(&format!("file-{number}"), noise(number, LARGE));
    }
    cluster.kill(3);
    fs::remove_dir_all(cluster.data_dir(3).join("index")).expect("its index");
    let chunks = cluster.data_dir(3).join("chunks").join(USER);
    let damaged = chunks.join(&files(&chunks)[0]);
    let bytes = fs::read(&damaged).expect("a chunk");
    fs::write(&damaged, &bytes[..bytes.len() - 9]).expect("a chunk");

    let config = config(&cluster, 3);
    let (refused, text) = cluster.dfsd(["serve", "--config", &config]);
    assert_eq!((refused.code(), text.contains("dfsd rejoin")), (Some(2), true), "{text}");
    let (refused, text) = cluster.dfsd(["rejoin", "--config", &config]);
    assert_eq!((refused.code(), text.contains("--keep-chunks")), (Some(2), true), "{text}");
    let (made, text) = cluster.dfsd(["rejoin", "--config", &config, "--keep-chunks"]);
    assert!(made.success(), "{text}");
    let before = status(&cluster, 1);
    cluster.start_node(3);
    wait_until_whole(&cluster, 3);
    let status = status(&cluster, 3);
    assert_eq!(status["copied_bytes"], json!(LARGE / 4), "one chunk of eight: {status}");
    assert_ne!(status["incarnation"], before["incarnation"]);
    for number in 0..4 {
        let name = format!("file-{number}");
        let get = cluster.ctl(["get", "--verify", "--pair", "1,3", &name, "-"]).ok();
        assert!(get.stdout == noise(number, LARGE), "{name}");
    }
}
