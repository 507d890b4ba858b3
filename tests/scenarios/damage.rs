//! Disks that lose or change what was written, and disks that are not the ones they were.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::api::{self, block_on, client};
use harness::cluster::{NODES, USER};
use harness::content::{files, noise};
use harness::process::Process;
use harness::{Cluster, wait};
use serde_json::json;

use crate::cluster;

const SIZE: usize = 3_000_000;

/// The chunk files of the user on a node.
fn chunks(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let folder = cluster.data_dir(node).join("chunks").join(USER);
    files(&folder).into_iter().map(|name| folder.join(name)).collect()
}

fn flip_a_byte(file: &Path) {
    let mut bytes = fs::read(file).expect("a chunk file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).expect("a chunk file");
}

fn cut(file: &Path) {
    let bytes = fs::read(file).expect("a chunk file");
    fs::write(file, &bytes[..bytes.len() / 3]).expect("a chunk file");
}

fn empty(file: &Path) {
    fs::write(file, "").expect("a chunk file");
}

fn remove(file: &Path) {
    fs::remove_file(file).expect("a chunk file");
}

#[test]
fn a_damaged_chunk_is_noticed_and_taken_from_the_other_node() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] =
        [("flipped", flip_a_byte), ("cut", cut), ("empty", empty), ("removed", remove)];
    let content = noise(1, SIZE);
    for (what, damage) in damages {
        let cluster = cluster();
        cluster.put("file", &content);
        // One node's copies of both its chunks.
        for file in chunks(&cluster, 2) {
            damage(&file);
        }
        for round in 0..2 {
            cluster.ctl(["get", "file", "copy"]).ok();
            assert!(cluster.read("copy") == content, "{what}, round {round}");
            let get = cluster.ctl(["get", "--pair", "1,3", "file", "-"]).ok();
            assert!(get.stdout == content, "{what}, round {round}");
        }
        // The reader has the node look at what it sent; it takes it out of service.
        cluster.dfsctl().args(["get", "--pair", "2,4", "file", "half"]).run();
        wait::until_true("the damage shows", Duration::from_secs(10), || {
            let stat = cluster.ctl(["--output", "json", "stat", "file"]).ok().json();
            stat["state"] == json!("degraded") && stat["nodes"][1] == json!([])
        });
        assert!(cluster.get("file") == content, "{what}");
    }
}

#[test]
fn many_gets_at_once_take_what_is_damaged_from_the_other_node() {
    const SIZE: usize = 400_000;
    let cluster = cluster();
    let contents: Vec<_> = (0..16).map(|file| noise(file, SIZE)).collect();
    for (file, content) in contents.iter().enumerate() {
        cluster.file(&format!("damaged/{file}"), content);
    }
    cluster.ctl(["put", "-r", "damaged"]).ok();
    chunks(&cluster, 2).iter().for_each(|file| flip_a_byte(file));
    block_on(async {
        let client = client(&cluster.client_config()).await;
        let got = api::get_all(&client, "damaged", contents.len() as u64).await;
        for (file, (content, (bytes, _))) in contents.iter().zip(&got).enumerate() {
            assert!(bytes == content, "file {file}");
        }
        let again = got.iter().filter(|(_, report)| report.rounds > 1).count();
        assert!(again > 0, "some met a bad copy");
    });
}

#[test]
fn a_file_whose_copies_are_all_damaged_is_refused_and_never_returned() {
    let cluster = cluster();
    cluster.put("file", noise(1, SIZE));
    for node in NODES {
        for file in chunks(&cluster, node) {
            flip_a_byte(&file);
        }
    }
    cluster.file("copy", "what was there before");
    cluster.ctl(["get", "file", "copy"]).exits(6).says("file");
    assert_eq!(cluster.read("copy"), b"what was there before");
    cluster.put("file", "new content heals it");
    assert_eq!(cluster.get("file"), b"new content heals it");
}

/// Copies a directory, as a backup does.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new directory");
    for name in harness::content::tree(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            fs::create_dir_all(target).expect("a new directory");
        } else {
            fs::copy(source, target).expect("a file can be copied");
        }
    }
}

/// Waits for the end of a node that must not stay, and returns what it logged last.
fn assert_ends(cluster: &mut Cluster, node: usize) -> String {
    let logged = cluster.log(node).len();
    let mut process: Process = cluster.launch(node);
    let (address, over) = (cluster.address(node), AtomicBool::new(false));
    let (status, answered) = thread::scope(|scope| {
        // Nor lets anybody in before it ends.
        let knocking = scope.spawn(|| {
            let mut answered = false;
            while !over.load(Ordering::Relaxed) && !answered {
                answered = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
                thread::sleep(Duration::from_millis(1));
            }
            answered
        });
        let status = process.wait(Duration::from_secs(20));
        over.store(true, Ordering::Relaxed);
        (status, knocking.join().expect("it knocks"))
    });
    assert!(!answered, "it let somebody in");
    let log = cluster.log(node)[logged..].to_owned();
    assert_ne!(status.code(), Some(0), "{log}");
    log
}

#[test]
fn a_node_whose_disk_was_emptied_does_not_serve() {
    let mut cluster = cluster();
    let content = noise(1, SIZE);
    cluster.put("file", &content);
    wait_until_met(&cluster);
    cluster.kill(2);
    fs::remove_dir_all(cluster.data_dir(2)).expect("the node is down");
    let config = cluster.node_config(2);
    // Whether `init` or `serve` finds out, the node may not take part with an empty disk.
    let (made, said) = cluster.dfsd(["init", "--config", config.to_str().expect("UTF-8")]);
    let said = if made.success() { assert_ends(&mut cluster, 2) } else { said };
    assert!(said.contains("rejoin"), "{said}");
    for lost in [&[2][..], &[2, 4]] {
        cluster.run_without(lost);
        assert!(cluster.get("file") == content);
    }
}

#[test]
fn a_node_whose_disk_was_restored_from_a_backup_does_not_serve() {
    let mut cluster = cluster();
    cluster.put("file", "before the backup");
    cluster.stop(3);
    let backup = cluster.work_dir().join("backup");
    copy_dir(&cluster.data_dir(3), &backup);
    // The first start of the restored disk has the number of this one.
    cluster.start_node(3);
    cluster.put("file", "after the backup");
    wait_until_met(&cluster);
    cluster.kill(3);
    fs::remove_dir_all(cluster.data_dir(3)).expect("the node is down");
    copy_dir(&backup, &cluster.data_dir(3));
    let said = assert_ends(&mut cluster, 3);
    assert!(said.contains("rejoin"), "{said}");
    assert_eq!(cluster.get("file"), b"after the backup");
}

#[test]
fn a_node_whose_disk_went_back_within_its_last_run_does_not_serve() {
    let mut cluster = cluster();
    cluster.put("file", "before the copy");
    wait_until_met(&cluster);
    // All of a disk at one moment. The first start of the copy follows the run that is known.
    cluster.freeze(3);
    let backup = cluster.work_dir().join("backup");
    copy_dir(&cluster.data_dir(3), &backup);
    cluster.thaw(3);
    for number in 0..4 {
        cluster.put("file", format!("after the copy, {number}"));
    }
    // Says hello at its start, and so hears how far the others are.
    cluster.stop(1);
    cluster.start_node(1);
    wait_until_met(&cluster);
    cluster.kill(3);
    fs::remove_dir_all(cluster.data_dir(3)).expect("the node is down");
    copy_dir(&backup, &cluster.data_dir(3));
    let said = assert_ends(&mut cluster, 3);
    assert!(said.contains("restored from a copy"), "{said}");
    assert_eq!(cluster.get("file"), b"after the copy, 3");
}

/// Waits until every node remembers the others as they are now.
fn wait_until_met(cluster: &Cluster) {
    use dfs_proto::wire::pb;
    harness::api::block_on(async {
        for node in NODES {
            let mut api = cluster.api(node).await;
            let mut met = false;
            for _ in 0..200 {
                let info = api.client.get_node_info(pb::GetNodeInfoRequest {}).await;
                let info = info.expect("an answer").into_inner();
                let seen = info.peers.iter().filter(|peer| peer.last_seen_ms > 0).count();
                met = seen >= 3;
                if met {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(met, "node {node} has not met the others");
        }
    });
}
