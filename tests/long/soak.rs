//! Clients at work while nodes, wires, disks and clocks fail: every answer has to be right, and in
//! the end everything has to be whole again.
//!
//! DFS_SECONDS says how long the faults last; a disk is lost only where that is two minutes or
//! more. The seed that is printed draws the same faults and the same operations again, though
//! not at the same moments.

mod clocks;

mod faults;

mod links;

mod settled;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dfs_client::{Client, Config, Credentials};
use harness::cluster::NODES;
use harness::history;
use harness::load::{Clock, Ground, Load, Told};
use harness::{Cluster, Rng, wait};

use self::clocks::Clocks;
use self::faults::Faults;
use self::links::Links;

/// Who works at the same time.
const CLIENTS: u64 = 5;

/// As long as a run of all tests allows.
const USUAL_SECONDS: u64 = 35;

/// A node that rejoins waits for more than a minute; the rest is a few operations on few files.
const DISK_IS_LOST_FROM: Duration = Duration::from_secs(120);

/// Of repairs and of a rejoin that is not over yet.
const REPAIRED_WITHIN: Duration = Duration::from_secs(150);

/// Longer than what is abandoned is kept, and what is superseded.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

const SETTINGS: [(&str, &str); 5] = [
    ("heal_every", "500ms"),
    ("scrub_every", "2s"),
    ("scrub_rate", "1GiB"),
    ("prune_grace", "5s"),
    ("staging_ttl", "30s"),
];

/// What the clients quarrel about: nothing, fewer bytes than chunks, chunks inside the index, chunks
/// in files.
const GROUND: Ground = Ground {
    paths: &["a", "b", "c", "d/1", "d/2", "d/3"],
    lengths: &[0, 1, 3, 5, 1 << 10, 100 << 10, 300 << 10],
};

#[test]
fn every_answer_is_right_whatever_fails_and_all_is_whole_in_the_end() {
    let length = std::env::var("DFS_SECONDS").ok();
    let length = length.map_or(USUAL_SECONDS, |text| text.parse().expect("a number of seconds"));
    let length = Duration::from_secs(length);
    let mut rng = Rng::fresh();
    let mut cluster = crate::cluster();
    for node in NODES {
        SETTINGS.iter().for_each(|(key, value)| cluster.configure(node, key, value));
    }
    let links = Links::lay(&cluster, CLIENTS);
    let clocks = Clocks::find();
    NODES.into_iter().for_each(|node| clocks.set(&mut cluster, node, &mut rng));
    cluster.run_only(&NODES);
    wait::until_true("the nodes know each other", Duration::from_secs(20), || {
        NODES.iter().all(|node| cluster.log(*node).matches(" met ").count() == 3)
    });

    let began = Instant::now();
    let done = std::thread::scope(|scope| {
        let told = Arc::new(Told::default());
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| rng.next_u64()).collect();
        let (configs, tell) = (links.configurations(&cluster), Arc::clone(&told));
        let clients = scope.spawn(move || {
            harness::api::block_on(async {
                let mut running = Vec::new();
                for ((number, config), seed) in (0..).zip(&configs).zip(seeds) {
                    let load = connect(config, number, seed, began).await;
                    running.push(tokio::spawn(load.run(Arc::clone(&tell))));
                }
                let mut done = Vec::new();
                for client in running {
                    done.extend(client.await.expect("a client meets nothing that makes no sense"));
                }
                done
            })
        });
        // Told also when the faults panic: nobody waits for a client for ever.
        let _told = TellAtEnd(&told);
        Faults::new(&mut cluster, &links, (&told, &clocks), CLIENTS, rng.next_u64(), began)
            .run(length, length >= DISK_IS_LOST_FROM);
        links.mend();
        // All of them still work.
        std::thread::sleep(Duration::from_secs(1));
        told.stop.store(true, Ordering::Relaxed);
        clients.join().expect("the clients end well")
    });
    println!("{}", history::summary(&done));
    settle(&cluster);
    let seed = rng.next_u64();
    let last = harness::api::block_on(async {
        connect(&cluster.client_config(), CLIENTS, seed, began).await.read_all().await
    });
    history::require(GROUND.paths, &[done, last].concat());
}

/// Connects a client, which counts time from `began`.
async fn connect(config: &Path, number: u64, seed: u64, began: Instant) -> Load {
    let config = Config::load(config).expect("a valid configuration");
    let password = config.password_file.as_ref().expect("it names one");
    let password = Config::read_password(password).expect("a password");
    let user = config.user.clone().expect("it names one");
    let client = Client::connect(&config, Credentials::new(user, password)).await;
    let clock: Clock = Arc::new(move || began.elapsed());
    Load::new(client.expect("the nodes are up"), number, seed, &GROUND, clock)
}

/// Tells the clients to stop when dropped.
struct TellAtEnd<'a>(&'a Told);

impl Drop for TellAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until everything is as it has to be.
fn settle(cluster: &Cluster) {
    let began = Instant::now();
    let repair = || {
        let repair = cluster.dfsctl().arg("repair").limit(REPAIRED_WITHIN).run();
        (repair.code != Some(0)).then_some(repair)
    };
    while let Some(repair) = repair() {
        assert!(began.elapsed() < REPAIRED_WITHIN, "not repaired: {repair}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let repaired = began.elapsed();
    cluster.ctl(["verify"]).ok();
    harness::api::block_on(async {
        let mut apis = settled::apis(cluster).await;
        loop {
            let complaints = settled::complaints(cluster, &mut apis).await;
            if complaints.is_empty() {
                break;
            }
            let late = began.elapsed() > SETTLED_WITHIN + repaired;
            assert!(!late, "not settled:\n{}", complaints.join("\n"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    println!("repaired after {repaired:.1?}, settled after {:.1?}", began.elapsed());
    cluster.ctl(["verify"]).ok();
}
