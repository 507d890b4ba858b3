//! Results: one JSON object a line, so that runs can be added to one file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// Where and how what follows was measured.
    Run(Run),
    /// One piece of work.
    Sample(Sample),
}

/// A run of this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Random: what its samples say they are of.
    #[serde(default)]
    pub(crate) id: String,
    /// The commit that was built.
    #[serde(default)]
    pub(crate) commit: Option<String>,
    /// Day, UTC.
    pub(crate) day: String,
    pub(crate) machine: String,
    /// Programs and what they say their version is.
    pub(crate) versions: Vec<(String, String)>,
}

/// One piece of work by one system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The run it is of.
    #[serde(default)]
    pub(crate) run: String,
    pub(crate) workload: String,
    pub(crate) system: String,
    pub(crate) round: u32,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// Processor seconds.
    pub(crate) client_cpu: f64,
    pub(crate) servers_cpu: f64,
    /// Peaks of resident memory: the client's, all servers' together, any one server's.
    pub(crate) client_kib: u64,
    pub(crate) servers_kib: u64,
    pub(crate) server_kib: u64,
    /// Of single operations, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Until the first name of a list, in milliseconds.
    pub(crate) first_ms: Option<f64>,
    /// Why it failed; then nothing else counts.
    pub(crate) error: Option<String>,
}

/// Adds a line to `file`.
pub(crate) fn add(file: &Path, line: &Line) -> Result<(), Error> {
    let mut open = OpenOptions::new();
    let opened = open.append(true).create(true).open(file);
    let mut opened: File = opened.map_err(Error::file("open", file))?;
    let mut text = serde_json::to_string(line).map_err(|error| Error::refused("JSON", error))?;
    text.push('\n');
    opened.write_all(text.as_bytes()).map_err(Error::file("write", file))
}

/// Reads all lines of `file`.
pub(crate) fn read(file: &Path) -> Result<Vec<Line>, Error> {
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    let numbered = text.lines().enumerate();
    let parsed = numbered.map(|(number, line)| {
        let wrong = |error| {
            let place = format!("{}:{}", file.display(), number + 1);
            Error::refused(place, format!("{error}"))
        };
        serde_json::from_str(line).map_err(wrong)
    });
    parsed.collect()
}

/// One line for people.
pub(crate) fn shown(sample: &Sample) -> String {
    let head = format!("{:<22} {:<16}", sample.workload, sample.system);
    if let Some(error) = &sample.error {
        return format!("{head} failed: {error}");
    }
    let rate = if sample.bytes >= sample.files.saturating_mul(1 << 20) && sample.bytes > 0 {
        format!("{:>8.0} MB/s   ", sample.bytes as f64 / sample.seconds / 1e6)
    } else {
        format!("{:>8.0} files/s", sample.files as f64 / sample.seconds)
    };
    let mut text = format!(
        "{head} {:>8.3} s {rate}  cpu {:>6.2} + {:>6.2} s  mem {:>4} + {:>5} MiB",
        sample.seconds,
        sample.client_cpu,
        sample.servers_cpu,
        sample.client_kib >> 10,
        sample.servers_kib >> 10,
    );
    let times = [("p50", sample.p50_ms), ("p99", sample.p99_ms), ("first", sample.first_ms)];
    for (name, time) in times {
        if let Some(time) = time {
            text += &format!("  {name} {time:.2} ms");
        }
    }
    text
}
