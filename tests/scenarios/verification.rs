//! `verify`: every copy is read, and what is wrong is told by its right name.

use std::fs;

use harness::cluster::USER;
use harness::content::{files, noise};
use harness::{Cluster, Output};
use serde_json::{Value, json};

use crate::cluster;

const SIZE: usize = 3_000_000;

/// Three files: one in the index, one of a block a chunk, one of several blocks a chunk.
fn filled() -> Cluster {
    let cluster = cluster();
    cluster.put("a/small", "small");
    cluster.put("a/middle", noise(1, SIZE));
    cluster.put("b/large", noise(2, 9 << 20));
    cluster
}

fn verify(cluster: &Cluster, prefix: &str) -> Output {
    cluster.ctl(["--output", "json", "verify", prefix])
}

/// Flips one bit in the middle of a chunk file of the only large file on a node.
fn flip_a_bit(cluster: &Cluster, node: usize) {
    let folder = cluster.data_dir(node).join("chunks").join(USER);
    let file = files(&folder).into_iter().map(|name| folder.join(name)).next();
    let file = file.expect("a chunk file");
    let mut bytes = fs::read(&file).expect("a chunk file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("a chunk file");
}

#[test]
fn files_that_are_in_order_are_read_whole_from_both_pairs() {
    let cluster = filled();
    let all = verify(&cluster, "").ok().json();
    let bytes = 5 + SIZE as u64 + (9 << 20);
    assert_eq!((&all["files"], &all["ok"], &all["bytes"]), (&json!(3), &json!(3), &json!(bytes)));
    assert_eq!(all["problems"], json!([]));
    let read: u64 =
        all["per_node"].as_array().expect("four numbers").iter().flat_map(Value::as_u64).sum();
    assert_eq!(read, 2 * bytes, "every copy was read once");
    let some = verify(&cluster, "a/").ok().json();
    assert_eq!(some["files"], json!(2));
    let none = cluster.ctl(["verify", "nothing/"]).ok();
    assert_eq!(none.lines(), ["files      0", "bytes      0", "ok         0"]);
}

#[test]
fn a_damaged_copy_is_found_named_and_taken_out_of_service() {
    let cluster = cluster();
    cluster.put("fine", "small");
    cluster.put("file", noise(1, SIZE));
    flip_a_bit(&cluster, 2);
    let found = verify(&cluster, "").exits(6).json();
    assert_eq!((&found["ok"], &found["damaged"]), (&json!(1), &json!(1)), "{found}");
    assert_eq!(found["damaged_copies"], json!([0, 1, 0, 0]));
    let problem = &found["problems"][0];
    assert_eq!((&problem["path"], &problem["state"]), (&json!("file"), &json!("damaged")));
    assert_eq!(problem["copies"][0]["node"], json!(2));
    harness::wait::until_true("it is out of service", std::time::Duration::from_secs(10), || {
        let again = verify(&cluster, "").exits(5).json();
        again["degraded"] == json!(1) && again["damaged_copies"] == json!([0, 0, 0, 0])
    });
    assert!(cluster.get("file") == noise(1, SIZE));
}

#[test]
fn a_file_without_a_good_copy_is_lost() {
    let cluster = cluster();
    let content = harness::content::with_x(0, 1, SIZE);
    cluster.put("file", &content);
    // With x = 0 chunk 2 is on nodes 1 and 2.
    for node in [1, 2] {
        let folder = cluster.data_dir(node).join("chunks").join(USER);
        let name = files(&folder).into_iter().find(|name| name.ends_with(".2"));
        fs::remove_file(folder.join(name.expect("chunk 2"))).expect("a chunk file");
    }
    let text = cluster.ctl(["verify"]).exits(6);
    assert!(text.text().contains("file: lost: chunk 2: "), "{text}");
    assert!(text.lines().contains(&"lost       1"), "{text}");
}

#[test]
fn nodes_that_are_down_are_told_apart_from_damage() {
    let mut cluster = filled();
    cluster.run_without(&[3]);
    let one = verify(&cluster, "").exits(5).json();
    assert_eq!((&one["degraded"], &one["unreachable"]), (&json!(3), &json!([3])), "{one}");
    assert_eq!(one["damaged_copies"], json!([0, 0, 0, 0]));
    // What is stored now is whole on the others, on both pairs.
    cluster.put("spilled", noise(3, SIZE));
    let spilled = verify(&cluster, "spilled").ok().json();
    assert_eq!(spilled["ok"], json!(1), "{spilled}");
    cluster.run_without(&[3, 4]);
    let neighbours = verify(&cluster, "b/").exits(5).json();
    assert_eq!(neighbours["incomplete"], json!(1), "{neighbours}");
    cluster.run_without(&[1, 3, 4]);
    let unknown = verify(&cluster, "b/").exits(5).json();
    assert_eq!(unknown["unknown"], json!(1), "{unknown}");
    cluster.run_only(&[]);
    cluster.ctl(["verify"]).exits(5).says("too few nodes");
}
