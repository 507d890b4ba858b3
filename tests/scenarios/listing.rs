//! What `list`, `stat` and `status` say.

use harness::cluster::NODES;
use harness::content::{noise, with_x};
use serde_json::{Value, json};

use crate::cluster;

#[test]
fn a_prefix_is_a_plain_string() {
    let cluster = cluster();
    for name in ["b", "a/1", "a/2", "ab", "a"] {
        cluster.put(name, name);
    }
    assert_eq!(cluster.list(), ["a", "a/1", "a/2", "ab", "b"]);
    for (prefix, expected) in [
        ("a", &["a", "a/1", "a/2", "ab"][..]),
        ("a/", &["a/1", "a/2"]),
        ("a/2", &["a/2"]),
        ("c", &[]),
        ("", &["a", "a/1", "a/2", "ab", "b"]),
    ] {
        let listing = cluster.ctl(["list", prefix]).ok();
        assert_eq!(listing.lines(), expected, "prefix {prefix:?}");
    }
}

#[test]
fn the_long_listing_adds_size_time_and_state() {
    let cluster = cluster();
    cluster.put("file", noise(1, 12_345));
    let listing = cluster.ctl(["list", "-l"]).ok();
    let [line] = listing.lines()[..] else {
        panic!("one file, one line: {listing}");
    };
    for part in ["file", "12345", "complete"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn the_json_listing_has_every_field() {
    let cluster = cluster();
    cluster.put("file", "abc");
    let listing = cluster.ctl(["--output", "json", "list"]).ok().json();
    let entry = listing[0].as_object().expect("an object");
    let mut keys: Vec<&str> = entry.keys().map(String::as_str).collect();
    keys.sort_unstable();
    for key in ["md5", "modified", "nodes", "path", "size", "state", "unconfirmed", "x"] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
    assert_eq!(entry["md5"], json!("900150983cd24fb0d6963f7d28e17f72"));
    assert_eq!(entry["size"], json!(3));
    assert_eq!(entry["x"], json!(2));
    assert_eq!(entry["state"], json!("complete"));
    let modified = entry["modified"].as_str().expect("text");
    assert!(modified.contains('T') && modified.len() >= 20, "RFC 3339: {modified}");
    let empty = cluster.ctl(["--output", "json", "list", "nothing"]).ok().json();
    assert_eq!(empty, json!([]));
}

#[test]
fn a_long_listing_comes_whole_and_in_order() {
    const FILES: usize = 2500;
    let cluster = cluster();
    for number in 0..FILES {
        cluster.file(&format!("many/{number:04}"), number.to_string());
    }
    cluster.ctl(["put", "-r", "many"]).ok();
    let expected: Vec<String> = (0..FILES).map(|number| format!("many/{number:04}")).collect();
    assert_eq!(cluster.list(), expected);
    cluster.ctl(["rm", "-r", "many"]).ok();
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn stat_tells_what_a_file_depends_on() {
    let mut cluster = cluster();
    cluster.put("file", with_x(0, 1, 1000));
    let stat = cluster.ctl(["stat", "file"]).ok();
    assert!(stat.text().contains("complete"), "{stat}");

    cluster.kill(2);
    let stat = cluster.ctl(["--output", "json", "stat", "file"]).ok().json();
    assert_eq!(stat["state"], json!("degraded"));
    assert_eq!(stat["nodes"], json!([[1, 2], null, [3, 4], [1, 4]]));

    cluster.kill(1);
    let stat = cluster.ctl(["--output", "json", "stat", "file"]).json();
    assert_eq!(stat["state"], json!("incomplete"));
}

#[test]
fn status_shows_the_four_nodes() {
    let mut cluster = cluster();
    let status = cluster.ctl(["status"]).ok();
    for (line, node) in status.lines().into_iter().zip(NODES) {
        assert!(line.contains(&format!("node {node}")) && line.contains("serving"), "{status}");
    }
    cluster.kill(3);
    let status = cluster.ctl(["status"]);
    let line = status.lines()[2];
    assert!(line.contains("node 3") && line.contains("down"), "{line}");
    let json = cluster.ctl(["--output", "json", "status"]).json();
    assert_eq!(json.as_array().map(Vec::len), Some(4), "{json}");
    assert_ne!(json[2], Value::Null);
}
