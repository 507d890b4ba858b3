//! What `list`, `stat` and `status` say.

use harness::cluster::NODES;
use harness::content::{noise, with_x};
use serde_json::{Value, json};

use crate::cluster;
use crate::seeing::metrics;

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

#[test]
fn a_folder_is_one_line() {
    let cluster = cluster();
    for name in ["a", "b/1", "b/2", "b/c/1", "b0", "bz/1", "c"] {
        cluster.put(name, name);
    }
    for (prefix, expected) in [
        ("", &["a", "b/", "b0", "bz/", "c"][..]),
        ("b", &["b/1", "b/2", "b/c/"]),
        ("b/", &["b/1", "b/2", "b/c/"]),
        ("b/c", &["b/c/1"]),
        ("x", &[]),
    ] {
        let listing = cluster.ctl(["list", "--folders", prefix]).ok();
        assert_eq!(listing.lines(), expected, "{prefix:?}");
    }
    let json = cluster.ctl(["--output", "json", "list", "-d"]).ok().json();
    assert_eq!(json[1], json!({"path": "b/", "folder": true}), "{json}");
    assert_eq!(json[2]["state"], "complete");
    let listing = cluster.ctl(["list", "-d0", "b"]).ok();
    assert_eq!(listing.stdout, b"b/1\0b/2\0b/c/\0");
}

/// More files than four pages have, all but three in two folders: they are not all asked for.
#[test]
fn a_folder_of_many_files_is_passed_over() {
    let cluster = cluster();
    let folder = cluster.dir().join("many");
    for (under, files) in [("a", 4500), ("b", 2500)] {
        std::fs::create_dir_all(folder.join(under)).expect("a folder");
        for number in 0..files {
            let file = folder.join(under).join(format!("{number:05}"));
            std::fs::write(file, number.to_string()).expect("a small file");
        }
    }
    std::fs::write(folder.join("c"), "c").expect("a small file");
    cluster.dfsctl().args(["put", "-r"]).arg(&folder).run().ok();
    let before = lists(&cluster);
    let listing = cluster.ctl(["list", "--folders", "many"]).ok();
    assert_eq!(listing.lines(), ["many/a/", "many/b/", "many/c"]);
    assert_eq!(lists(&cluster) - before, 3, "a page for each folder, and one for the rest");
    let du = cluster.ctl(["du", "many/"]).ok();
    let files: Vec<Vec<&str>> =
        du.lines().iter().map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(files, [["4500", "many/a/"], ["2500", "many/b/"], ["7001", "many/"]], "{du}");
}

/// Pages that node 1 was asked for.
fn lists(cluster: &harness::Cluster) -> u64 {
    let metrics = metrics(cluster, 1);
    let line = |line: &&str| line.starts_with("dfs_requests_total") && line.contains("/List\"");
    let counts = metrics.lines().filter(line).filter_map(|line| line.rsplit(' ').next());
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

#[test]
fn the_size_of_folders_is_told() {
    let cluster = cluster();
    for (name, length) in [("a", 1), ("b/1", 2000), ("b/c/1", 500_000), ("d/1", 7)] {
        cluster.put(name, noise(1, length));
    }
    let du = |args: &[&str]| cluster.dfsctl().arg("du").args(args).run().ok();
    let json = cluster.ctl(["--output", "json", "du", "--depth", "2"]).ok().json();
    let folders = json!([
        {"path": "b/", "files": 1, "bytes": 2000},
        {"path": "b/c/", "files": 1, "bytes": 500_000},
        {"path": "d/", "files": 1, "bytes": 7},
    ]);
    assert_eq!(json, json!({"folders": folders, "files": 4, "bytes": 502_008}));
    du(&["--human"]).prints("490 KiB").prints("total");
    du(&["b/"]).prints("502000").does_not_say("d/");
    let empty = cluster.ctl(["--output", "json", "du", "nothing"]).ok().json();
    assert_eq!(empty, json!({"folders": [], "files": 0, "bytes": 0}));
}

#[test]
fn pictures_show_who_holds_what() {
    let mut cluster = cluster();
    let content = with_x(0, 1, 5000);
    cluster.put("file", content);
    cluster.ctl(["list", "-l"]).ok().prints("complete    1234  file");
    let stat = cluster.ctl(["stat", "file"]).ok();
    stat.prints("[1] [2]       [2] [3]       [3] [4]       [1] [4]").prints("5000 (4.8 KiB)");
    cluster.run_without(&[2]);
    cluster.ctl(["list", "-l"]).ok().prints("degraded    1?34  file");
    let stat = cluster.ctl(["stat", "file"]).ok();
    stat.prints("no answer").prints("may fail   no            -             no            yes");
    let coloured = cluster.ctl(["--color", "always", "list", "-l"]).ok();
    assert!(coloured.text().contains('\u{1b}'), "{coloured}");
    assert!(!cluster.ctl(["list", "-l"]).ok().text().contains('\u{1b}'), "nobody sees colours");
}
