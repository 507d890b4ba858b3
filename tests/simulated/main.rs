//! Four whole nodes and their clients in one process, on a simulated network: gRPC, log-in, index
//! and chunk files are the real ones; only the wires are made up, and the time.
//!
//! Nodes crash and wires break at chosen stages of what clients do. Whatever the clients are told
//! has to be what one register would have told them, every answer has to come in time, and in the
//! end everything has to be whole again.
//!
//! The time of the simulation goes on while threads of a node work, as the thread of its index
//! does: a seed draws the same operations and the same faults again, though not always at the same
//! moments. `DFS_SEEDS=n` runs so many seeds, `DFS_SEED=n` that one.

mod cluster;

mod faults;

mod network;

mod stages;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use dfs_client::{Condition, Prefix, RepairOptions, VerifyOptions};
use harness::cluster::NODES;
use harness::history::{self, Done};
use harness::load::{Clock, Ground, Load, Told};
use turmoil::{Builder, Sim};

use self::cluster::{Cluster, host};
use self::faults::{Counts, Faults};
use self::stages::Seen;

/// What the clients quarrel about: nothing, chunks inside the index, chunks in files, chunks of
/// more than one block.
const GROUND: Ground =
    Ground { paths: &["a", "b"], lengths: &[0, 1, 5, 1 << 10, 300 << 10, 700 << 10, 5 << 20] };

const USUAL_SEEDS: u64 = 60;

const CLIENTS: u64 = 2;

const FAULTS: u32 = 3;

/// Simulated: when all clients have logged in.
const CONNECTED: Duration = Duration::from_millis(300);

/// At least so long a step, of a millisecond, takes in reality while nodes are busy: their threads
/// are to have done something meanwhile.
const STEP: Duration = Duration::from_micros(100);

/// Simulated: how long a node may still be busy with a request of which nothing is heard.
const BUSY: Duration = Duration::from_millis(100);

/// Simulated: longer than a client may take for what it is doing.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Simulated: how long the repair of a few files may take.
const REPAIRED_WITHIN: Duration = Duration::from_secs(60);

/// Seeds that run at the same time: mostly they wait for their disks.
const AT_ONCE: usize = 4;

#[test]
fn every_answer_is_right_at_whatever_stage_a_fault_comes() {
    let number = |name| {
        let given = std::env::var(name).ok();
        given.map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (first, count) = match number("DFS_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("DFS_SEEDS").unwrap_or(USUAL_SEEDS)),
    };
    stages::listen();
    let (next, counts, done) = (AtomicU64::new(first), Mutex::default(), Mutex::default());
    let began = Instant::now();
    scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !(first..first + count).contains(&seed) {
                        break;
                    }
                    let _running = Running { seed, next: &next };
                    let (had, did) = run(seed);
                    lock(&counts, |all: &mut Counts| all.add(&had));
                    lock(&done, |all: &mut Vec<Done>| all.extend(did));
                }
            });
        }
    });
    let (counts, done) = (counts.into_inner(), done.into_inner());
    let counts: Counts = counts.unwrap_or_else(PoisonError::into_inner);
    let done: Vec<Done> = done.unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds in {:.1?}; {}\n{counts}", began.elapsed(), history::summary(&done));
    if count >= USUAL_SEEDS {
        assert_eq!(counts.missing(), [""; 0], "stages that no fault has hit");
    }
}

fn lock<T>(all: &Mutex<T>, change: impl FnOnce(&mut T)) {
    change(&mut all.lock().unwrap_or_else(PoisonError::into_inner));
}

/// When a run fails, says which seed it was, and that there is to be no other.
struct Running<'a> {
    seed: u64,
    next: &'a AtomicU64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: DFS_SEED={}", self.seed);
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

fn run(seed: u64) -> (Counts, Vec<Done>) {
    let mut rng = harness::Rng::new(seed);
    let cluster = Cluster::new();
    let sim = Builder::new()
        .rng_seed(rng.next_u64())
        .simulation_duration(Duration::MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2 + rng.below(20)))
        .tcp_capacity(1024)
        .enable_tokio_io()
        .build();
    let mut paced = Paced { sim, busy: Duration::ZERO };
    for node in NODES {
        let config = cluster.node_config(node);
        paced.sim.host(host(node), move || cluster::node(config.clone()));
    }
    let (told, done) = (Arc::new(Told::default()), Arc::default());
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client{number}")).collect();
    for (number, name) in (0..).zip(&names) {
        let work = work(&cluster, number, rng.next_u64(), Arc::clone(&told), Arc::clone(&done));
        paced.sim.client(name.as_str(), work);
    }
    let mut faults = Faults::new(rng.next_u64(), FAULTS, names);
    if rng.below(2) == 0 {
        until_connected(&mut paced);
        faults.part(&mut paced.sim);
    }
    loop {
        let (seen, _) = paced.step();
        // Then they all are after the same path.
        told.hurry.store(faults.parted(), Ordering::Relaxed);
        if !faults.go_on(&mut paced.sim, &seen) {
            break;
        }
    }
    told.stop.store(true, Ordering::Relaxed);
    assert!(paced.until_all_end(ENDS_WITHIN), "a client does not end\n{}", faults.told());

    // Whatever was acknowledged is on disks.
    NODES.into_iter().for_each(|node| paced.sim.crash(host(node)));
    NODES.into_iter().for_each(|node| paced.sim.bounce(host(node)));
    let whole = Arc::new(AtomicBool::new(false));
    let last = settle(&cluster, rng.next_u64(), Arc::clone(&done), Arc::clone(&whole));
    paced.sim.client("last", last);
    let ended = paced.until_all_end(REPAIRED_WITHIN);
    assert!(ended && whole.load(Ordering::Relaxed), "not repaired\n{}", faults.told());
    let done = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    println!(
        "seed {seed}: {:?}; {}\n{}",
        paced.sim.elapsed(),
        history::summary(&done),
        faults.told()
    );
    history::require(GROUND.paths, &done);
    (faults.counts(), done)
}

/// Gives the clients the time to log in.
fn until_connected(paced: &mut Paced<'_>) {
    while paced.sim.elapsed() < CONNECTED {
        paced.step();
    }
}

/// A simulation, whose time goes slower while its nodes are busy.
struct Paced<'a> {
    sim: Sim<'a>,
    /// When a request last began or was answered.
    busy: Duration,
}

impl Paced<'_> {
    /// One step. Returns what was seen in it, and whether all clients have ended.
    fn step(&mut self) -> (Vec<Seen>, bool) {
        let began = Instant::now();
        let ended = self.sim.step().expect("no node stops by itself");
        let (seen, now) = (stages::seen(), self.sim.elapsed());
        if !seen.is_empty() {
            self.busy = now;
        }
        if now < self.busy + BUSY {
            sleep(STEP.saturating_sub(began.elapsed()));
        }
        (seen, ended)
    }

    /// Whether all clients come to their end in time.
    fn until_all_end(&mut self, limit: Duration) -> bool {
        let began = self.sim.elapsed();
        while self.sim.elapsed() < began + limit {
            if self.step().1 {
                return true;
            }
        }
        false
    }
}

type History = Arc<Mutex<Vec<Done>>>;

fn clock() -> Clock {
    Arc::new(|| turmoil::sim_elapsed().expect("it is simulated"))
}

/// What a client does until it is told to stop.
fn work(
    cluster: &Cluster,
    number: u64,
    seed: u64,
    told: Arc<Told>,
    history: History,
) -> impl Future<Output = turmoil::Result> + 'static {
    let (config, folder) = (cluster.client_config(), cluster.work_dir());
    async move {
        let load = connect(config, folder, number, seed).await?;
        let done = load.run(told).await;
        lock(&history, |all| all.extend(done));
        Ok(())
    }
}

async fn connect(
    config: PathBuf,
    folder: PathBuf,
    number: u64,
    seed: u64,
) -> Result<Load, dfs_client::Error> {
    let client = cluster::client(&config).await?;
    Ok(Load::new(client, number, seed, &GROUND, clock()).reading_to(folder))
}

/// Repairs everything, requires that it is whole then, and reads it all once more.
fn settle(
    cluster: &Cluster,
    seed: u64,
    history: History,
    whole: Arc<AtomicBool>,
) -> impl Future<Output = turmoil::Result> + 'static {
    let (config, folder) = (cluster.client_config(), cluster.work_dir());
    async move {
        let client = cluster::client(&config).await?;
        let all = || Prefix::new("").expect("all there is");
        loop {
            let repaired = client.repair(&all(), RepairOptions::default(), |_| {}).await;
            if let Ok(report) = &repaired {
                let summary = report.summary;
                assert_eq!((summary.lost, summary.dead), (0, 0), "{summary:?}");
                if summary.unfinished + summary.unreachable == 0 && report.problems.is_empty() {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let report = client.verify(all(), VerifyOptions::default(), |_| {}).await?;
        assert_eq!(report.count(Condition::Ok), report.files, "{report:?}");
        client.close().await;
        let load = connect(config, folder, CLIENTS, seed).await?;
        let done = load.read_all().await;
        lock(&history, |all| all.extend(done));
        whole.store(true, Ordering::Relaxed);
        Ok(())
    }
}
