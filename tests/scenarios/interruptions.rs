//! Clients that end before their work is done.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use harness::cluster::{NODES, USER};
use harness::content::{noise, tree, with_x};
use harness::ctl::Running;
use harness::process::Signal;
use harness::{Cluster, Proxy, Rng, wait};

use crate::cluster;

const MIB: u64 = 1 << 20;

/// Puts by a client that is killed.
const KILLS: usize = 40;

/// Proxies before all nodes, and a client configuration that names them.
fn slow_network(cluster: &Cluster) -> ([Proxy; 4], PathBuf) {
    let proxies = Proxy::to_all(cluster.addresses());
    let config = cluster.client_config_with("slow.yaml", proxies.each_ref().map(Proxy::address));
    (proxies, config)
}

/// Starts a put of 64 MiB that takes seconds, and waits until every node has got some of it.
fn put_under_way(cluster: &Cluster, proxies: &[Proxy; 4], config: &PathBuf) -> Running {
    proxies.iter().for_each(|proxy| proxy.pace(8 * MIB));
    let put = cluster.dfsctl().arg("--config").arg(config);
    let put = put.args(["put", "large", "path"]).start();
    wait::until_true("bytes flow", Duration::from_secs(60), || {
        proxies.iter().all(|proxy| proxy.to_node() > MIB)
    });
    put
}

fn assert_nothing_is_staged(cluster: &Cluster) {
    for node in NODES {
        wait::until_true("staged data is gone", Duration::from_secs(10), || {
            cluster.chunk_files(node, USER).is_empty()
        });
    }
}

#[test]
fn a_client_killed_at_any_moment_leaves_the_old_content_or_the_new() {
    let cluster = cluster();
    let mut rng = Rng::fresh();
    let versions: Vec<Vec<u8>> = (0..4).map(|x| with_x(x, 3, 6_000_000)).collect();
    for (number, version) in versions.iter().enumerate() {
        cluster.file(&number.to_string(), version);
    }
    let whole = cluster.ctl(["put", "0", "path"]).ok().elapsed;
    let mut current = 0;
    let mut seen_old = 0;
    for round in 0..KILLS {
        let next = (current + 1) % versions.len();
        let put = cluster.dfsctl().args(["put", &next.to_string(), "path"]).start();
        // The moment of death is what is random here; nothing waits for it.
        let permille = u32::try_from(rng.below(1100)).expect("small");
        std::thread::sleep(whole * permille / 1000);
        put.kill();
        let fetched = cluster.get("path");
        if fetched == versions[next] {
            current = next;
        } else {
            assert!(fetched == versions[current], "round {round}: neither old nor new");
            seen_old += 1;
        }
        assert!(cluster.get("path") == fetched, "round {round}: it changed by itself");
    }
    eprintln!("{seen_old} of {KILLS} left the old content");
    assert_eq!(cluster.list(), ["path"]);
}

#[test]
fn a_new_file_whose_client_was_killed_is_there_or_not() {
    let cluster = cluster();
    let mut rng = Rng::fresh();
    let content = noise(1, 2_000_000);
    cluster.file("file", &content);
    let whole = cluster.ctl(["put", "file", "first"]).ok().elapsed;
    for round in 0..KILLS / 2 {
        let name = format!("new-{round}");
        let put = cluster.dfsctl().args(["put", "file", &name]).start();
        let permille = u32::try_from(rng.below(1100)).expect("small");
        std::thread::sleep(whole * permille / 1000);
        put.kill();
        let get = cluster.ctl(["get", &name, "-"]);
        match get.code {
            Some(0) => assert!(get.stdout == content, "round {round}"),
            code => assert_eq!(code, Some(3), "round {round}: {get}"),
        }
        let listed = cluster.list().contains(&name);
        assert_eq!(listed, get.code == Some(0), "round {round}");
    }
}

#[test]
fn an_interrupted_put_leaves_nothing_behind() {
    let cluster = cluster();
    cluster.file("large", noise(1, 64 << 20));
    let (proxies, config) = slow_network(&cluster);
    let put = put_under_way(&cluster, &proxies, &config);
    put.signal(Signal::INT);
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    put.finish().exits(130);
    assert_nothing_is_staged(&cluster);
    assert_eq!(cluster.list(), [""; 0]);
    cluster.ctl(["put", "large", "path"]).ok();
    assert!(cluster.get("path") == noise(1, 64 << 20));
}

#[test]
fn an_interrupted_get_leaves_no_file() {
    let cluster = cluster();
    cluster.file("sources/large", noise(1, 64 << 20));
    cluster.ctl(["put", "sources/large"]).ok();
    cluster.file("target/large", "what was there before");
    let (proxies, config) = slow_network(&cluster);
    proxies.iter().for_each(|proxy| proxy.pace(8 * MIB));
    for target in ["target/large", "target/new"] {
        let get = cluster.dfsctl().arg("--config").arg(&config);
        let before: u64 = proxies.iter().map(Proxy::from_node).sum();
        let get = get.args(["get", "large", target]).start();
        wait::until_true("bytes flow", Duration::from_secs(30), || {
            proxies.iter().map(Proxy::from_node).sum::<u64>() > before + MIB
        });
        get.signal(Signal::INT);
        get.finish().exits(130);
        assert_eq!(tree(&cluster.work_dir().join("target")), ["large"]);
    }
    assert_eq!(cluster.read("target/large"), b"what was there before");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let cluster = cluster();
    let content = noise(1, 64 << 20);
    let file = cluster.file("large", &content);
    let (proxies, config) = slow_network(&cluster);
    // The first pass is over when bytes flow; the last block has not been read again yet.
    let put = put_under_way(&cluster, &proxies, &config);
    let opened = File::options().write(true).open(&file).expect("it was written");
    let last = content.len() as u64 - 1;
    let changed = content[content.len() - 1] ^ 1;
    opened.write_all_at(&[changed], last).expect("one byte");
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    let put = put.finish().exits(1);
    put.says("path put failed: changed while being read");
    assert_nothing_is_staged(&cluster);
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_refused() {
    let cluster = cluster();
    let file = cluster.file("large", noise(1, 64 << 20));
    let (proxies, config) = slow_network(&cluster);
    let put = put_under_way(&cluster, &proxies, &config);
    let opened = File::options().write(true).open(&file).expect("it was written");
    opened.set_len(50 << 20).expect("a file can be cut");
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    let put = put.finish().exits(1);
    put.says("path put failed: changed while being read");
    assert_nothing_is_staged(&cluster);
}
