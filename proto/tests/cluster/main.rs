//! The machines together: four nodes, clients that put, remove and read one path at the same
//! time, and a network and users that do what they like. After every step the promises are
//! checked: tags never go back, what was acknowledged is on three nodes, every answer fits one
//! order of operations, and the newest version survives every allowed failure.
//!
//! A failure prints its seed; `run(seed, Mistake::None)` repeats it.

mod random;

mod client;

mod world;

mod check;

use world::{Mistake, run};

const SEEDS: u64 = 2_000;

#[test]
fn promises_hold_whatever_happens() {
    for seed in 0..SEEDS {
        if let Err(broken) = run(seed, Mistake::None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

/// A test of the test: drivers that make a mistake are found out.
#[test]
fn mistakes_are_found() {
    for mistake in [
        Mistake::NoSpill,
        Mistake::NoWriteBack,
        Mistake::HopeForCommit,
        Mistake::DiscardAfterCommit,
    ] {
        let found = (0..SEEDS).find(|seed| run(*seed, mistake).is_err());
        assert!(found.is_some(), "{mistake:?} went unnoticed");
    }
}
