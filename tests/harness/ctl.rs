//! Runs `dfsctl`.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Process, Signal};
use crate::wait;

/// No command of any test takes longer; one that does hangs.
const HARD_LIMIT: Duration = Duration::from_secs(120);

/// A `dfsctl` to run: in a directory of its own, with nothing of the user's environment.
#[derive(Debug)]
pub struct Ctl {
    command: Command,
    line: String,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Ctl {
    /// `dfsctl` without arguments, run in `dir`.
    pub fn new(program: &str, dir: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(dir).env("HOME", dir).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let own = |name: &OsString| name.to_string_lossy().starts_with("DFS_");
        for name in std::env::vars_os().map(|(name, _)| name).filter(own) {
            command.env_remove(name);
        }
        for name in ["XDG_CONFIG_HOME", "RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        // Not among the files that a test puts and gets.
        let cache = dir.parent().unwrap_or(dir).join("cache");
        command.env("XDG_CACHE_HOME", cache);
        Self { command, line: "dfsctl".into(), stdin: None, limit: HARD_LIMIT }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let shown = arg.as_ref().to_string_lossy();
        self.line = format!("{} {shown}", self.line);
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in another directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it something to read on standard input.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(input.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Sets how long it may take; a test fails when it takes longer.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        self.start().finish()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let started = Instant::now();
        let mut process = Process::spawn(self.line.clone(), &mut self.command);
        let child = process.child();
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), self.stdin.take()) {
            // A command that refuses its arguments does not read; that is not our concern.
            std::thread::spawn(move || drop(pipe.write_all(&input)));
        }
        let stdout = read_all(child.stdout.take().expect("stdout is piped"));
        let stderr = read_all(child.stderr.take().expect("stderr is piped"));
        Running { process, line: self.line, limit: self.limit, started, stdout, stderr }
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// A `dfsctl` that runs.
#[derive(Debug)]
pub struct Running {
    process: Process,
    line: String,
    limit: Duration,
    started: Instant,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Waits for its end; kills it and panics when that takes too long.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let status = self.process.wait(left);
        Output {
            line: self.line,
            code: status.code(),
            stdout: self.stdout.join().expect("no panic"),
            stderr: String::from_utf8_lossy(&self.stderr.join().expect("no panic")).into_owned(),
            elapsed: self.started.elapsed(),
        }
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Waits for its end and returns the most memory it had resident, in KiB, with its output.
    #[track_caller]
    pub fn finish_and_weigh(mut self) -> (Output, u64) {
        let mut peak = 0;
        wait::until(&self.line.clone(), self.limit, || {
            peak = self.process.peak_memory_kib().unwrap_or(peak);
            self.process.ended()
        });
        (self.finish(), peak)
    }
}

/// What a `dfsctl` did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Output {
    /// Requires exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Requires this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Requires `text` on standard error.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "`{text}` is not on standard error of {self}");
        self
    }

    /// Requires `text` on standard output.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.text().contains(text), "`{text}` is not on standard output of {self}");
        self
    }

    /// Requires that `text` is not on standard error.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "`{text}` is on standard error of {self}");
        self
    }

    /// Requires an end within this time.
    #[track_caller]
    pub fn within(self, limit: Duration) -> Self {
        assert!(self.elapsed <= limit, "not within {limit:?}: {self}");
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("no text: {self}"))
    }

    /// The lines of standard output.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The line of `--stats` on standard error.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        let objects = self.stderr.lines().filter(|line| line.starts_with('{'));
        let found: Vec<Value> = objects.filter_map(|l| serde_json::from_str(l).ok()).collect();
        let [stats] = &found[..] else {
            panic!("not one line of JSON on standard error: {self}");
        };
        let number = |value: &Value| value.as_u64().expect("stats are numbers");
        let per_node = stats["per_node"].as_array().expect("per_node is an array");
        let per_node: Vec<u64> = per_node.iter().map(number).collect();
        assert!(stats["rounds"].is_u64() && stats["seconds"].is_number(), "{self}");
        Stats {
            bytes: number(&stats["bytes"]),
            per_node: per_node.try_into().expect("per_node has four entries"),
        }
    }
}

/// What `--stats` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Length of the file.
    pub bytes: u64,
    /// Payload bytes from or to each node.
    pub per_node: [u64; 4],
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.stdout[..self.stdout.len().min(2000)];
        let (code, elapsed) = (self.code, self.elapsed);
        writeln!(f, "`{}` (exit {code:?}, {elapsed:?})", self.line)?;
        writeln!(f, "standard output: {}", String::from_utf8_lossy(start))?;
        write!(f, "standard error: {}", self.stderr)
    }
}
