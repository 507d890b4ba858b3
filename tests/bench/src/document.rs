//! The document: tables in Markdown, from all results there are.

use std::fmt::Write;

use crate::results::{Line, Run, Sample};
use crate::summary::{Summary, summarize};

/// What is said before the tables. What is fair about them and what is not belongs here.
const PREFACE: &str = include_str!("preface.md");

/// Titles, and how the names of their work begin.
const SECTIONS: &[(&str, &[&str])] = &[
    ("Large files", &["put-1g", "get-1g", "cold-get-1g", "put-8x128m", "get-8x128m"]),
    ("Small files", &["put-1k", "put-4k", "put-64k", "get-1k", "get-4k", "get-64k"]),
    ("Lists", &["list-"]),
    ("One node down", &["down-"]),
    ("Growth", &["scale-"]),
    ("What this machine can do", &["floor-"]),
];

/// Writes the document. `plot` is the name of the picture beside it.
pub(crate) fn write(lines: &[Line], plot: &str) -> String {
    let samples: Vec<Sample> = lines.iter().filter_map(sample_of).collect();
    let all = summarize(&samples);
    let mut text = PREFACE.to_owned();
    text += &measured_on(lines);
    let _ = write!(text, "\n![Rates of dfs and others]({plot})\n");
    text += &ratios(&all);
    text += &floor(&all);
    for (title, starts) in SECTIONS {
        let belongs = |one: &&Summary| starts.iter().any(|start| one.workload.starts_with(start));
        let rows: Vec<&Summary> = all.iter().filter(belongs).collect();
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{}", table(&rows));
        }
    }
    text
}

fn sample_of(line: &Line) -> Option<Sample> {
    match line {
        Line::Sample(sample) => Some(sample.clone()),
        Line::Run(_) => None,
    }
}

fn measured_on(lines: &[Line]) -> String {
    let mut runs: Vec<&Run> = Vec::new();
    for line in lines {
        if let Line::Run(run) = line
            && !runs.iter().any(|known| known.machine == run.machine)
        {
            runs.push(run);
        }
    }
    let mut versions: Vec<&(String, String)> = Vec::new();
    for line in lines {
        if let Line::Run(run) = line {
            for version in &run.versions {
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
        }
    }
    let mut text = "\n## Measured on\n\n".to_owned();
    for run in runs {
        let _ = writeln!(text, "- {}, {}", run.day, run.machine);
    }
    for (name, version) in versions {
        let _ = writeln!(text, "- {name}: `{version}`");
    }
    text
}

/// Of each work: dfs, the fastest other, and how many times faster dfs is.
fn ratios(all: &[Summary]) -> String {
    let mut text = "\n## dfs and the fastest other\n\n\
        | work | dfs | fastest other, as it comes | ratio | fastest other, syncing | ratio |\n\
        |---|---|---|---|---|---|\n"
        .to_owned();
    let mut any = false;
    for own in all.iter().filter(|one| one.system == "dfs") {
        let Some(rate) = own.rate() else { continue };
        let fastest = |synced: bool| {
            let others = all.iter().filter(|one| one.workload == own.workload);
            let others = others.filter(|one| one.system != "dfs");
            let others = others.filter(|one| one.system.ends_with(" fsync") == synced);
            let rated = others.filter_map(|one| one.rate().map(|rate| (one, rate)));
            rated.max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let cells = [false, true].map(|synced| match fastest(synced) {
            Some((other, theirs)) => {
                format!("{} ({}) | {:.1} ×", rate_of(other), other.system, rate / theirs)
            }
            None => "– | –".to_owned(),
        });
        if cells.iter().all(|cell| cell.starts_with('–')) {
            continue;
        }
        any = true;
        let [plain, synced] = cells;
        let _ = writeln!(text, "| {} | {} | {plain} | {synced} |", own.workload, rate_of(own));
    }
    if any { text } else { String::new() }
}

/// How near a put of 1 GiB comes to what the machine allows.
fn floor(all: &[Summary]) -> String {
    let time = |workload: &str, system: &str| {
        let same = |one: &&Summary| one.workload == workload && one.system == system;
        all.iter().find(same).filter(|one| one.rounds > 0).map(|one| one.seconds[1])
    };
    let here = "this machine";
    let mut text = String::new();
    let parts = ["floor-md5-1g", "floor-loopback-2g", "floor-disk-2g"].map(|name| time(name, here));
    if let ([Some(md5), Some(net), Some(disk)], Some(put)) = (parts, time("put-1g", "dfs")) {
        let sum = md5 + net + disk;
        let _ = write!(
            text,
            "\nA put of 1 GiB cannot take less than its MD5 ({md5:.2} s), sending two copies over \
             loopback ({net:.2} s) and writing them with one sync ({disk:.2} s), one after the \
             other {sum:.2} s. It takes {put:.2} s: {:.2} of what is possible.\n",
            sum / put
        );
    }
    if let (Some(nginx), Some(get)) = (time("floor-nginx-1g", here), time("get-1g", "dfs")) {
        let _ = writeln!(
            text,
            "A get of 1 GiB takes {get:.2} s, from nginx in four ranges {nginx:.2} s: {:.2} of \
             its rate.",
            nginx / get
        );
    }
    text
}

fn table(rows: &[&Summary]) -> String {
    let mut text = "| work | system | median | least – most | rounds | CPU s, client + servers | \
                    MiB, client · servers (largest) | p50 · p99 |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let (work, system) = (&row.workload, &row.system);
        if row.rounds == 0 {
            let why = row.error.as_deref().unwrap_or("no round").replace('|', "/");
            let why: String = why.chars().take(120).collect();
            let _ = writeln!(text, "| {work} | {system} | failed: {why} | | | | | |");
            continue;
        }
        let [least, _, most] = row.seconds;
        let mib = |kib: u64| kib >> 10;
        let times = match (row.p50_ms, row.p99_ms, row.first_ms) {
            (Some(p50), Some(p99), _) => format!("{p50:.2} · {p99:.2} ms"),
            (_, _, Some(first)) => format!("first after {first:.1} ms"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "| {work} | {system} | {}, {} s | {} – {} s | {} | {:.2} + {:.2} | {} · {} ({}) | \
             {times} |",
            rate_of(row),
            digits(row.seconds[1]),
            digits(least),
            digits(most),
            row.rounds,
            row.client_cpu,
            row.servers_cpu,
            mib(row.client_kib),
            mib(row.servers_kib),
            mib(row.server_kib),
        );
    }
    text
}

/// A rate with its unit.
pub(crate) fn rate_of(one: &Summary) -> String {
    match one.rate() {
        None => "failed".to_owned(),
        Some(rate) if one.is_large() => format!("{:.0} MB/s", rate / 1e6),
        Some(rate) => format!("{} files/s", grouped(rate)),
    }
}

fn grouped(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let first = digits.len() % 3;
    let place = |(index, digit): (usize, char)| {
        let comma = index > 0 && index % 3 == first;
        [comma.then_some(','), Some(digit)]
    };
    digits.chars().enumerate().flat_map(place).flatten().collect()
}

fn digits(seconds: f64) -> String {
    if seconds < 1.0 { format!("{seconds:.3}") } else { format!("{seconds:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(workload: &str, system: &str, seconds: f64) -> Line {
        let (workload, system) = (workload.to_owned(), system.to_owned());
        Line::Sample(Sample { workload, system, seconds, files: 5000, ..Sample::default() })
    }

    #[test]
    fn large_numbers_are_grouped() {
        let shown = [1.0, 999.4, 1000.0, 12_345.0, 123_456.0, 1e6].map(grouped);
        assert_eq!(shown, ["1", "999", "1,000", "12,345", "123,456", "1,000,000"]);
    }

    #[test]
    fn the_fastest_other_is_named_once_with_and_once_without_syncs() {
        let lines = [
            sample("put-1k-64", "dfs", 1.0),
            sample("put-1k-64", "slow", 8.0),
            sample("put-1k-64", "fast", 2.0),
            sample("put-1k-64", "slow fsync", 10.0),
        ];
        let text = write(&lines, "plot.svg");
        let row = "| put-1k-64 | 5,000 files/s | 2,500 files/s (fast) | 2.0 × | \
                   500 files/s (slow fsync) | 10.0 × |";
        assert!(text.contains(row), "{text}");
    }
}
