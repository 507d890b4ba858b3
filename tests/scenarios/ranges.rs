//! Parts of files.

use harness::cluster::USER;
use harness::content::{noise, with_x};

use crate::cluster;

const MIB: usize = 1 << 20;

#[test]
fn any_part_of_a_file_is_read() {
    let cluster = cluster();
    for (name, length) in [("large", 9 * MIB + 3), ("small", 1000), ("tiny", 3)] {
        let content = noise(7, length);
        cluster.put(name, &content);
        let places = [0, 1, 2, length / 4, length / 2, length - 2, length - 1];
        for (first, last) in places.iter().flat_map(|a| places.map(|b| (*a, b))) {
            if first <= last {
                let range = format!("{first}-{last}");
                let part = cluster.ctl(["get", "--range", &range, name, "-"]).ok().stdout;
                assert!(part == content[first..=last], "{name} {range}");
            }
        }
        let part = |range: &str| cluster.ctl(["get", "--range", range, name, "-"]).ok().stdout;
        assert!(part("1-") == content[1..]);
        assert!(part("-2") == content[length - 2..]);
        assert!(part("-99999999") == content, "no more than there is");
        assert!(part("0-99999999") == content);
    }
}

#[test]
fn only_the_blocks_that_the_part_is_in_are_sent() {
    let cluster = cluster();
    // Chunks of 5 MiB: five blocks each.
    let content = with_x(0, 1, 20 * MIB);
    cluster.put("file", &content);
    let moved = |range: &str| {
        let get = cluster.ctl(["get", "--stats", "--range", range, "file", "-"]).ok();
        get.stats().per_node.iter().sum::<u64>()
    };
    assert_eq!(moved("0-0"), MIB as u64);
    assert_eq!(moved(&format!("{}-{}", MIB - 1, MIB)), 2 * MIB as u64, "two blocks of a chunk");
    let seam = 5 * MIB;
    assert_eq!(moved(&format!("{}-{}", seam - 1, seam)), 2 * MIB as u64, "of two chunks");
    assert_eq!(moved("0-"), 20 * MIB as u64);
}

#[test]
fn a_part_is_read_without_a_node_and_around_damage() {
    let mut cluster = cluster();
    let content = with_x(0, 2, 20 * MIB);
    cluster.put("file", &content);
    let range = format!("{}-{}", 3 * MIB, 17 * MIB);
    let whole = |cluster: &harness::Cluster| {
        let part = cluster.ctl(["get", "--range", &range, "file", "-"]).ok().stdout;
        assert!(part == content[3 * MIB..=17 * MIB]);
    };
    for chunk in cluster.chunk_files(1, USER) {
        let chunk = cluster.data_dir(1).join("chunks").join(USER).join(chunk);
        let mut bytes = std::fs::read(&chunk).expect("a chunk file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&chunk, bytes).expect("a chunk file");
    }
    whole(&cluster);
    cluster.run_without(&[1]);
    whole(&cluster);
}

#[test]
fn a_part_that_is_not_there_changes_nothing() {
    let cluster = cluster();
    cluster.put("file", "content");
    cluster.put("empty", "");
    cluster.file("local", "before");
    for (range, name) in [("7-", "file"), ("100-200", "file"), ("-0", "file"), ("0-", "empty")] {
        let get = cluster.ctl(["get", "--range", range, name, "local"]).exits(1);
        get.says("bytes, none of those that were asked for");
    }
    cluster.ctl(["get", "--range", "0-3", "missing", "local"]).exits(3);
    assert_eq!(cluster.read("local"), b"before");
    for range in ["5", "4-3", "a-b", ""] {
        cluster.ctl(["get", "--range", range, "file", "local"]).exits(2).says("FIRST-LAST");
    }
    cluster.ctl(["get", "--range", "0-1", "file"]).exits(2);
    cluster.ctl(["get", "-r", "--range", "0-1", "file", "local"]).exits(2);
    cluster.ctl(["get", "--range", "1-3", "file", "local"]).ok();
    assert_eq!(cluster.read("local"), b"ont");
}
