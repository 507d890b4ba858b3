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

use std::time::Duration;

use harness::{Cluster, Output, Programs, wait};

/// The programs that cargo built for these tests.
const PROGRAMS: Programs = Programs {
    dfsd: env!("CARGO_BIN_EXE_dfsd-under-test"),
    dfsctl: env!("CARGO_BIN_EXE_dfsctl-under-test"),
};

/// Four nodes of which none runs.
fn cluster() -> Cluster {
    Cluster::written(PROGRAMS)
}

/// A read with three nodes or more up can be shown to be on three of them, on a busy machine too.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);

/// What a put or a removal was told about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It happened.
    Done,
    /// It did not happen, and never will.
    Nothing,
    /// It may have happened, whole, may happen yet, or not.
    Unknown,
}

/// What the exit code of a put or of a removal promises. No other one may come of a disk that fails or
/// a node that ends: what is removed here is there.
fn told(output: &Output) -> Told {
    match output.code {
        Some(0) => Told::Done,
        // Every node refused, or too few were there to begin.
        Some(1 | 5) => Told::Nothing,
        Some(7) => Told::Unknown,
        _ => panic!("no answer that may be given: {output}"),
    }
}

/// What a file has; `None` where it is not there. The answer is a confirmed one: after any other, a
/// later read may find something older.
fn read(cluster: &Cluster, name: &str) -> Option<Vec<u8>> {
    wait::until(&format!("a confirmed read of {name}"), CONFIRMED_WITHIN, || {
        let got = cluster.dfsctl().args(["get", "--strict", name, "-"]).run();
        match got.code {
            Some(0) => Some(Some(got.stdout)),
            Some(3) => Some(None),
            Some(5) if got.stderr.contains("is unconfirmed") => None,
            _ => panic!("{name}: {got}"),
        }
    })
}

/// How many rounds to run: what DFS_ROUNDS says, else `usual`.
fn rounds(usual: u64) -> u64 {
    let given = std::env::var("DFS_ROUNDS").ok();
    given.map_or(usual, |text| text.parse().expect("DFS_ROUNDS is a number"))
}
