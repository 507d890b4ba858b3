//! Two neighbours lose their indexes at once: the chunks that live on just those two are only in
//! files that no index knows.

use std::fs;
use std::time::Duration;

use harness::cluster::{NODES, set_key};
use harness::content::noise;
use harness::skip::skipped;
use harness::{Cluster, wait};
use serde_json::Value;

const LARGE: usize = 400_000;
const FILES: u64 = 8;

/// Two nodes that rejoin one after the other, each after 65 seconds.
const WITHIN: Duration = Duration::from_secs(180);

fn serves_whole(cluster: &Cluster, node: usize) -> bool {
    let status = cluster.ctl(["--output", "json", "status"]).json();
    let node = &status[node - 1];
    node["status"] == "serving" && node["rejoin"] == ""
}

#[test]
fn what_is_left_on_two_disks_without_an_index_is_found_again() {
    if crate::rounds(0) == 0 {
        return skipped("two disks", "it takes three minutes; .ci/run and tests/long.sh run it");
    }
    let cluster = crate::cluster();
    for node in NODES {
        set_key(&cluster.node_config(node), "heal_every", "500ms");
    }
    let mut cluster = cluster.started();
    for number in 0..FILES {
        cluster.put(&format!("file-{number}"), noise(number, LARGE));
    }
    let config = |node| cluster.node_config(node).to_str().expect("a plain path").to_owned();
    let configs = [config(1), config(2)];
    for node in [1, 2] {
        cluster.kill(node);
        fs::remove_dir_all(cluster.data_dir(node).join("index")).expect("its index");
    }
    let (made, text) =
        cluster.dfsd(["rejoin", "--config", &configs[0], "--keep-chunks", "--without", "2"]);
    assert!(made.success() && text.contains("without node 2"), "{text}");
    cluster.start_node(1);
    wait::until_true("node 1 serves", WITHIN, || {
        let status = cluster.ctl(["--output", "json", "status"]).json();
        status[0]["status"] == "serving"
    });
    // In the middle of it, before node 2 is there: what was kept is still kept.
    cluster.kill(1);
    cluster.start_node(1);
    let (made, text) = cluster.dfsd(["rejoin", "--config", &configs[1], "--keep-chunks"]);
    assert!(made.success(), "{text}");
    cluster.start_node(2);
    wait::until_true("both are whole", WITHIN, || {
        serves_whole(&cluster, 1) && serves_whole(&cluster, 2)
    });
    cluster.ctl(["repair"]).ok();
    cluster.ctl(["verify"]).ok();
    let list = cluster.ctl(["--output", "json", "list"]).ok().json();
    let complete = |file: &Value| file["state"] == "complete";
    assert!(list.as_array().is_some_and(|files| files.iter().all(complete)), "{list}");
    for number in 0..FILES {
        assert!(cluster.get(&format!("file-{number}")) == noise(number, LARGE));
    }
}
