//! The document: tables in Markdown, from all results there are.

use std::fmt::Write;

use crate::results::{Line, Run, Sample};
use crate::summary::{Summary, summarize};
use crate::work;

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

/// What the names of work end in if the peers sync.
const FSYNC: &str = " fsync";

/// Writes the document. `plot` is the name of the picture beside it.
pub(crate) fn write(lines: &[Line], plot: &str) -> String {
    let samples: Vec<Sample> = lines.iter().filter_map(sample_of).collect();
    let mut all = summarize(&samples);
    let order: Vec<String> = work::all(1).into_iter().map(|work| work.name).collect();
    all.sort_by_key(|one| {
        let name = one.workload.strip_suffix(FSYNC).unwrap_or(&one.workload);
        let place = order.iter().position(|known| known == name).unwrap_or(order.len());
        (place, one.workload.ends_with(FSYNC))
    });
    let runs = runs_of(lines, &all);
    let mut text = PREFACE.to_owned();
    text += &measured_on(&runs);
    let _ = write!(text, "\n![Rates of dfs and others]({plot})\n");
    text += &ratios(&all, &runs);
    text += &floor(&all);
    for (title, starts) in SECTIONS {
        let belongs = |one: &&Summary| starts.iter().any(|start| one.workload.starts_with(start));
        let rows: Vec<&Summary> = all.iter().filter(belongs).collect();
        if !rows.is_empty() {
            let _ = write!(text, "\n## {title}\n\n{}", table(&rows, &runs));
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

/// The runs of which there are rows, in the order of the file.
fn runs_of<'a>(lines: &'a [Line], all: &[Summary]) -> Vec<&'a Run> {
    let run = |line: &'a Line| match line {
        Line::Run(run) => Some(run),
        Line::Sample(_) => None,
    };
    let runs = lines.iter().filter_map(run);
    runs.filter(|run| all.iter().any(|one| one.run == run.id)).collect()
}

/// The number by which rows name their run.
fn number(one: &Summary, runs: &[&Run]) -> String {
    let place = runs.iter().position(|run| run.id == one.run);
    place.map_or_else(|| "–".to_owned(), |place| (place + 1).to_string())
}

fn measured_on(runs: &[&Run]) -> String {
    let mut text = "\n## Measured on\n\n\
        | run | day | commit of dfs | machine |\n\
        |---|---|---|---|\n"
        .to_owned();
    let mut versions: Vec<&(String, String)> = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        let commit = run.commit.as_ref().map_or_else(|| "–".to_owned(), |id| format!("`{id}`"));
        let _ = writeln!(text, "| {} | {} | {commit} | {} |", place + 1, run.day, run.machine);
        for version in &run.versions {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    text.push('\n');
    for (name, version) in versions {
        let _ = writeln!(text, "- {name}: `{version}`");
    }
    text
}

/// Of each work: dfs, the fastest other, and how many times faster dfs is.
fn ratios(all: &[Summary], runs: &[&Run]) -> String {
    let mut text = "\n## dfs and the fastest other\n\n\
        | work | run | dfs | fastest other | ratio |\n\
        |---|---|---|---|---|\n"
        .to_owned();
    let mut any = false;
    for own in all.iter().filter(|one| one.system == "dfs") {
        let others = all.iter().filter(|one| one.workload == own.workload && one.system != "dfs");
        let rated = others.filter_map(|one| one.rate().map(|rate| (one, rate)));
        let fastest = rated.max_by(|a, b| a.1.total_cmp(&b.1));
        let (Some(rate), Some((other, theirs))) = (own.rate(), fastest) else { continue };
        any = true;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} ({}) | {:.1} × |",
            own.workload,
            number(own, runs),
            rate_of(own),
            rate_of(other),
            other.system,
            rate / theirs
        );
    }
    if any { text } else { String::new() }
}

/// A put and a get of 1 GiB beside what the machine did in the same run.
fn floor(all: &[Summary]) -> String {
    let found = |workload: &str, system: &str| {
        let same = |one: &&Summary| one.workload == workload && one.system == system;
        all.iter().find(same).filter(|one| one.rounds > 0)
    };
    let beside = |own: &Summary, workload| {
        let here = found(workload, "this machine").filter(|one| one.run == own.run);
        here.map(|one| one.seconds[1])
    };
    let mut text = String::new();
    if let Some(own) = found("put-1g", "dfs")
        && let [Some(md5), Some(net), Some(disk)] =
            ["floor-md5-1g", "floor-loopback-2g", "floor-disk-2g"].map(|name| beside(own, name))
    {
        let (put, sum) = (own.seconds[1], md5 + net + disk);
        let _ = write!(
            text,
            "\nA put of 1 GiB takes {put:.2} s. Its MD5 alone takes {md5:.2} s, to send two copies \
             over loopback {net:.2} s, to write them with one sync {disk:.2} s: {sum:.2} s, one \
             after the other. That sum is a reference and not a bound, as a put sends and writes \
             at the same time: it takes {:.2} of it.\n",
            put / sum
        );
    }
    if let Some(own) = found("get-1g", "dfs")
        && let Some(nginx) = beside(own, "floor-nginx-1g")
    {
        let get = own.seconds[1];
        let _ = write!(
            text,
            "\nA get of 1 GiB takes {get:.2} s, from nginx in four ranges at once {nginx:.2} s: \
             {:.2} of its rate.\n",
            nginx / get
        );
    }
    text
}

fn table(rows: &[&Summary], runs: &[&Run]) -> String {
    let mut text = "| work | run | system | files × rounds | median | least – most | \
                    CPU s, client + servers | MiB, client · servers (largest) | p50 · p99 |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let (work, run, system) = (&row.workload, number(row, runs), &row.system);
        if row.rounds == 0 {
            let why = row.error.as_deref().unwrap_or("no round").replace('|', "/");
            let why: String = why.chars().take(120).collect();
            let _ = writeln!(text, "| {work} | {run} | {system} | | failed: {why} | | | | |");
            continue;
        }
        let failed = match row.failed {
            0 => String::new(),
            count => format!(", {count} failed"),
        };
        let [least, _, most] = row.seconds;
        let mib = |kib: u64| kib >> 10;
        let times = match (row.p50_ms, row.p99_ms, row.first_ms) {
            (Some(p50), Some(p99), _) => format!("{p50:.2} · {p99:.2} ms"),
            (_, _, Some(first)) => format!("first after {first:.1} ms"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "| {work} | {run} | {system} | {} × {}{failed} | {}, {} s | {} – {} s | {:.2} + {:.2} | \
             {} · {} ({}) | {times} |",
            grouped(row.files as f64),
            row.rounds,
            rate_of(row),
            digits(row.seconds[1]),
            digits(least),
            digits(most),
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
        let (run, workload, system) = ("r".to_owned(), workload.to_owned(), system.to_owned());
        Line::Sample(Sample { run, workload, system, seconds, files: 5000, ..Sample::default() })
    }

    fn run() -> Line {
        let (id, commit) = ("r".to_owned(), Some("c0ffee".to_owned()));
        let (day, machine) = ("2026-01-02".to_owned(), "2 cores".to_owned());
        Line::Run(Run { id, commit, day, machine, versions: Vec::new() })
    }

    #[test]
    fn large_numbers_are_grouped() {
        let shown = [1.0, 999.4, 1000.0, 12_345.0, 123_456.0, 1e6].map(grouped);
        assert_eq!(shown, ["1", "999", "1,000", "12,345", "123,456", "1,000,000"]);
    }

    #[test]
    fn rows_say_of_which_run_they_are_and_those_of_peers_that_sync_come_after_the_others() {
        let lines = [
            run(),
            sample("put-1k-64 fsync", "dfs", 1.0),
            sample("put-1k-64 fsync", "slow", 10.0),
            sample("put-1k-64", "dfs", 1.0),
            sample("put-1k-64", "slow", 8.0),
            sample("put-1k-64", "fast", 2.0),
        ];
        let text = write(&lines, "plot.svg");
        for part in [
            "| 1 | 2026-01-02 | `c0ffee` | 2 cores |\n",
            "| put-1k-64 | 1 | 5,000 files/s | 2,500 files/s (fast) | 2.0 × |\n\
             | put-1k-64 fsync | 1 | 5,000 files/s | 500 files/s (slow) | 10.0 × |\n",
            "| put-1k-64 | 1 | slow | 5,000 × 1 | 625 files/s, 8.00 s | 8.00 – 8.00 s | ",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_machine_is_put_beside_what_the_same_run_measured() {
        let parts = ["floor-md5-1g", "floor-loopback-2g", "floor-disk-2g"];
        let mut lines = parts.map(|name| sample(name, "this machine", 1.0)).to_vec();
        lines.push(sample("put-1g", "dfs", 1.5));
        assert!(write(&lines, "plot.svg").contains("it takes 0.50 of it."));
        if let Some(Line::Sample(sample)) = lines.last_mut() {
            sample.run = "another".to_owned();
        }
        assert!(!write(&lines, "plot.svg").contains("of it."));
    }
}
