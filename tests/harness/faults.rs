//! Calls of the system that fail, in a node as it was released: a small library that is loaded
//! in front of the C library. `faults.c` says what it can do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The compiled library, and the switch that makes its faults happen.
#[derive(Debug)]
pub struct Faults {
    dir: TempDir,
}

/// What fails.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    /// The calls that count, such as `sync,write`.
    pub calls: &'a str,
    /// What the path of the file has in it.
    pub path: &'a str,
    /// The number of the call, from 1; 0: every one.
    pub at: u64,
    /// `exit`, `lie`, or the name of an error.
    pub does: &'a str,
}

impl Faults {
    /// Compiles the library; why that cannot be done here, if so.
    pub fn compile() -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let source = dir.path().join("faults.c");
        fs::write(&source, include_str!("faults.c")).expect("a new file");
        let faults = Self { dir };
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(faults.library()).arg(source);
        let output = command.arg("-ldl").output().map_err(|error| format!("cc: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(faults) } else { Err(said) }
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("faults.so")
    }

    fn switch(&self) -> PathBuf {
        self.dir.path().join("on")
    }

    /// What a node must find in its environment to have this fault while the switch is on.
    pub fn env(&self, fault: Fault<'_>) -> Vec<(String, String)> {
        let shown = |path: PathBuf| Path::display(&path).to_string();
        let vars = [
            ("LD_PRELOAD", shown(self.library())),
            ("FAULT_CALLS", fault.calls.to_owned()),
            ("FAULT_PATH", fault.path.to_owned()),
            ("FAULT_WHEN", shown(self.switch())),
            ("FAULT_AT", fault.at.to_string()),
            ("FAULT_DO", fault.does.to_owned()),
        ];
        vars.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// What a node must find in its environment so that its syncs of files under `path` are
    /// counted.
    pub fn env_counting(&self, node: usize, path: &str) -> Vec<(String, String)> {
        let mut env = self.env(Fault { calls: "sync", path, at: 0, does: "count" });
        env.retain(|(name, _)| name != "FAULT_WHEN");
        let file = self.count_file(node).display().to_string();
        env.push(("FAULT_COUNT".to_owned(), file));
        env
    }

    /// How many were counted so far.
    pub fn counted(&self, node: usize) -> u64 {
        // There is no file as long as there is nothing to count.
        fs::metadata(self.count_file(node)).map_or(0, |about| about.len())
    }

    fn count_file(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("count{node}"))
    }

    /// Turns the faults of all nodes on or off.
    pub fn turn(&self, on: bool) {
        if on {
            fs::write(self.switch(), "").expect("a new file");
        } else {
            fs::remove_file(self.switch()).expect("they were on");
        }
    }
}
