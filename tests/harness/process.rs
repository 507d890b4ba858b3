//! Child processes that never outlive their test.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::wait;

/// Copies a program that is to be run. Another process does it: what other tests start meanwhile would
/// inherit the open copy, and a program that somebody may write to cannot be run.
pub fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.expect("cp is there").success(), "{from} cannot be copied");
}

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, name }
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal)
            .unwrap_or_else(|error| panic!("{} is gone already: {error}", self.name));
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end. Panics when it is still running after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.ended())
    }

    /// Ends it at once, as a power cut would, and waits for that.
    pub fn kill(&mut self) -> ExitStatus {
        // It may have ended by itself, which is what was wanted.
        let _ = self.child.kill();
        self.child.wait().expect("it is our child")
    }

    /// The most memory it ever had resident, in KiB; `None` once it has ended.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}
