//! Many gets at the same time, each of which asks one pair of nodes first.

use std::time::{Duration, Instant};

use dfs_client::{Client, FilePath, GetOptions, GetReport};
use harness::Cluster;
use harness::api::{self, block_on, client};
use harness::content::noise;

use crate::cluster;

const FILES: u64 = 64;
const SMALL: usize = 1000;

fn content(seed: u64, file: u64) -> Vec<u8> {
    noise(seed * FILES + file, SMALL)
}

/// Puts all files, filled with noise of this seed.
fn put_all(cluster: &Cluster, seed: u64) {
    for file in 0..FILES {
        cluster.file(&format!("many/{file}"), content(seed, file));
    }
    cluster.ctl(["put", "-r", "many"]).ok();
}

/// Gets all files at once and checks them.
async fn get_all(client: &Client, seed: u64) -> Vec<GetReport> {
    let got = api::get_all(client, "many", FILES).await;
    let checked = (0..FILES).zip(got).map(|(file, (bytes, report))| {
        assert!(bytes == content(seed, file), "file {file}");
        report
    });
    checked.collect()
}

#[test]
fn each_file_comes_once_and_from_half_of_the_nodes() {
    let cluster = cluster();
    put_all(&cluster, 1);
    let [quarter, half] = [SMALL as u64 / 4, SMALL as u64 / 2];
    block_on(async {
        let client = client(&cluster.client_config()).await;
        // On a busy machine a pair may keep its gets waiting, and then all nodes are asked.
        for _ in 0..20 {
            let reports = get_all(&client, 1).await;
            let count = |per_node| reports.iter().filter(|got| got.per_node == per_node).count();
            let (odd, even) = (count([half, 0, half, 0]), count([0, half, 0, half]));
            assert_eq!(odd + even + count([quarter; 4]), FILES as usize, "{reports:?}");
            assert!(reports.iter().all(|got| !got.unconfirmed), "{reports:?}");
            if odd > 20 && even > 20 && reports.iter().all(|got| got.rounds == 1) {
                return;
            }
        }
        panic!("they do not take turns");
    });
}

#[test]
fn a_node_that_stopped_delays_none_for_long() {
    let mut cluster = cluster();
    put_all(&cluster, 1);
    block_on(async {
        let client = client(&cluster.client_config()).await;
        get_all(&client, 1).await;
        cluster.freeze(3);
        let began = Instant::now();
        let reports = get_all(&client, 1).await;
        // Less than the deadline of a call.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(reports.iter().all(|got| got.per_node.iter().sum::<u64>() <= SMALL as u64));
        cluster.thaw(3);
        get_all(&client, 1).await;
        cluster.kill(2);
        // The pair without it has all there is; it is left out itself for what node 3 did.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let reports = get_all(&client, 1).await;
            let half = SMALL as u64 / 2;
            let odd = |got: &&GetReport| got.rounds == 1 && got.per_node == [half, 0, half, 0];
            if reports.iter().filter(odd).count() > 50 {
                return;
            }
        }
        panic!("they do not leave the pair out");
    });
}

#[test]
fn a_pair_of_which_one_missed_the_last_put_is_no_reason_for_an_old_file() {
    let mut cluster = cluster();
    put_all(&cluster, 1);
    for behind in [1, 2, 3, 4] {
        cluster.run_without(&[behind]);
        put_all(&cluster, 1 + behind as u64);
        cluster.start_node(behind);
        block_on(async {
            let client = client(&cluster.client_config()).await;
            let reports = get_all(&client, 1 + behind as u64).await;
            assert!(reports.iter().all(|got| !got.unconfirmed), "{reports:?}");
        });
    }
}

#[test]
fn a_file_longer_than_the_caller_takes_is_refused() {
    let cluster = cluster();
    let content = noise(1, 5 << 20);
    cluster.put("file", &content);
    block_on(async {
        let client = client(&cluster.client_config()).await;
        let get = |limit, verify| {
            let path = FilePath::new("file").expect("a path");
            client.get_bytes(path, limit, GetOptions { verify, ..GetOptions::default() })
        };
        let refused = get((5 << 20) - 1, false).await.map(drop).expect_err("it is too long");
        assert_eq!(
            refused.to_string(),
            "file has 5242880 bytes, more than the 5242879 that are taken into memory"
        );
        for verify in [false, true] {
            let (bytes, report) = get(5 << 20, verify).await.expect("it is not too long");
            assert!(bytes == content && report.manifest.size() == 5 << 20);
        }
    });
}
