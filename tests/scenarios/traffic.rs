//! How many bytes a get and a put move, and from whom.

use harness::api::{self, block_on, client};
use harness::cluster::NODES;
use harness::content::{noise, with_x};
use harness::proxy::Mode;
use harness::{Cluster, Proxy, wait};
use std::time::Duration;

use crate::cluster;

const MIB: u64 = 1 << 20;

/// What a get may receive of a file of `size` bytes.
fn allowance(size: u64) -> u64 {
    size + size / 100 + (64 << 10)
}

fn put(cluster: &Cluster, name: &str, seed: u64, size: u64) -> Vec<u8> {
    let content = noise(seed, usize::try_from(size).expect("it fits"));
    cluster.file(name, &content);
    cluster.ctl(["put", name]).ok();
    content
}

#[test]
fn a_put_sends_two_chunks_to_each_node() {
    let cluster = cluster();
    cluster.file("file", noise(1, 16 << 20));
    let stats = cluster.ctl(["put", "--stats", "file"]).ok().stats();
    assert_eq!(stats.bytes, 16 * MIB);
    assert_eq!(stats.per_node, [8 * MIB; 4]);
}

#[test]
fn a_get_receives_four_chunks_one_from_each_node() {
    let cluster = cluster();
    for x in 0..4 {
        for size in [1000, 400_000, 16 * MIB] {
            let content = with_x(x, 1, usize::try_from(size).expect("it fits"));
            cluster.put("file", &content);
            let get = cluster.ctl(["get", "--stats", "file", "copy"]).ok();
            assert!(cluster.read("copy") == content);
            let stats = get.stats();
            assert_eq!(stats.bytes, size);
            assert_eq!(stats.per_node, [size / 4; 4], "x {x}");
        }
    }
}

#[test]
fn gets_read_their_streams_to_the_end() {
    /// So few at once ask all nodes.
    const FILES: u64 = 7;
    let mut cluster = cluster();
    for file in 0..FILES {
        cluster.file(&format!("small/{file}"), noise(file, 1000));
    }
    cluster.ctl(["put", "-r", "small"]).ok();
    // Each file lacks a chunk then, which is asked for by itself.
    cluster.kill(4);
    let proxies = Proxy::to_all(cluster.addresses());
    let config = cluster.client_config_with("counted.yaml", proxies.each_ref().map(Proxy::address));
    block_on(async {
        let client = client(&config).await;
        for _ in 0..400 {
            api::get_all(&client, "small", FILES).await;
        }
        client.close().await;
    });
    let [calls, resets] = [Proxy::calls, Proxy::resets].map(|of| proxies.each_ref().map(of));
    assert!(calls.iter().sum::<u64>() > 1000, "{calls:?}");
    assert_eq!(resets, [0; 4], "a connection bears only so many");
}

#[test]
fn a_get_moves_no_more_over_the_network_than_it_says() {
    let cluster = cluster();
    let size = 16 * MIB;
    put(&cluster, "file", 1, size);
    let proxies = Proxy::to_all(cluster.addresses());
    let config = cluster.client_config_with("counted.yaml", proxies.each_ref().map(Proxy::address));
    let config = config.to_str().expect("UTF-8");
    cluster.ctl(["--config", config, "get", "file", "copy"]).ok();
    let received: u64 = proxies.iter().map(Proxy::from_node).sum();
    assert!(received >= size, "{received}");
    assert!(received <= allowance(size), "{received} bytes for a file of {size}");
}

#[test]
fn a_chosen_pair_sends_everything_and_the_others_nothing() {
    let cluster = cluster();
    for size in [1000, 16 * MIB] {
        let content = put(&cluster, "file", 1, size);
        for (pair, idle) in [("1,3", [1, 3]), ("2,4", [0, 2])] {
            let get = cluster.ctl(["get", "--stats", "--pair", pair, "file", "copy"]);
            let stats = get.ok().stats();
            assert!(cluster.read("copy") == content);
            assert_eq!(idle.map(|index| stats.per_node[index]), [0, 0], "pair {pair}");
            let received: u64 = stats.per_node.iter().sum();
            assert!(received >= size && received <= allowance(size));
        }
    }
    cluster.ctl(["get", "--pair", "1,2", "file", "copy"]).exits(2);
}

#[test]
fn with_a_node_down_the_others_send_four_chunks() {
    let mut cluster = cluster();
    let size = 16 * MIB;
    let content = put(&cluster, "file", 1, size);
    for down in NODES {
        cluster.run_without(&[down]);
        let get = cluster.ctl(["get", "--stats", "file", "copy"]).ok();
        assert!(cluster.read("copy") == content);
        let stats = get.stats();
        assert_eq!(stats.per_node[down - 1], 0);
        let received: u64 = stats.per_node.iter().sum();
        assert!(received >= size && received <= allowance(size), "{received}");
    }
}

#[test]
fn a_node_that_dies_in_the_middle_of_a_get_is_replaced() {
    let cluster = cluster();
    let size = 32 * MIB;
    let content = put(&cluster, "file", 1, size);
    for dying in NODES {
        let proxies = Proxy::to_all(cluster.addresses());
        let addresses = proxies.each_ref().map(Proxy::address);
        let config = cluster.client_config_with("dying.yaml", addresses);
        let config = config.to_str().expect("UTF-8");
        proxies[dying - 1].die_after(3 * MIB);
        let get = cluster.ctl(["--config", config, "get", "--stats", "file", "copy"]);
        let stats = get.ok().stats();
        assert!(cluster.read("copy") == content, "node {dying} died");
        let received: u64 = stats.per_node.iter().sum();
        let blocks_under_way = 2 * MIB;
        assert!(
            received <= allowance(size) + blocks_under_way,
            "it goes on where the other one stopped: {stats:?}"
        );
    }
}

#[test]
fn opposite_nodes_that_die_in_the_middle_of_a_get_are_replaced_and_neighbours_are_named() {
    let cluster = cluster();
    let content = put(&cluster, "file", 1, 32 * MIB);
    for (dying, survives) in [([1, 3], true), ([2, 4], true), ([1, 2], false), ([4, 1], false)] {
        let proxies = Proxy::to_all(cluster.addresses());
        let addresses = proxies.each_ref().map(Proxy::address);
        let config = cluster.client_config_with("dying.yaml", addresses);
        let config = config.to_str().expect("UTF-8");
        for node in dying {
            proxies[node - 1].die_after(2 * MIB);
        }
        let name = format!("copy-{}-{}", dying[0], dying[1]);
        let get = cluster.ctl(["--config", config, "get", "file", &name]);
        if survives {
            get.ok();
            assert!(cluster.read(&name) == content, "{dying:?} died");
        } else {
            get.exits(5).says("file is incomplete");
            assert!(!cluster.work_dir().join(&name).exists());
        }
    }
}

#[test]
fn a_node_killed_in_the_middle_of_a_get_is_replaced() {
    let mut cluster = cluster();
    let content = put(&cluster, "file", 1, 32 * MIB);
    let proxies = Proxy::to_all(cluster.addresses());
    let addresses = proxies.each_ref().map(Proxy::address);
    let config = cluster.client_config_with("slow.yaml", addresses);
    for proxy in &proxies {
        proxy.pace(8 * MIB);
    }
    let get = cluster.dfsctl().arg("--config").arg(config);
    let get = get.args(["get", "file", "copy"]).start();
    wait::until_true("bytes flow", Duration::from_secs(30), || proxies[1].from_node() > MIB);
    cluster.kill(2);
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    get.finish().ok();
    assert!(cluster.read("copy") == content);
}

#[test]
fn a_node_that_falls_silent_in_the_middle_of_a_get_is_replaced() {
    let cluster = cluster();
    let content = put(&cluster, "file", 1, 32 * MIB);
    let proxies = Proxy::to_all(cluster.addresses());
    let addresses = proxies.each_ref().map(Proxy::address);
    let config = cluster.client_config_with("slow.yaml", addresses);
    proxies.iter().for_each(|proxy| proxy.pace(8 * MIB));
    let get = cluster.dfsctl().arg("--config").arg(config);
    let get = get.args(["get", "file", "copy"]).start();
    wait::until_true("bytes flow", Duration::from_secs(30), || proxies[3].from_node() > MIB);
    proxies[3].set(Mode::Swallow);
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    get.finish().ok().within(Duration::from_secs(30));
    assert!(cluster.read("copy") == content);
}
