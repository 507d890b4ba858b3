//! Transfers that were cut off and go on where they were.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use harness::content::{noise, tree};
use harness::ctl::{Ctl, Running};
use harness::process::Signal;
use harness::{Cluster, Proxy, wait};

use crate::cluster;

const MIB: u64 = 1 << 20;

/// Longer than what is fetched again for want of a note of it.
const SIZE: u64 = 96 * MIB;

/// What has come when a transfer is cut off, at least.
const CAME: u64 = 24 * MIB;

/// A cluster behind proxies.
struct Net {
    cluster: Cluster,
    proxies: [Proxy; 4],
    config: PathBuf,
}

impl Net {
    fn new() -> Self {
        let cluster = cluster();
        let proxies = Proxy::to_all(cluster.addresses());
        let addresses = proxies.each_ref().map(Proxy::address);
        let config = cluster.client_config_with("proxies.yaml", addresses);
        Self { cluster, proxies, config }
    }

    /// A cluster with a file, and its content.
    fn with_file() -> (Self, Vec<u8>) {
        let net = Self::new();
        let content = noise(1, usize::try_from(SIZE).expect("it fits"));
        net.cluster.file("sources/large", &content);
        net.cluster.ctl(["put", "sources/large"]).ok();
        (net, content)
    }

    fn dfsctl(&self) -> Ctl {
        self.cluster.dfsctl().arg("--config").arg(&self.config)
    }

    fn pace(&self, bytes_per_second: u64) {
        self.proxies.iter().for_each(|proxy| proxy.pace(bytes_per_second));
    }

    fn received(&self) -> u64 {
        self.proxies.iter().map(Proxy::from_node).sum()
    }

    /// A slow get to `target/large` of which some has come.
    fn get_under_way(&self) -> Running {
        fs::create_dir_all(self.target()).expect("a directory");
        self.pace(16 * MIB);
        let before = self.received();
        let get = self.dfsctl().args(["get", "large", "target/large"]).start();
        wait::until_true("bytes flow", Duration::from_secs(60), || {
            self.received() > before + CAME + 8 * MIB
        });
        get
    }

    fn target(&self) -> PathBuf {
        self.cluster.work_dir().join("target")
    }

    /// Gets the file again; returns how many bytes that moved.
    fn get_again(&self, content: &[u8]) -> u64 {
        self.pace(u64::MAX);
        let get = self.dfsctl().args(["get", "--stats", "--verify", "large", "target/large"]).run();
        assert!(self.cluster.read("target/large") == content);
        assert_eq!(tree(&self.target()), ["large"]);
        let stats = get.ok().stats();
        let moved = stats.per_node.iter().sum();
        assert!(stats.bytes <= moved && moved <= stats.bytes + MIB, "{stats:?}");
        moved
    }
}

#[test]
fn a_get_whose_client_was_killed_goes_on_where_it_was() {
    let (net, content) = Net::with_file();
    net.get_under_way().kill();
    assert_eq!(tree(&net.target()), [".dfs-large.partial"]);
    let moved = net.get_again(&content);
    assert!(moved <= SIZE - CAME && moved > 0, "{moved}");
    assert!(net.get_again(&content) >= SIZE, "a whole file is fetched anew");
}

#[test]
fn an_interrupted_get_of_a_large_file_says_what_it_keeps() {
    let (net, content) = Net::with_file();
    let get = net.get_under_way();
    get.signal(Signal::INT);
    get.finish().exits(130).says("target/.dfs-large.partial");
    assert!(net.get_again(&content) <= SIZE - CAME);
}

#[test]
fn a_get_that_lost_too_many_nodes_goes_on_when_they_are_back() {
    let (net, content) = Net::with_file();
    let get = net.get_under_way();
    net.proxies[0].set(harness::proxy::Mode::Close);
    net.proxies[1].set(harness::proxy::Mode::Close);
    net.pace(u64::MAX);
    get.finish().exits(5).says("large is incomplete").says(".dfs-large.partial");
    net.proxies.iter().for_each(|proxy| proxy.set(harness::proxy::Mode::Forward));
    assert!(net.get_again(&content) <= SIZE - CAME);
}

#[test]
fn what_was_damaged_of_a_cut_off_get_is_fetched_again() {
    let (net, content) = Net::with_file();
    net.get_under_way().kill();
    let partial = net.target().join(".dfs-large.partial");
    let mut bytes = fs::read(&partial).expect("a partial file");
    // In the first block of the first chunk.
    bytes[1000] ^= 1;
    fs::write(&partial, bytes).expect("a partial file");
    assert!(net.get_again(&content) < SIZE);
}

#[test]
fn what_has_come_of_another_version_is_not_used() {
    let (net, _) = Net::with_file();
    net.get_under_way().kill();
    let content = noise(2, usize::try_from(SIZE).expect("it fits"));
    net.cluster.file("sources/large", &content);
    net.cluster.ctl(["put", "sources/large"]).ok();
    assert!(net.get_again(&content) >= SIZE);
}

#[test]
fn two_gets_to_one_place_do_not_mix() {
    let (net, content) = Net::with_file();
    let first = net.get_under_way();
    let second = net.dfsctl().args(["get", "large", "target/large"]).start();
    wait::until_true("both are under way", Duration::from_secs(10), || {
        tree(&net.target()).len() == 2
    });
    net.pace(u64::MAX);
    for get in [first, second] {
        get.finish().ok();
        assert!(net.cluster.read("target/large") == content);
    }
    assert_eq!(tree(&net.target()), ["large"]);
}
