//! Nodes that crash, stop and come back.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::cluster::{NODES, STOP_LIMIT};
use harness::content::noise;
use harness::process::Signal;
use harness::{Cluster, Proxy, wait};

use crate::{PROGRAMS, cluster};

#[test]
fn what_was_acknowledged_is_there_after_all_nodes_crashed() {
    let mut cluster = cluster();
    for round in 0..3u64 {
        let (small, large) = (noise(round, 1000), noise(round, 2_000_000));
        cluster.put("small", &small);
        cluster.put("large", &large);
        cluster.run_only(&[]);
        cluster.run_only(&NODES);
        assert!(cluster.get("small") == small, "round {round}");
        assert!(cluster.get("large") == large, "round {round}");
        assert_eq!(cluster.list(), ["large", "small"]);
    }
}

#[test]
fn a_node_that_crashed_right_after_the_answer_has_the_file() {
    let mut cluster = cluster();
    for node in NODES {
        let name = format!("file-{node}");
        let content = noise(node as u64, 500_000);
        cluster.put(&name, &content);
        cluster.kill(node);
        cluster.start_node(node);
        let opposite = (node + 1) % 4 + 1;
        let pair = format!("{},{}", node.min(opposite), node.max(opposite));
        let get = cluster.ctl(["get", "--pair", &pair, &name, "-"]).ok();
        assert!(get.stdout == content, "node {node}");
    }
}

#[test]
fn a_node_ends_well_when_asked_to_and_comes_back() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    for node in NODES {
        let (status, took) = cluster.stop(node);
        assert_eq!(status.code(), Some(0), "node {node}");
        assert!(took <= STOP_LIMIT, "node {node} took {took:?}");
        cluster.start_node(node);
    }
    assert_eq!(cluster.get("file"), b"content");
    assert_eq!(cluster.ctl(["list"]).ok().lines(), ["file"]);
}

#[test]
fn a_node_asked_to_end_does_not_wait_for_a_slow_client() {
    let mut cluster = cluster();
    cluster.file("large", noise(1, 64 << 20));
    let proxies = Proxy::to_all(cluster.addresses());
    let addresses = proxies.each_ref().map(Proxy::address);
    let config = cluster.client_config_with("slow.yaml", addresses);
    proxies[1].pace(1 << 20);
    let put = cluster.dfsctl().arg("--config").arg(config);
    let put = put.args(["put", "large"]).start();
    wait::until_true("bytes flow", Duration::from_secs(60), || proxies[1].to_node() > 1 << 20);
    let (status, took) = cluster.stop(2);
    assert_eq!(status.code(), Some(0));
    assert!(took <= STOP_LIMIT, "{took:?}");
    put.finish().ok();
    cluster.run_without(&[2, 4]);
    assert!(cluster.get("large") == noise(1, 64 << 20));
}

#[test]
fn a_node_asked_twice_to_end_ends_at_once() {
    let cluster = cluster();
    cluster.file("large", noise(1, 64 << 20));
    let proxies = Proxy::to_all(cluster.addresses());
    let addresses = proxies.each_ref().map(Proxy::address);
    let config = cluster.client_config_with("slow.yaml", addresses);
    proxies.iter().for_each(|proxy| proxy.pace(1 << 20));
    let put = cluster.dfsctl().arg("--config").arg(config);
    let put = put.args(["put", "large"]).start();
    wait::until_true("bytes flow", Duration::from_secs(60), || proxies[0].to_node() > 1 << 20);
    let node = cluster.process(1);
    node.signal(Signal::TERM);
    wait::until_true("it takes no more connections", Duration::from_secs(10), || {
        TcpStream::connect(cluster.address(1)).is_err()
    });
    node.signal(Signal::TERM);
    wait::until_true("it has ended", Duration::from_secs(2), || node.peak_memory_kib().is_none());
    put.kill();
}

/// The nodes that `dfsd dev` runs, by whether they listen.
fn listening(cluster: &Cluster) -> usize {
    let up = |address: &SocketAddr| TcpStream::connect(address).is_ok();
    cluster.addresses().iter().filter(|address| up(address)).count()
}

#[test]
fn a_development_cluster_runs_and_ends_as_one() {
    let cluster = Cluster::written(PROGRAMS);
    let limit = Duration::from_secs(30);
    for (round, signal) in [Signal::TERM, Signal::INT, Signal::KILL].into_iter().enumerate() {
        let mut dev = cluster.launch_dev();
        wait::until_true("four nodes listen", limit, || {
            assert_eq!(dev.ended(), None, "dfsd dev ended at its start");
            listening(&cluster) == 4
        });
        let log = cluster.dir().parent().expect("it is in one").join("dev.log");
        wait::until_true("it is said that they are ready", limit, || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            log.contains("all four nodes are ready; in another terminal: dfsctl --config")
        });
        cluster.file("content", "content");
        let put = cluster.ctl(["put", "content", &format!("file-{round}")]).ok();
        assert_eq!(put.stderr, "", "no node is left out");
        assert_eq!(cluster.list().len(), round + 1);
        dev.signal(signal);
        let status = dev.wait(limit);
        let expected = if signal == Signal::KILL { None } else { Some(0) };
        assert_eq!(status.code(), expected, "after {signal:?}");
        wait::until_true("no node listens", limit, || listening(&cluster) == 0);
    }
}

#[test]
fn a_node_that_dies_in_the_middle_of_a_put_is_replaced() {
    let mut cluster = cluster();
    let content = noise(1, 32 << 20);
    cluster.file("large", &content);
    for dying in NODES {
        let proxies = Proxy::to_all(cluster.addresses());
        let addresses = proxies.each_ref().map(Proxy::address);
        let config = cluster.client_config_with("slow.yaml", addresses);
        proxies.iter().for_each(|proxy| proxy.pace(16 << 20));
        let put = cluster.dfsctl().arg("--config").arg(config);
        let name = format!("put-{dying}");
        let put = put.args(["put", "large", &name]).start();
        wait::until_true("bytes flow", Duration::from_secs(60), || {
            proxies[dying - 1].to_node() > 2 << 20
        });
        cluster.kill(dying);
        proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
        put.finish().ok().says(&format!("node {dying}"));
        cluster.start_node(dying);
    }
    for lost in [[1, 3], [2, 4]] {
        cluster.run_without(&lost);
        for dying in NODES {
            let fetched = cluster.get(&format!("put-{dying}"));
            assert!(fetched == content, "{dying} died, {lost:?} lost");
        }
    }
}
