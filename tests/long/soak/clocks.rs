//! Clocks that are wrong: at each of its starts a node's clock is as far off as is drawn, and
//! jumps so against the last time. Takes libfaketime, which a machine may have or not.

use std::fs;
use std::path::PathBuf;

use harness::skip::skipped;
use harness::{Cluster, Rng};

/// How far a clock may be off, in seconds, either way: no two more than a node tolerates.
const MOST_SECONDS: u64 = 25;

/// Sets clocks, if that is possible here.
#[derive(Debug)]
pub(super) struct Clocks {
    library: Option<PathBuf>,
}

impl Clocks {
    /// Looks for the library where Debian and its relatives have it.
    pub(super) fn find() -> Self {
        let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = folders
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file());
        if library.is_none() {
            skipped(
                "wrong clocks",
                "there is no libfaketime; Debian has it in the package faketime",
            );
        }
        Self { library }
    }

    /// Sets the clock that a node has from its next start on.
    pub(super) fn set(&self, cluster: &mut Cluster, node: usize, rng: &mut Rng) {
        let seconds = rng.below(2 * MOST_SECONDS + 1);
        let Some(library) = &self.library else { return };
        let (sign, off) = match seconds.checked_sub(MOST_SECONDS) {
            Some(ahead) => ('+', ahead),
            None => ('-', MOST_SECONDS - seconds),
        };
        println!("the clock of node {node} is {sign}{off} s off");
        let env = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME", format!("{sign}{off}s")),
            // What only measures how long things take goes right.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        cluster.set_env(node, &env.map(|(name, value)| (name.to_owned(), value)));
    }
}
