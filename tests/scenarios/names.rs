//! Names: everything that is a name is kept as it is, everything else is refused.

use harness::content::noise;
use serde_json::json;

use crate::cluster;

/// Names that people or their programs have given to files, and the longest ones.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "plain.txt",
        "with space",
        " leading and trailing ",
        "it's",
        "say \"hello\"",
        "`backticks` $HOME $(id)",
        "grüße.txt",
        "gru\u{308}ße.txt",
        "日本語/ファイル",
        "🦀/🦀.txt",
        "-leading-dash",
        "--output",
        "--",
        "a",
        "a/b",
        "a/b/c",
        ".hidden",
        "...",
        "two..dots",
        "100%",
        "*?[x]",
        "#hash",
        "~tilde",
        "semi;colon&amp",
        "C:colon",
        "\u{202e}right to left",
        "nul.but.not.really",
    ]
    .map(String::from)
    .into();
    names.push("s".repeat(255));
    names.push("ü".repeat(127) + "x");
    let segments = [("p", 255), ("q", 255), ("r", 255), ("s", 254), ("t", 1)];
    let longest = segments.map(|(letter, length)| letter.repeat(length)).join("/");
    assert_eq!(longest.len(), 1024);
    names.push(longest);
    names
}

#[test]
fn names_are_kept_byte_for_byte() {
    let cluster = cluster();
    let mut names = names();
    for (seed, name) in names.iter().enumerate() {
        cluster.put(name, noise(seed as u64, 100));
    }
    for (seed, name) in names.iter().enumerate() {
        assert!(cluster.get(name) == noise(seed as u64, 100), "{name}");
    }
    names.sort();
    assert_eq!(cluster.list(), names, "one a line, in byte order");
    let listing = cluster.ctl(["--output", "json", "list"]).ok().json();
    let listing = listing.as_array().expect("an array");
    let paths: Vec<_> = listing.iter().map(|entry| entry["path"].clone()).collect();
    assert_eq!(json!(paths), json!(names));

    let rm = cluster.dfsctl().args(["rm", "--"]).args(&names);
    rm.run().ok();
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn a_local_file_with_an_odd_name_is_stored_under_it() {
    let cluster = cluster();
    for name in ["-n", "grüße 🦀.txt", "it's \"quoted\""] {
        cluster.file(name, name);
        cluster.dfsctl().args(["put", "--", name]).run().ok();
        let get = cluster.dfsctl().args(["get", "--", name, "copy"]);
        get.run().ok();
        assert_eq!(cluster.read("copy"), name.as_bytes());
    }
}

#[test]
fn a_file_and_a_folder_may_have_the_same_name() {
    let cluster = cluster();
    cluster.put("a", "file");
    cluster.put("a/b", "in the folder");
    cluster.put("ab", "neighbour");
    assert_eq!(cluster.list(), ["a", "a/b", "ab"]);
    cluster.ctl(["rm", "a"]).ok();
    assert_eq!(cluster.list(), ["a/b", "ab"]);
    assert_eq!(cluster.get("a/b"), b"in the folder");
    cluster.ctl(["get", "a", "-"]).exits(3);
}
