//! Files of every length and kind come back as they were.

use std::fs;

use harness::Cluster;
use harness::content::{gzip, noise, text};

use crate::cluster;

const MIB: usize = 1 << 20;

/// Fetches a file from all nodes and from each pair, and compares.
fn assert_comes_back(cluster: &Cluster, name: &str, content: &[u8]) {
    let ways: [&[&str]; 3] = [&[], &["--pair", "1,3"], &["--pair", "2,4"]];
    for way in ways {
        let get = cluster.dfsctl().arg("get").args(way);
        let fetched = get.args([name, "fetched"]).run().ok();
        assert!(cluster.read("fetched") == content, "{name} differs: {fetched}");
    }
}

#[test]
fn files_of_every_length_come_back() {
    let cluster = cluster();
    for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, MIB - 1, MIB, MIB + 1, 4 * MIB, 4 * MIB + 1] {
        let name = format!("length-{length}");
        let content = noise(length as u64, length);
        cluster.file(&name, &content);
        cluster.ctl(["put", &name]).ok();
        assert_comes_back(&cluster, &name, &content);
    }
}

#[test]
fn a_file_of_many_blocks_comes_back() {
    let cluster = cluster();
    let content = noise(1, 64 * MIB + 3);
    cluster.file("large", &content);
    cluster.ctl(["put", "large"]).ok();
    assert_comes_back(&cluster, "large", &content);
}

#[test]
fn files_of_every_kind_come_back_verified_and_with_their_times() {
    let cluster = cluster();
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/samples/waves.png");
    let image = fs::read(image).expect("the sample is there");
    let kinds = [
        ("text", text(300_000)),
        ("image.png", image),
        ("noise", noise(1, 500_000)),
        ("compressed.gz", gzip(&text(2_000_000))),
        ("zeros", vec![0; 700_000]),
    ];
    for (name, content) in kinds {
        let file = cluster.file(name, &content);
        let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
        let opened = fs::File::options().write(true).open(&file).expect("it was written");
        opened.set_modified(stamp).expect("a time can be set");
        cluster.ctl(["put", name]).ok();
        assert_comes_back(&cluster, name, &content);
        cluster.ctl(["get", "--verify", name, "checked"]).ok();
        assert!(cluster.read("checked") == content);
        let modified = fs::metadata(cluster.work_dir().join("checked")).and_then(|m| m.modified());
        assert_eq!(modified.expect("a time"), stamp, "{name}");
    }
}

#[test]
fn an_overwrite_may_be_longer_or_shorter() {
    let cluster = cluster();
    for (round, length) in [1000, 10, 5 * MIB, 0, 300_000, 3].into_iter().enumerate() {
        let content = noise(round as u64, length);
        cluster.put("same", &content);
        assert!(cluster.get("same") == content, "round {round}");
    }
    assert_eq!(cluster.list(), ["same"]);
}
