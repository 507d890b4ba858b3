//! Files that go into streams while those who take them pause, or nodes are restarted.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use dfs_client::{Client, FilePath, GetOptions, PutOptions};
use harness::api::{block_on, client};
use harness::cluster::NODES;
use harness::content::noise;
use harness::{Cluster, Proxy, wait};

use crate::cluster;

const MIB: usize = 1 << 20;

fn path(name: &str) -> FilePath {
    FilePath::new(name).expect("a path")
}

/// Takes nothing before it is told to go on; then all of it, and tells what that was.
struct Paused {
    go_on: Receiver<()>,
    taken: Vec<u8>,
    tell: Sender<Vec<u8>>,
}

impl Paused {
    /// With it the ends that let it go on and hear what it took.
    fn new() -> (Self, Sender<()>, Receiver<Vec<u8>>) {
        let ((go, go_on), (tell, told)) = (channel(), channel());
        (Self { go_on, taken: Vec::new(), tell }, go, told)
    }
}

impl Write for Paused {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.taken.is_empty() {
            self.go_on.recv().map_err(std::io::Error::other)?;
        }
        self.taken.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tell.send(std::mem::take(&mut self.taken)).map_err(std::io::Error::other)
    }
}

async fn assert_serves(client: &Client, small: &Bytes) {
    let options = PutOptions::default();
    let put = client.put_bytes(path("other"), noise(2, 3 * MIB).into(), options).await;
    let put = put.expect("all nodes are there");
    assert!(put.per_node.iter().all(|bytes| *bytes > MIB as u64), "{put:?}");
    let got = client.get_bytes(path("small"), 1 << 20, GetOptions::default()).await;
    let (bytes, got) = got.expect("all nodes are there");
    assert!(bytes == small, "it is what was put");
    assert!(got.per_node.iter().all(|bytes| *bytes > 0), "{got:?}");
}

#[test]
fn streams_that_nobody_takes_from_keep_nothing_from_the_rest_of_the_client() {
    let cluster = cluster();
    let large = noise(1, 40 * MIB);
    cluster.put("large", &large);
    let small = Bytes::from(noise(3, 1000));
    cluster.put("small", &small);
    block_on(async {
        let client = client(&cluster.client_config()).await;
        let mut streams = Vec::new();
        for _ in 0..6 {
            let (paused, go, told) = Paused::new();
            let client = client.clone();
            let get = tokio::spawn(async move {
                client.get_stream(path("large"), Box::new(paused), GetOptions::default()).await
            });
            streams.push((get, go, told));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        for _ in 0..3 {
            assert_serves(&client, &small).await;
        }
        for (get, go, told) in streams {
            go.send(()).expect("it waits");
            let report = get.await.expect("no panic").expect("it goes on");
            assert_eq!(report.per_node.iter().sum::<u64>(), large.len() as u64, "{report:?}");
            assert!(told.recv().expect("it has ended") == large, "it is what was put");
        }
    });
}

/// A get of 32 MiB to a stream that takes some ten seconds, while `change` happens.
fn assert_goes_on(args: &[&str], change: impl FnOnce(&mut Cluster, &dyn Fn())) {
    let mut cluster = cluster();
    let large = noise(1, 32 * MIB);
    cluster.put("large", &large);
    let proxies = Proxy::to_all(cluster.addresses());
    let config = cluster.client_config_with("slow.yaml", proxies.each_ref().map(Proxy::address));
    proxies.iter().for_each(|proxy| proxy.pace(3 * MIB as u64));
    let get = cluster.dfsctl().arg("--config").arg(config).args(["get", "large", "-"]);
    let get = get.args(args).start();
    let sent = || proxies.iter().map(Proxy::from_node).sum::<u64>();
    let flows = || {
        let before = sent();
        wait::until_true("bytes flow", Duration::from_secs(30), || sent() > before + MIB as u64);
    };
    change(&mut cluster, &flows);
    let got = get.finish().ok();
    assert!(got.stdout == large, "it is what was put");
}

#[test]
fn a_stream_goes_on_when_nodes_are_restarted_one_after_the_other() {
    assert_goes_on(&[], |cluster, flows| {
        for node in NODES {
            flows();
            cluster.kill(node);
            cluster.start_node(node);
        }
    });
}

#[test]
fn a_stream_waits_for_nodes_that_nobody_can_stand_in_for() {
    assert_goes_on(&["--pair", "1,3"], |cluster, flows| {
        flows();
        [1, 3].into_iter().for_each(|node| cluster.kill(node));
        std::thread::sleep(Duration::from_millis(1500));
        [1, 3].into_iter().for_each(|node| cluster.start_node(node));
    });
}
