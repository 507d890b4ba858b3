//! What takes longer, or needs root: power that fails, disks that are full or fail, and
//! everything else at once.
//!
//! All of it runs with the other tests, a few rounds of each. `tests/long.sh` runs more of
//! them: DFS_ROUNDS says how many, and DFS_SECONDS how long [`soak`] takes. What cannot run on
//! this machine says SKIPPED and why.

mod power;

mod full;

mod failing;

mod soak;

mod two_disks;

use harness::{Cluster, Programs};

/// The programs that cargo built for these tests.
const PROGRAMS: Programs = Programs {
    dfsd: env!("CARGO_BIN_EXE_dfsd-under-test"),
    dfsctl: env!("CARGO_BIN_EXE_dfsctl-under-test"),
};

/// Four nodes of which none runs.
fn cluster() -> Cluster {
    Cluster::written(PROGRAMS)
}

/// How many rounds to run: what DFS_ROUNDS says, else `usual`.
fn rounds(usual: u64) -> u64 {
    let given = std::env::var("DFS_ROUNDS").ok();
    given.map_or(usual, |text| text.parse().expect("DFS_ROUNDS is a number"))
}
