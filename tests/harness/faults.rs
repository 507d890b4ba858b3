//! Calls of the system that fail, in a node as it was released: a small library that is loaded
//! in front of the C library. `faults.c` says what it can do.

use std::fs;
use std::path::PathBuf;

use crate::preload::Preload;

/// The compiled library, and the switch that makes its faults happen.
#[derive(Debug)]
pub struct Faults(Preload);

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
        Preload::compile(include_str!("faults.c")).map(Self)
    }

    fn switch(&self) -> PathBuf {
        self.0.file("on")
    }

    /// What a node must find in its environment to have this fault while the switch is on.
    pub fn env(&self, fault: Fault<'_>) -> Vec<(String, String)> {
        let vars = [
            ("FAULT_CALLS", fault.calls.to_owned()),
            ("FAULT_PATH", fault.path.to_owned()),
            ("FAULT_WHEN", self.switch().display().to_string()),
            ("FAULT_AT", fault.at.to_string()),
            ("FAULT_DO", fault.does.to_owned()),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value));
        [self.0.env()].into_iter().chain(vars).collect()
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
