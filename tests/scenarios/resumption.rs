//! Transfers that were cut off and go on where they were.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use harness::cluster::{NODES, USER};
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

    /// A slow put of `large` of which every node has got at least so many bytes.
    fn put_under_way(&self, args: &[&str], bytes: u64) -> Running {
        self.pace(16 * MIB);
        let before = self.proxies.each_ref().map(Proxy::to_node);
        let put = self.dfsctl().args(["put"]).args(args).arg("large").start();
        wait::until_true("bytes flow", Duration::from_secs(60), || {
            self.proxies.iter().zip(before).all(|(proxy, before)| proxy.to_node() > before + bytes)
        });
        put
    }

    /// Waits until the nodes keep what has come of a stream that broke: parts of chunks, or whole
    /// ones where it broke between two.
    fn await_staged(&self) {
        let kept = |node: usize| {
            let staging = tree(&self.cluster.data_dir(node).join("staging"));
            let settled = staging.iter().all(|name| name.ends_with(".partial"));
            settled && !self.cluster.chunk_files(node, USER).is_empty()
        };
        wait::until_true("what has come is kept", Duration::from_secs(20), || {
            NODES.into_iter().all(kept)
        });
    }

    fn nothing_is_staged(&self) -> bool {
        let staged = |node| tree(&self.cluster.data_dir(node).join("staging"));
        NODES.into_iter().all(|node| staged(node).is_empty())
    }

    /// Puts again with `--resume`; returns how many bytes that moved.
    fn put_again(&self) -> u64 {
        self.pace(u64::MAX);
        let put = self.dfsctl().args(["put", "--resume", "--stats", "large"]).run().ok();
        assert_eq!(tree(&self.notes()), [""; 0]);
        put.stats().per_node.iter().sum()
    }

    /// Where the client keeps its notes.
    fn notes(&self) -> PathBuf {
        self.cluster.work_dir().join(".local/state/dfs")
    }

    /// The file, read through both pairs.
    fn assert_stored(&self, content: &[u8]) {
        for pair in ["1,3", "2,4"] {
            let get = self.cluster.ctl(["get", "--verify", "--pair", pair, "large", "-"]).ok();
            assert!(get.stdout == content, "pair {pair}");
        }
    }

    /// A slow get to `target/large` of which some has come.
    fn get_under_way(&self) -> Running {
        fs::create_dir_all(self.target()).expect("a directory");
        self.pace(16 * MIB);
        let partial = self.target().join(".dfs-large.partial");
        // Its holes take no room. Each of four streams may be in the middle of a block.
        let room = || fs::metadata(&partial).map_or(0, |about| about.blocks() * 512);
        let get = self.dfsctl().args(["get", "large", "target/large"]).start();
        wait::until_true("bytes flow", Duration::from_secs(60), || room() > CAME + 5 * MIB);
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

/// A cluster, and a local file that is to be put.
fn to_put() -> (Net, Vec<u8>) {
    let net = Net::new();
    let content = noise(3, usize::try_from(SIZE).expect("it fits"));
    net.cluster.file("large", &content);
    (net, content)
}

/// Twice the file: every chunk goes to two nodes.
const BOTH_COPIES: u64 = 2 * SIZE;

#[test]
fn a_put_whose_client_was_killed_goes_on_where_it_was() {
    let (net, content) = to_put();
    net.put_under_way(&["--resume"], 16 * MIB).kill();
    net.await_staged();
    assert_eq!(tree(&net.notes()).len(), 1);
    let moved = net.put_again();
    assert!(moved > 0 && moved <= BOTH_COPIES - 4 * 8 * MIB, "{moved}");
    net.assert_stored(&content);
    assert!(net.nothing_is_staged());
    assert_eq!(net.put_again(), BOTH_COPIES, "one that ended is not gone on with");
}

#[test]
fn an_interrupted_put_keeps_what_was_sent_only_if_asked_to() {
    let (net, content) = to_put();
    let put = net.put_under_way(&["--resume"], 16 * MIB);
    put.signal(Signal::INT);
    put.finish().exits(130).says("put --resume");
    net.await_staged();
    // Another put knows nothing of it, and leaves nothing.
    let put = net.put_under_way(&[], 4 * MIB);
    put.signal(Signal::INT);
    put.finish().exits(130);
    let moved = net.put_again();
    assert!(moved <= BOTH_COPIES - 4 * 8 * MIB, "{moved}");
    net.assert_stored(&content);
    wait::until_true("nothing is left", Duration::from_secs(10), || net.nothing_is_staged());
}

#[test]
fn a_file_that_has_changed_is_put_anew() {
    let (net, mut content) = to_put();
    net.put_under_way(&["--resume"], 16 * MIB).kill();
    net.await_staged();
    content[0] ^= 1;
    net.cluster.file("large", &content);
    assert_eq!(net.put_again(), BOTH_COPIES);
    net.assert_stored(&content);
    wait::until_true("nothing is left", Duration::from_secs(10), || net.nothing_is_staged());
}

#[test]
fn an_upload_whose_commit_was_sent_is_not_used_again() {
    let (net, content) = to_put();
    let put = net.put_under_way(&["--resume"], 4 * MIB);
    assert_eq!(tree(&net.notes()).len(), 1);
    net.pace(u64::MAX);
    // The note goes before the Commits do; what becomes of them nobody knows then.
    wait::until_true("the commit is near", Duration::from_secs(60), || {
        tree(&net.notes()).is_empty()
    });
    net.proxies.iter().for_each(|proxy| proxy.set(harness::proxy::Mode::Close));
    put.kill();
    net.proxies.iter().for_each(|proxy| proxy.set(harness::proxy::Mode::Forward));
    assert_eq!(net.put_again(), BOTH_COPIES);
    net.assert_stored(&content);
}

#[test]
fn a_put_goes_on_by_itself_after_a_node_was_restarted() {
    let (mut net, content) = to_put();
    let put = net.put_under_way(&["--stats"], 20 * MIB);
    net.cluster.kill(2);
    net.cluster.start_node(2);
    net.pace(u64::MAX);
    let stats = put.finish().ok().stats();
    net.assert_stored(&content);
    let state = net.cluster.ctl(["--output", "json", "stat", "large"]).ok().json();
    assert_eq!(state["state"], "complete", "nothing had to go elsewhere");
    assert!(stats.per_node[1] > SIZE / 2, "some of it was sent twice: {stats:?}");
    assert_eq!(stats.per_node[3], SIZE / 2);
    for lost in [[1, 3], [2, 4]] {
        net.cluster.run_without(&lost);
        assert!(net.cluster.get("large") == content, "{lost:?} lost");
    }
}

#[test]
fn a_put_whose_connections_were_cut_goes_on_where_they_were() {
    let (net, content) = to_put();
    let put = net.put_under_way(&["--stats"], 20 * MIB);
    net.proxies[2].set(harness::proxy::Mode::Close);
    wait::until_true("the node keeps what has come", Duration::from_secs(10), || {
        let staging = tree(&net.cluster.data_dir(3).join("staging"));
        staging.iter().any(|name| name.ends_with(".partial"))
    });
    net.proxies[2].set(harness::proxy::Mode::Forward);
    net.pace(u64::MAX);
    let stats = put.finish().ok().stats();
    let twice = stats.per_node[2] - SIZE / 2;
    assert!(twice <= 24 * MIB, "only what was under way is sent twice: {twice}");
    net.assert_stored(&content);
    assert!(net.nothing_is_staged());
    assert!(net.cluster.chunk_files(3, USER).len() == 2);
}

#[test]
fn a_put_whose_node_stays_away_goes_elsewhere() {
    let (mut net, content) = to_put();
    let put = net.put_under_way(&[], 12 * MIB);
    net.cluster.kill(4);
    net.pace(u64::MAX);
    put.finish().ok().says("node 4").within(Duration::from_secs(40));
    for lost in [&[4][..], &[2, 4]] {
        net.cluster.run_without(lost);
        assert!(net.cluster.get("large") == content, "{lost:?} lost");
    }
}
