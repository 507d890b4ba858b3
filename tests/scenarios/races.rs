//! Two clients at one path: one of them wins, whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfs_client::{Error, FilePath, GetOptions, Progress};
use harness::api::{block_on, client};
use harness::cluster::{NODES, USER};
use harness::content::{files, noise, with_x};
use harness::{Cluster, wait};
use serde_json::json;

use crate::cluster;

/// Rounds of two puts at once, each followed by reads.
const ROUNDS: usize = 200;

#[test]
fn of_two_puts_at_once_one_wins_whole() {
    let cluster = cluster();
    // Of every x, so that a mixture would show; small ones are inside the index, large ones not.
    let lengths = [400, 400_000];
    let content = |seed: u64, x: usize, round: usize| {
        let x = u8::try_from(x % 4).expect("0..3");
        with_x(x, seed, lengths[round % 2])
    };
    for round in 0..ROUNDS {
        let contents = [content(1, round, round), content(2, round / 4, round)];
        cluster.file("one", &contents[0]);
        cluster.file("two", &contents[1]);
        let puts = ["one", "two"].map(|name| cluster.dfsctl().args(["put", name, "path"]).start());
        for put in puts {
            put.finish().ok();
        }
        let fetched = cluster.get("path");
        assert!(contents.contains(&fetched), "round {round}: a mixture");
        if round % 20 == 19 {
            let listing = cluster.ctl(["--output", "json", "list"]).ok().json();
            assert_eq!(listing.as_array().map(Vec::len), Some(1), "round {round}");
            assert_eq!(listing[0]["state"], json!("complete"), "round {round}");
            assert!(cluster.get("path") == fetched, "round {round}: it changed by itself");
            for pair in ["1,3", "2,4"] {
                let get = cluster.ctl(["get", "--pair", pair, "path", "-"]).ok();
                assert!(get.stdout == fetched, "round {round}, pair {pair}");
            }
        }
    }
    for node in NODES {
        let known = harness::api::block_on(async { cluster.api(node).await.stat("path").await });
        assert!(known.current.is_some_and(|record| record.have.count_ones() == 2));
    }
}

#[test]
fn a_put_and_a_removal_at_once_leave_the_file_or_nothing() {
    let cluster = cluster();
    cluster.file("file", "content");
    for round in 0..20 {
        let put = cluster.dfsctl().args(["put", "file", "path"]).start();
        let rm = cluster.dfsctl().args(["rm", "path"]).start();
        put.finish().ok();
        let removed = rm.finish();
        assert!(matches!(removed.code, Some(0 | 3)), "round {round}: {removed}");
        let get = cluster.ctl(["get", "path", "-"]);
        match get.code {
            Some(0) => assert_eq!(get.stdout, b"content"),
            code => assert_eq!(code, Some(3), "{get}"),
        }
        let listed = cluster.list();
        assert_eq!(listed.len(), usize::from(get.code == Some(0)), "round {round}");
    }
}

#[test]
fn a_get_during_overwrites_returns_one_version_whole() {
    let cluster = cluster();
    let versions: Vec<Vec<u8>> = (0..4).map(|x| with_x(x, 7, 3_000_000)).collect();
    for (number, version) in versions.iter().enumerate() {
        cluster.file(&number.to_string(), version);
    }
    cluster.ctl(["put", "0", "path"]).ok();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in (0..4).cycle().take(24) {
                cluster.ctl(["put", &number.to_string(), "path"]).ok();
            }
        });
        while !writer.is_finished() {
            let fetched = cluster.get("path");
            assert!(versions.contains(&fetched), "a mixture");
        }
    });
}

/// Does something once, in the middle of a file's first chunk.
struct Meanwhile {
    to_come: AtomicU64,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Progress for Meanwhile {
    fn advance(&self, bytes: u64) {
        let before = self.to_come.fetch_sub(bytes, Ordering::Relaxed);
        if before <= bytes {
            self.to_come.store(u64::MAX, Ordering::Relaxed);
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
            work.into_iter().for_each(|work| work());
        }
    }
}

/// Has `file` replaced by this content while it is read, and what it was forgotten by all nodes.
fn replacing(cluster: &Arc<Cluster>, content: Vec<u8>) -> GetOptions {
    let cluster = cluster.clone();
    let replace = move || {
        cluster.put("file", content);
        wait::until_true("the old version goes", Duration::from_secs(20), || {
            let two_chunks =
                |node| files(&cluster.data_dir(node).join("chunks").join(USER)).len() == 2;
            NODES.into_iter().all(two_chunks)
        });
    };
    let to_come = AtomicU64::new(3 << 20);
    let progress = Meanwhile { to_come, work: Mutex::new(Some(Box::new(replace))) };
    GetOptions { progress: Some(Arc::new(progress)), ..GetOptions::default() }
}

#[test]
fn a_file_replaced_while_it_is_read_is_read_anew_into_memory_and_refused_to_a_stream() {
    const SIZE: usize = 20 << 20;
    let cluster = Cluster::written(crate::PROGRAMS);
    NODES.into_iter().for_each(|node| cluster.configure(node, "prune_grace", "0s"));
    let cluster = Arc::new(cluster.started());
    let [old, new, newest] = [1, 2, 3].map(|seed| noise(seed, SIZE));
    cluster.put("file", old);
    block_on(async {
        let client = client(&cluster.client_config()).await;
        let path = || FilePath::new("file").expect("a path");
        let options = replacing(&cluster, new.clone());
        let (bytes, _) = client.get_bytes(path(), SIZE as u64, options).await.expect("a file");
        assert!(bytes == new, "not the new content");
        let options = replacing(&cluster, newest);
        let got = client.get_stream(path(), Box::new(std::io::sink()), options).await;
        assert!(matches!(got, Err(Error::Replaced { .. })), "{got:?}");
    });
}
