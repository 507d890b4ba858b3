//! Disks without room: nothing breaks, and removing files helps.

use std::time::Duration;

use harness::cluster::NODES;
use harness::mount::Mount;
use harness::skip::skipped;
use harness::{Cluster, Rng, wait};

use crate::cluster;

/// Four nodes with small disks that forget removed files soon; `None` where there are none.
fn small(test: &str, options: &str) -> Option<(Cluster, [Mount; 4])> {
    let mut mounts = Vec::new();
    for _ in NODES {
        match Mount::memory(options) {
            Ok(mount) => mounts.push(mount),
            Err(why) => {
                skipped(test, &why);
                return None;
            }
        }
    }
    let mounts: [Mount; 4] = mounts.try_into().expect("four of them");
    let cluster = cluster();
    for (node, mount) in NODES.into_iter().zip(&mounts) {
        cluster.configure(node, "prune_grace", "200ms");
        mount.take(&cluster, &[node]);
    }
    Some((cluster.started(), mounts))
}

/// Puts files of this length until one is refused, and returns how many there are.
fn fill(cluster: &Cluster, length: usize, why: &str) -> u64 {
    for number in 0..5000 {
        let name = format!("file-{number}");
        let put = cluster.dfsctl().args(["put", "-", &name]).stdin(content(number, length)).run();
        if put.code != Some(0) {
            put.exits(5).says(why);
            return number;
        }
    }
    panic!("the disk takes more than it has room for");
}

fn content(number: u64, length: usize) -> Vec<u8> {
    Rng::new(number).bytes(length)
}

/// A full cluster reads and removes, takes files again then, and no node has stopped.
fn goes_on(mut cluster: Cluster, length: usize, why: &str) {
    let count = fill(&cluster, length, why);
    assert!(count > 5, "{count} files");
    for number in [0, count / 2, count - 1] {
        assert!(cluster.get(&format!("file-{number}")) == content(number, length), "{number}");
    }
    let names = cluster.list().len();
    assert_eq!(u64::try_from(names).expect("a few"), count, "the refused one left nothing");
    for number in 0..count / 2 {
        cluster.ctl(["rm", &format!("file-{number}")]).ok();
    }
    wait::until_true("there is room again", Duration::from_secs(30), || {
        let put = cluster.dfsctl().args(["put", "-", "another"]);
        put.stdin(content(count, length)).run().code == Some(0)
    });
    // What is there is as it was, after a restart too.
    cluster.run_only(&[]);
    cluster.run_only(&NODES);
    assert!(cluster.get("another") == content(count, length));
    for number in count / 2..count {
        assert!(cluster.get(&format!("file-{number}")) == content(number, length), "{number}");
    }
    assert!(NODES.into_iter().all(|node| cluster.ended(node).is_none()));
}

#[test]
fn a_full_disk_still_reads_and_removes() {
    let Some((cluster, mounts)) = small("full disk", "size=200m") else { return };
    goes_on(cluster, 8_000_000, "bytes are needed");
    drop(mounts);
}

/// What the index has of removed files goes in its own time; nothing may stop until then.
#[test]
fn a_disk_filled_with_small_files_still_reads_and_removes() {
    const FILES: u64 = 50;
    let Some((mut cluster, mounts)) = small("small files", "size=200m") else { return };
    for number in 0..FILES {
        cluster.file(&format!("dir/{number}"), content(number, 250_000));
    }
    let put = |folder: u64| cluster.ctl(["put", "-r", "dir", &format!("{folder}")]);
    let full = (0..100).find(|folder| put(*folder).code != Some(0)).expect("the disk is small");
    assert!(full > 1, "{full} folders");
    put(full).says("bytes are needed");
    let name = |folder: u64, number: u64| format!("{folder}/{number}");
    for number in 0..FILES {
        let (first, last) = (name(0, number), name(full - 1, number));
        assert!(cluster.get(&last) == content(number, 250_000), "{last}");
        cluster.ctl(["rm", &first]).ok();
    }
    for folder in 1..full - 1 {
        cluster.ctl(["rm", "-r", &format!("{folder}")]).ok();
    }
    assert!(NODES.into_iter().all(|node| cluster.ended(node).is_none()));
    cluster.run_only(&[]);
    cluster.run_only(&NODES);
    for number in 0..FILES {
        let last = name(full - 1, number);
        assert!(cluster.get(&last) == content(number, 250_000), "{last}");
    }
    drop(cluster);
    drop(mounts);
}

#[test]
fn a_disk_without_inodes_still_reads_and_removes() {
    let Some((cluster, mounts)) = small("inodes", "size=500m,nr_inodes=400") else { return };
    goes_on(cluster, 300_000, "more files");
    drop(mounts);
}
