//! Power that fails in all four machines at once, while files are put and removed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::cluster::NODES;
use harness::mount::Mount;
use harness::skip::skipped;
use harness::{Cluster, Rng};

use crate::{Told, cluster, read, rounds, told};

/// Who put files at the same time.
const WRITERS: u64 = 4;
/// Names that each of them uses again and again.
const NAMES: u64 = 12;

/// What a file may be: the content made by a seed, or nothing.
type State = Option<(u64, usize)>;

/// What each file may be now: the last that was acknowledged, and what was begun after it of which
/// nobody knows what has come of it.
type Expected = BTreeMap<String, Vec<State>>;

fn content(state: State) -> Option<Vec<u8>> {
    state.map(|(seed, length)| Rng::new(seed).bytes(length))
}

/// Puts and removes files of its own until `stop` or until something fails.
fn write(cluster: &Cluster, writer: u64, expected: &mut Expected, seed: u64, stop: &AtomicBool) {
    let mut rng = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let name = format!("{writer}/{}", rng.below(NAMES));
        let seed = rng.next_u64();
        // In the index, some of them the largest there; in files.
        let length = match rng.below(10) {
            0..3 => rng.below(200),
            3..7 => 200_000 + rng.below(60_000),
            7..9 => 400_000,
            _ => 1_000_000 + rng.below(8_000_000),
        };
        let known = expected.entry(name.clone()).or_insert_with(|| vec![None]);
        let is_there = known.iter().all(Option::is_some);
        let state = if is_there && rng.below(6) == 0 {
            None
        } else {
            Some((seed, usize::try_from(length).expect("a short file")))
        };
        let done = match content(state) {
            Some(bytes) => cluster.dfsctl().args(["put", "-", &name]).stdin(bytes).run(),
            None => cluster.dfsctl().args(["rm", &name]).run(),
        };
        match told(&done) {
            Told::Done => *known = vec![state],
            Told::Nothing => return,
            Told::Unknown => {
                known.push(state);
                return;
            }
        }
    }
}

/// Every file is one that it may be, and is nothing older from then on. What was begun when the power
/// failed may have come to one node only: three that answer first without it are right, and so is a
/// later reader who finds it and has it finished.
fn check(cluster: &Cluster, expected: &mut Expected) -> usize {
    let mut there = 0;
    for (name, states) in expected.iter_mut() {
        let found = read(cluster, name);
        there += usize::from(found.is_some());
        let Some(place) = states.iter().position(|state| content(*state) == found) else {
            let stat = cluster.dfsctl().args(["stat", name]).run();
            let length = found.map(|found| found.len());
            panic!("{name} has {length:?} bytes and is none of {states:?}\n{stat}");
        };
        states.drain(..place);
    }
    there
}

fn survives(kind: &str, usual: u64) {
    let mount = match Mount::image(kind, 2 << 30) {
        Ok(mount) => mount,
        Err(why) => return skipped("power loss", &format!("{kind}: {why}")),
    };
    let cluster = cluster();
    mount.take(&cluster, &NODES);
    let mut cluster = cluster.started();
    let mut rng = Rng::fresh();
    let mut expected = vec![Expected::new(); usize::try_from(WRITERS).expect("a few")];
    for round in 0..rounds(usual) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (writer, expected) in (0..).zip(&mut expected) {
                let (cluster, stop, seed) = (&cluster, &stop, rng.next_u64());
                scope.spawn(move || write(cluster, writer, expected, seed, stop));
            }
            thread::sleep(Duration::from_millis(500 + rng.below(4000)));
            mount.cut_power();
            stop.store(true, Ordering::Relaxed);
        });
        cluster.run_only(&[]);
        mount.remount();
        cluster.run_only(&NODES);
        let files: usize = expected.iter_mut().map(|expected| check(&cluster, expected)).sum();
        println!("{kind}, round {round}: {files} files are there");
        // What is there has to be on two disks.
        let lost = NODES[usize::try_from(round % 4).expect("1..4")];
        cluster.run_without(&[lost]);
        for expected in &mut expected {
            check(&cluster, expected);
        }
        cluster.run_only(&NODES);
    }
    drop(cluster);
    drop(mount);
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_on_ext4() {
    survives("ext4", 3);
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_on_xfs() {
    survives("xfs", 1);
}
