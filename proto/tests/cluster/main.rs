//! The machines together: four nodes, clients that put, remove and read a few paths at the same
//! time, nodes that repair and clean up all the while, and a network, disks, clocks and users
//! that do what they like. After every step the promises are checked: [`check`] names them.
//! At the end all troubles are over, and everything must come out right: [`settle`].
//!
//! A failure prints its seed. `DFS_SEED=n` runs that one and prints what happens; `DFS_SEEDS=n`
//! runs the first n, and the first n that have an [`opening`].

mod random;

mod history;

mod message;

mod mistake;

mod node;

mod list;

mod expire;

mod actor;

mod check;

mod world;

mod network;

mod mischief;

mod trouble;

mod opening;

mod settle;

mod without;

use std::ops::Range;

use mistake::Mistake;
use opening::{OPENED, Opening};
use world::World;

/// Seeds of a usual run.
const SEEDS: u64 = 20_000;

/// Seeds within which every mistake must be found.
const MISTAKE_SEEDS: u64 = 100_000;
/// The same with openings.
const OPENED_MISTAKE_SEEDS: u64 = 3_000;

/// After every so many runs two disks are lost.
const TWO_LOST_EVERY: u64 = 8;

/// Seeds that once found something:
/// - 30,725: a Commit was sent again, resting on fewer nodes, while chunks of a lost disk were
///   still on their way to another node.
/// - 2^32 + 538: a node that rejoins took a write-back from a disk that was lost, of which it had not
///   heard yet.
const FOUND: [u64; 2] = [30_725, OPENED + 538];

/// Runs a seed to its end. What it returns is a broken promise.
fn run(seed: u64, mistake: Mistake, trace: bool) -> Result<(), String> {
    let mut world = World::new(seed, mistake, trace);
    if let Some(opening) = Opening::of(seed) {
        world.open(opening);
    }
    for _ in 0..world.steps() {
        world.step();
        world.checks.result()?;
    }
    world.settle()?;
    if seed.is_multiple_of(TWO_LOST_EVERY) { world.lose_two() } else { Ok(()) }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn promises_hold_whatever_happens() {
    if let Some(seed) = number("DFS_SEED") {
        return run(seed, Mistake::None, true).expect("all promises hold");
    }
    let seeds = number("DFS_SEEDS").unwrap_or(SEEDS);
    for seed in FOUND.into_iter().chain(0..seeds).chain(OPENED..OPENED + seeds) {
        if let Err(broken) = run(seed, Mistake::None, false) {
            panic!("DFS_SEED={seed}: {broken}");
        }
    }
}

/// A test of the test: every rule that is left out is missed.
#[test]
fn mistakes_are_found() {
    find(&Mistake::ALL, 0..MISTAKE_SEEDS);
}

#[test]
fn mistakes_are_found_with_openings() {
    find(&Mistake::OPENED, OPENED..OPENED + OPENED_MISTAKE_SEEDS);
}

fn find(mistakes: &[Mistake], seeds: Range<u64>) {
    let mut unnoticed = Vec::new();
    for mistake in mistakes {
        let found = seeds.clone().find_map(|seed| Some((seed, run(seed, *mistake, false).err()?)));
        match found {
            Some((seed, broken)) => println!("{mistake:?}, seed {seed}: {broken}"),
            None => unnoticed.push(mistake),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?} went unnoticed");
}
