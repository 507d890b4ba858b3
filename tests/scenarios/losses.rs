//! What was acknowledged survives every loss that is allowed.

use std::fs;

use harness::Cluster;
use harness::cluster::NODES;
use harness::content::{noise, with_x};

use crate::cluster;

/// All that may be lost: nothing, any node, two opposite ones.
const LOSSES: [&[usize]; 7] = [&[], &[1], &[1, 3], &[3], &[2], &[2, 4], &[4]];

/// Its chunks are inside the index.
const SMALL: usize = 500;
/// Its chunks are files of their own.
const LARGE: usize = 400_000;

/// Fetches all of `remote` after each allowed loss and compares it with the local `expected`.
fn assert_survives(cluster: &mut Cluster, remote: &str, expected: &str) {
    let expected_dir = cluster.work_dir().join(expected);
    let names = harness::content::files(&expected_dir);
    for lost in LOSSES {
        cluster.run_without(lost);
        cluster.ctl(["get", "-r", "--strict", remote, "fetched"]).ok();
        let fetched_dir = cluster.work_dir().join("fetched");
        assert_eq!(harness::content::files(&fetched_dir), names, "{lost:?} lost");
        for name in &names {
            let (fetched, expected) = (fetched_dir.join(name), expected_dir.join(name));
            let read = |path| fs::read(path).expect("it was just listed");
            assert!(read(fetched) == read(expected), "{name} with {lost:?} lost");
        }
        fs::remove_dir_all(fetched_dir).expect("it was just made");
    }
}

#[test]
fn a_file_put_with_a_node_down_survives_every_allowed_loss() {
    let mut cluster = cluster();
    for absent in NODES {
        for x in 0..4 {
            for length in [SMALL, LARGE] {
                let name = format!("all/without-{absent}/x{x}-{length}");
                cluster.file(&name, with_x(x, absent as u64, length));
            }
        }
        cluster.run_without(&[absent]);
        let (local, remote) = (format!("all/without-{absent}"), format!("r/without-{absent}"));
        cluster.ctl(["put", "-r", &local, &remote]).ok();
    }
    assert_survives(&mut cluster, "r", "all");
}

#[test]
fn the_chunks_of_an_absent_node_go_to_its_opposite() {
    let mut cluster = cluster();
    for absent in NODES {
        cluster.run_without(&[absent]);
        let opposite = (absent + 1) % 4 + 1;
        let name = format!("without-{absent}");
        cluster.file(&name, noise(absent as u64, LARGE));
        let stats = cluster.ctl(["put", "--stats", &name]).ok().stats();
        let mut expected = [LARGE as u64 / 2; 4];
        expected[absent - 1] = 0;
        expected[opposite - 1] = LARGE as u64;
        assert_eq!(stats.per_node, expected, "node {absent} absent");
        harness::api::block_on(async {
            let stat = cluster.api(opposite).await.stat(&name).await;
            assert_eq!(stat.current.expect("it is there").have, 0b1111);
        });
    }
}

#[test]
fn an_overwrite_that_a_node_missed_is_never_mixed_with_what_was_before() {
    let mut cluster = cluster();
    let pairs = || (0..4).flat_map(|old| (0..4).map(move |new| (old, new)));
    // Large where a mixture would be one of chunk files, small where one of index rows.
    let length = |old: u8, new: u8| if (old + new).is_multiple_of(2) { SMALL } else { LARGE };

    for missing in NODES {
        for (old, new) in pairs() {
            let name = format!("old/missed-by-{missing}/{old}-{new}");
            cluster.file(&name, with_x(old, 1, length(old, new)));
            let name = format!("new/missed-by-{missing}/{old}-{new}");
            cluster.file(&name, with_x(new, 2, length(old, new)));
        }
    }
    cluster.ctl(["put", "-r", "old", "r"]).ok();
    for missing in NODES {
        cluster.run_without(&[missing]);
        let (local, remote) =
            (format!("new/missed-by-{missing}"), format!("r/missed-by-{missing}"));
        cluster.ctl(["put", "-r", &local, &remote]).ok();
    }
    assert_survives(&mut cluster, "r", "new");
}

#[test]
fn an_overwrite_that_failed_leaves_what_was_before() {
    let mut cluster = cluster();
    cluster.file("old/file", noise(1, LARGE));
    cluster.file("new/file", noise(2, LARGE));
    cluster.ctl(["put", "-r", "old", "r"]).ok();
    for down in [[1, 2], [1, 3], [2, 4], [3, 4]] {
        cluster.run_without(&down);
        cluster.ctl(["put", "new/file", "r/file"]).exits(5).says("put failed");
    }
    assert_survives(&mut cluster, "r", "old");
}
