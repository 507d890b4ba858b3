//! Files become whole again: by `dfsctl repair`, and by themselves.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::Manifest;
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::put_chunk_request::Message;
use harness::api::stream_of;
use harness::cluster::{NODES, USER, set_key};
use harness::content::{files, noise};
use harness::{Cluster, wait};
use serde_json::{Value, json};

use crate::cluster;

/// Its chunks are inside the index.
const SMALL: usize = 500;
/// Its chunks are files of their own.
const LARGE: usize = 400_000;

const HEALS_WITHIN: Duration = Duration::from_secs(60);

/// A cluster whose nodes look after their files all the time.
fn healing_cluster(settings: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::written(crate::PROGRAMS);
    for node in NODES {
        set_key(&cluster.node_config(node), "heal_every", "500ms");
        for (key, value) in settings {
            set_key(&cluster.node_config(node), key, value);
        }
    }
    cluster.started()
}

fn chunks(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let folder = cluster.data_dir(node).join("chunks").join(USER);
    files(&folder).into_iter().map(|name| folder.join(name)).collect()
}

fn flip_a_byte(file: &PathBuf) {
    let mut bytes = fs::read(file).expect("a chunk file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).expect("a chunk file");
}

/// Prepares the first chunk of an upload of `left` on a node.
async fn prepare(cluster: &Cluster, node: usize, chunk: &[u8]) {
    let sum = Crc32c::of(chunk);
    let size = 4 * chunk.len() as u64;
    let md5 = Md5Digest::of(chunk);
    let manifest = Manifest::new(md5, size, [sum; 4], "2026-11-22T10:00:00Z", Default::default());
    let header = pb::ChunkHeader {
        path: "left".to_owned(),
        upload_id: vec![9; 16],
        chunk: 1,
        manifest: Some((&manifest.expect("a valid manifest")).into()),
        ..Default::default()
    };
    let block = pb::Block { chunk: 1, index: 0, crc32c: sum.get(), data: chunk.to_vec().into() };
    let messages = [Message::Header(header), Message::Block(block)]
        .map(|message| pb::PutChunkRequest { message: Some(message) });
    let mut api = cluster.api(node).await;
    let answer = api.client.put_chunk(stream_of(messages)).await.expect("an answer").into_inner();
    assert_eq!(answer.results[0].refusal, None);
}

/// The state of every file, as a thorough look from outside finds it.
fn states(cluster: &Cluster) -> Vec<(String, String)> {
    let list = cluster.ctl(["--output", "json", "list"]).ok().json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let files = list.as_array().expect("an array").iter();
    files.map(|file| (text(&file["path"]), text(&file["state"]))).collect()
}

fn all_complete(cluster: &Cluster) -> bool {
    states(cluster).iter().all(|(_, state)| state == "complete")
}

/// Files of both kinds, put while a node is away: some new, some over an older version, and
/// one removed.
fn missed_by(cluster: &mut Cluster, absent: usize) {
    for (name, length) in [("old/small", SMALL), ("old/large", LARGE), ("gone", LARGE)] {
        cluster.put(name, noise(1, length));
    }
    cluster.run_without(&[absent]);
    for (name, length) in
        [("old/small", SMALL), ("old/large", LARGE), ("new/small", SMALL), ("new/large", LARGE)]
    {
        cluster.put(name, noise(2, length));
    }
    cluster.ctl(["rm", "gone"]).ok();
    cluster.run_without(&[]);
}

/// Four files, each with two chunks of `LARGE / 4` or so per node, and nothing else.
fn assert_converged(cluster: &Cluster) {
    assert_eq!(cluster.list(), ["new/large", "new/small", "old/large", "old/small"]);
    assert!(all_complete(cluster), "{:?}", states(cluster));
    for name in cluster.list() {
        let length = if name.ends_with("small") { SMALL } else { LARGE };
        for pair in ["1,3", "2,4"] {
            let get = cluster.ctl(["get", "--verify", "--pair", pair, &name, "-"]).ok();
            assert!(get.stdout == noise(2, length), "{name} from {pair}");
        }
    }
}

#[test]
fn one_repair_after_a_nodes_return_makes_every_file_complete() {
    for absent in [1, 4] {
        let mut cluster = Cluster::written(crate::PROGRAMS);
        for node in NODES {
            // Superseded data would still be there, rightly.
            set_key(&cluster.node_config(node), "prune_grace", "0s");
        }
        cluster.run_only(&NODES);
        missed_by(&mut cluster, absent);
        assert!(!all_complete(&cluster), "the node has missed something");

        cluster.ctl(["repair", "--dry-run"]).ok().prints("would repair 5");
        assert!(!all_complete(&cluster), "a dry run changes nothing");

        let repair = cluster.ctl(["--output", "json", "repair"]).ok().json();
        assert_eq!(repair["looked_at"], 5, "{repair}");
        assert_eq!(repair["repaired"], 5, "{repair}");
        let copied = (SMALL + LARGE) as u64;
        assert_eq!(repair["copied_bytes"], json!(copied), "two chunks of four files: {repair}");
        assert_converged(&cluster);
        let again = cluster.ctl(["--output", "json", "repair"]).ok().json();
        assert_eq!(again["healthy"], 5, "{again}");
        assert_eq!(again["paths"], json!([]));
        wait::until_true("what is superseded goes", HEALS_WITHIN, || {
            NODES.iter().all(|node| chunks(&cluster, *node).len() == 4)
        });
    }
}

#[test]
fn a_repair_is_for_one_prefix_and_one_user() {
    let mut cluster = Cluster::written(crate::PROGRAMS);
    cluster.add_user("bob");
    cluster.run_without(&[2]);
    cluster.put("a/1", noise(1, SMALL));
    cluster.put("b/1", noise(2, SMALL));
    cluster.file("theirs", noise(3, SMALL));
    cluster.dfsctl_as("bob").args(["put", "theirs"]).run().ok();
    cluster.run_without(&[]);
    let repair = cluster.ctl(["--output", "json", "repair", "a/"]).ok().json();
    assert_eq!((&repair["looked_at"], &repair["repaired"]), (&json!(1), &json!(1)));
    assert_eq!(states(&cluster)[0].1, "complete");
    assert_eq!(states(&cluster)[1].1, "degraded");
    let repair = cluster.ctl(["--output", "json", "repair", "--quick"]).ok().json();
    assert_eq!((&repair["looked_at"], &repair["repaired"]), (&json!(2), &json!(1)));
    let theirs = cluster.dfsctl_as("bob").args(["--output", "json", "list"]).run().ok().json();
    assert_eq!(theirs[0]["state"], "degraded", "nobody repaired it");
}

#[test]
fn rot_is_found_by_a_thorough_repair_and_replaced() {
    let cluster = cluster();
    cluster.put("file", noise(1, LARGE));
    for file in chunks(&cluster, 3) {
        flip_a_byte(&file);
    }
    cluster.ctl(["repair", "--quick"]).ok();
    let repair = cluster.ctl(["--output", "json", "repair"]).ok().json();
    let path = &repair["paths"][0];
    assert_eq!(path["state"], "repaired", "{repair}");
    assert_eq!(path["bad"][2].as_array().map(Vec::len), Some(2), "{repair}");
    assert_eq!(path["copied"][2], path["bad"][2], "{repair}");
    assert!(all_complete(&cluster));
    for pair in ["1,3", "2,4"] {
        let get = cluster.ctl(["get", "--verify", "--pair", pair, "file", "-"]).ok();
        assert!(get.stdout == noise(1, LARGE));
    }
}

#[test]
fn a_lost_file_is_called_lost_and_what_is_left_of_it_stays() {
    let cluster = cluster();
    cluster.put("file", noise(1, LARGE));
    cluster.put("whole", noise(2, SMALL));
    for node in [1, 2] {
        for file in chunks(&cluster, node) {
            flip_a_byte(&file);
        }
    }
    let repair = cluster.ctl(["--output", "json", "repair"]).exits(6).json();
    assert_eq!((&repair["lost"], &repair["healthy"]), (&json!(1), &json!(1)), "{repair}");
    assert_eq!(repair["paths"][0]["missing"].as_array().map(Vec::len), Some(1), "{repair}");
    cluster.ctl(["repair"]).exits(6).prints("is on no node");
    let left: usize = NODES.iter().map(|node| chunks(&cluster, *node).len()).sum();
    assert_eq!(left, 4, "the other chunks are still there");
}

#[test]
fn a_repair_without_all_nodes_says_what_it_could_not_reach() {
    let mut cluster = cluster();
    cluster.put("file", noise(1, LARGE));
    cluster.run_without(&[4]);
    let repair = cluster.ctl(["--output", "json", "repair"]).exits(5).json();
    assert_eq!(repair["unfinished"], 1, "{repair}");
    assert_eq!(repair["paths"][0]["failed"], json!([4]));
    assert_eq!(repair["problems"][0]["node"], 4);
    cluster.ctl(["repair"]).exits(5).prints("node 4 failed or did not answer");
    cluster.run_only(&[1, 2]);
    cluster.ctl(["repair"]).exits(5);
    cluster.run_only(&[1]);
    cluster.ctl(["repair"]).exits(5).says("fewer than two nodes");
    cluster.run_only(&[]);
    cluster.ctl(["repair"]).exits(5).says("too few nodes");
}

#[test]
fn a_cluster_left_alone_heals() {
    let mut cluster = healing_cluster(&[("prune_grace", "0s")]);
    missed_by(&mut cluster, 3);
    wait::until_true("every file is complete", HEALS_WITHIN, || all_complete(&cluster));
    assert_converged(&cluster);
    wait::until_true("no spill and nothing superseded is left", HEALS_WITHIN, || {
        NODES.iter().all(|node| chunks(&cluster, *node).len() == 4)
    });
    let quiet = cluster.ctl(["--output", "json", "repair"]).ok().json();
    assert_eq!(quiet["healthy"], 5, "{quiet}");
}

#[test]
fn a_scrub_finds_rot_and_the_file_is_healed() {
    let cluster = healing_cluster(&[("scrub_every", "200ms"), ("scrub_rate", "1GiB")]);
    cluster.put("file", noise(1, LARGE));
    for file in chunks(&cluster, 2) {
        flip_a_byte(&file);
    }
    let quarantine = cluster.data_dir(2).join("quarantine");
    wait::until_true("the bad chunks are out of the way", HEALS_WITHIN, || {
        files(&quarantine).len() == 2
    });
    wait::until_true("the file is whole", HEALS_WITHIN, || {
        all_complete(&cluster) && chunks(&cluster, 2).len() == 2
    });
    let get = cluster.ctl(["get", "--verify", "--pair", "2,4", "file", "-"]).ok();
    assert!(get.stdout == noise(1, LARGE));
}

#[test]
fn an_abandoned_upload_is_dropped_and_a_running_one_is_not() {
    let cluster = healing_cluster(&[("staging_ttl", "2s")]);
    cluster.put("kept", noise(1, LARGE));
    // A client that dies between its last chunk and its first Commit.
    let bytes = noise(2, LARGE / 4);
    harness::api::block_on(async {
        for node in NODES {
            prepare(&cluster, node, &bytes).await;
        }
    });
    let count = || NODES.iter().map(|node| chunks(&cluster, *node).len()).sum::<usize>();
    assert_eq!(count(), 8 + 4);
    wait::until_true("what was abandoned is gone", HEALS_WITHIN, || count() == 8);
    assert_eq!(cluster.list(), ["kept"]);
    assert!(cluster.get("kept") == noise(1, LARGE));
}
