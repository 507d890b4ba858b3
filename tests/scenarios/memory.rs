//! Memory does not grow with the file.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use harness::Cluster;
use harness::cluster::NODES;
use harness::content::sparse_file;

use crate::PROGRAMS;

const SIZE: u64 = 2 << 30;
const CLIENT_KIB: u64 = 64 << 10;
/// With more files at once than a client does by itself.
const CROWDED_KIB: u64 = 72 << 10;
const NODE_KIB: u64 = 128 << 10;

fn assert_same(a: &Path, b: &Path) {
    let open = |path| BufReader::with_capacity(1 << 20, File::open(path).expect("it is there"));
    let (mut a, mut b) = (open(a), open(b));
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for block in 0..SIZE >> 20 {
        a.read_exact(&mut left).expect("it is as long as that");
        b.read_exact(&mut right).expect("it is as long as that");
        assert!(left == right, "block {block} differs");
    }
    assert_eq!(b.read(&mut right).expect("it can be read"), 0, "it is longer");
}

#[test]
fn two_gib_go_in_and_out_in_less_than_128_mib_of_memory() {
    let cluster = Cluster::start_alone(PROGRAMS);
    let (large, copy) = ("large", "copy");
    let source = cluster.work_dir().join(large);
    sparse_file(&source, 1, SIZE);
    let start = |args: [&str; 3]| {
        let ctl = cluster.dfsctl().args(args).limit(Duration::from_secs(300));
        ctl.start()
    };

    let (put, put_peak) = start(["put", large, "path"]).finish_and_weigh();
    let put = put.ok();
    let (get, get_peak) = start(["get", "path", copy]).finish_and_weigh();
    let get = get.ok();
    assert_same(&source, &cluster.work_dir().join(copy));

    eprintln!("put {:?} {put_peak} KiB, get {:?} {get_peak} KiB", put.elapsed, get.elapsed);
    assert!(put_peak < CLIENT_KIB, "the putting client: {put_peak} KiB");
    assert!(get_peak < CLIENT_KIB, "the getting client: {get_peak} KiB");
    assert_nodes_are_small(&cluster);
}

#[test]
fn many_large_files_at_once_take_little_more_memory_than_one() {
    const FILES: u64 = 12;
    let cluster = Cluster::start_alone(PROGRAMS);
    let folder = cluster.work_dir().join("large");
    fs::create_dir(&folder).expect("it is new");
    for file in 0..FILES {
        sparse_file(&folder.join(file.to_string()), file, 32 << 20);
    }
    let start = |args: [&str; 5]| {
        let ctl = cluster.dfsctl().args(args).limit(Duration::from_secs(120));
        ctl.start().finish_and_weigh()
    };
    let (put, put_peak) = start(["put", "-r", "large", "here", "--jobs=64"]);
    put.ok();
    let (get, get_peak) = start(["get", "-r", "here", "copies", "--jobs=64"]);
    get.ok();
    eprintln!("put {put_peak} KiB, get {get_peak} KiB");
    assert!(put_peak < CROWDED_KIB, "the putting client: {put_peak} KiB");
    assert!(get_peak < CROWDED_KIB, "the getting client: {get_peak} KiB");
    assert_nodes_are_small(&cluster);
}

fn assert_nodes_are_small(cluster: &Cluster) {
    for node in NODES {
        let peak = cluster.process(node).peak_memory_kib().expect("it runs");
        eprintln!("node {node}: {peak} KiB");
        assert!(peak < NODE_KIB, "node {node}: {peak} KiB");
    }
}
