//! Nodes that neither answer nor refuse: every operation still ends, and ends right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use harness::api::block_on;
use harness::cluster::NODES;
use harness::content::noise;
use harness::proxy::{BlackHole, Mode};
use harness::{Cluster, Proxy, wait};

use crate::cluster;

/// Connecting has 1 s, logging in 10 s, a unary call 5 s, a stream 10 s without progress. An
/// operation meets a node that stalls once, then leaves it out; the rest is for the machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A client configuration in which this address stands for `node`.
fn config_with(cluster: &Cluster, node: usize, address: SocketAddr) -> PathBuf {
    let mut addresses = cluster.addresses();
    addresses[node - 1] = address;
    cluster.client_config_with(&format!("with-{node}.yaml"), addresses)
}

/// Runs every kind of command at once with one node that stalls.
fn assert_all_operations_end_right(cluster: &Cluster, config: &PathBuf) {
    let (kept, large) = (noise(1, 1000), noise(2, 9 << 20));
    let run = |args: &[&str]| cluster.dfsctl().arg("--config").arg(config).args(args).start();
    cluster.file("new", &large);
    let running = [
        run(&["get", "kept", "-"]),
        run(&["get", "large", "copy"]),
        run(&["put", "new"]),
        run(&["put", "new", "overwritten"]),
        run(&["rm", "removed"]),
        run(&["list", "kept"]),
        run(&["stat", "kept"]),
    ];
    let done = running.map(|command| command.finish().within(LIMIT).ok());
    assert!(done[0].stdout == kept);
    assert!(cluster.read("copy") == large);
    assert_eq!(done[5].lines(), ["kept"]);
    // Whether the node still counts or not, `status` tells of it.
    let status = run(&["status"]).finish().within(LIMIT);
    assert_eq!(status.lines().len().min(4), 4, "{status}");

    for name in ["new", "overwritten"] {
        let get = cluster.dfsctl().arg("--config").arg(config);
        assert!(get.args(["get", name, "-"]).run().ok().stdout == large);
    }
}

fn prepare(cluster: &Cluster) {
    cluster.put("kept", noise(1, 1000));
    cluster.put("large", noise(2, 9 << 20));
    cluster.put("overwritten", "old");
    cluster.put("removed", "old");
}

#[test]
fn a_node_that_is_stopped_is_left_out() {
    let mut cluster = cluster();
    prepare(&cluster);
    cluster.freeze(2);
    assert_all_operations_end_right(&cluster, &cluster.client_config());
    cluster.thaw(2);
    let lists = cluster.ctl(["list"]).ok();
    assert_eq!(lists.lines(), ["kept", "large", "new", "overwritten"]);
    // What went past the stopped node survives the loss of two others.
    cluster.run_without(&[1, 3]);
    assert!(cluster.get("new") == noise(2, 9 << 20));
}

#[test]
fn an_address_where_nobody_answers_is_left_out() {
    let cluster = cluster();
    prepare(&cluster);
    block_on(async {
        let hole = BlackHole::new().await;
        let config = config_with(&cluster, 3, hole.address());
        assert_all_operations_end_right(&cluster, &config);
        let get = cluster.dfsctl().arg("--config").arg(&config);
        let get = get.args(["get", "kept", "-"]).run();
        get.ok().within(Duration::from_secs(5));
    });
}

#[test]
fn a_node_that_closes_every_connection_is_left_out() {
    let cluster = cluster();
    prepare(&cluster);
    let proxy = Proxy::to(cluster.address(4));
    proxy.set(Mode::Close);
    let config = config_with(&cluster, 4, proxy.address());
    assert_all_operations_end_right(&cluster, &config);
    let get = cluster.dfsctl().arg("--config").arg(&config);
    get.args(["get", "kept", "-"]).run().ok().within(Duration::from_secs(5));
}

#[test]
fn a_node_that_swallows_everything_is_left_out() {
    let cluster = cluster();
    prepare(&cluster);
    let proxy = Proxy::to(cluster.address(1));
    proxy.set(Mode::Swallow);
    let config = config_with(&cluster, 1, proxy.address());
    assert_all_operations_end_right(&cluster, &config);
}

#[test]
fn nodes_that_are_needed_are_waited_for_while_they_may_answer() {
    let cluster = cluster();
    prepare(&cluster);
    let slow = [3, 4].map(|node| Proxy::to(cluster.address(node)));
    let [first, second, ..] = cluster.addresses();
    let addresses = [first, second, slow[0].address(), slow[1].address()];
    let config = cluster.client_config_with("slow.yaml", addresses);
    slow.iter().for_each(|proxy| proxy.set(Mode::Hold));

    // Nodes 1 and 2 can tell which version counts, but have no whole copy of it.
    let run = |args: &[&str]| cluster.dfsctl().arg("--config").arg(&config).args(args).start();
    let mut running = [
        run(&["get", "kept", "-"]),
        run(&["get", "large", "copy"]),
        run(&["put", "-", "overwritten"]),
        run(&["--output", "json", "list", "kept"]),
    ];
    // As slow as a node is that has many logins to check.
    std::thread::sleep(Duration::from_secs(4));
    for command in &mut running {
        assert!(command.is_running(), "it has not given up");
    }
    slow.iter().for_each(|proxy| proxy.set(Mode::Forward));
    let done = running.map(|command| command.finish().ok());
    assert!(done[0].stdout == noise(1, 1000));
    assert!(cluster.read("copy") == noise(2, 9 << 20));
    assert_eq!(done[3].json()[0]["state"], serde_json::json!("complete"));
}

#[test]
fn with_all_nodes_stopped_every_command_gives_up() {
    let cluster = cluster();
    cluster.put("file", "content");
    NODES.into_iter().for_each(|node| cluster.freeze(node));
    let run = |args: &[&str]| cluster.dfsctl().args(args).start();
    cluster.file("new", "content");
    let running = [
        run(&["get", "file", "-"]),
        run(&["put", "new"]),
        run(&["rm", "file"]),
        run(&["list"]),
        run(&["stat", "file"]),
    ];
    for command in running {
        command.finish().within(LIMIT).exits(5);
    }
    NODES.into_iter().for_each(|node| cluster.thaw(node));
    assert_eq!(cluster.list(), ["file"]);
}

#[test]
fn a_node_that_stalls_in_the_middle_of_a_put_is_replaced() {
    let mut cluster = cluster();
    let content = noise(1, 64 << 20);
    cluster.file("large", &content);
    let proxies = Proxy::to_all(cluster.addresses());
    let addresses = proxies.each_ref().map(Proxy::address);
    let config = cluster.client_config_with("slow.yaml", addresses);
    proxies.iter().for_each(|proxy| proxy.pace(8 << 20));
    let put = cluster.dfsctl().arg("--config").arg(config);
    let put = put.args(["put", "large"]).start();
    wait::until_true("bytes flow", Duration::from_secs(60), || proxies[2].to_node() > 2 << 20);
    cluster.freeze(3);
    proxies.iter().for_each(|proxy| proxy.pace(u64::MAX));
    put.finish().ok().says("node 3").within(2 * LIMIT);
    cluster.thaw(3);
    for lost in [[1, 3], [2, 4]] {
        cluster.run_without(&lost);
        assert!(cluster.get("large") == content, "{lost:?} lost");
    }
}
