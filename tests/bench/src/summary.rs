//! What many samples of the same work by the same system say together.

use crate::results::Sample;

/// All samples of one work by one system in one run.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) workload: String,
    pub(crate) run: String,
    pub(crate) system: String,
    /// Rounds that succeeded, and that did not.
    pub(crate) rounds: usize,
    pub(crate) failed: usize,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// Least, middle and most, in seconds.
    pub(crate) seconds: [f64; 3],
    /// The middle ones: processor seconds.
    pub(crate) client_cpu: f64,
    pub(crate) servers_cpu: f64,
    /// The largest ones, in KiB.
    pub(crate) client_kib: u64,
    pub(crate) servers_kib: u64,
    pub(crate) server_kib: u64,
    /// The middle ones.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) first_ms: Option<f64>,
    /// Why the last one that failed did.
    pub(crate) error: Option<String>,
}

impl Summary {
    /// Files or bytes in a second, in the middle round; `None` if all failed.
    pub(crate) fn rate(&self) -> Option<f64> {
        let amount = if self.is_large() { self.bytes } else { self.files };
        (self.rounds > 0).then(|| amount as f64 / self.seconds[1])
    }

    /// Whether bytes count, not files.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes >= self.files.saturating_mul(1 << 20) && self.bytes > 0
    }
}

/// Sums up samples, in the order in which their work and their systems first appear. Of each work
/// only the newest run counts, which is the last in the file: what was measured at another time is
/// not put beside it.
pub(crate) fn summarize(samples: &[Sample]) -> Vec<Summary> {
    let mut works: Vec<&str> = Vec::new();
    for sample in samples {
        if !works.contains(&&*sample.workload) {
            works.push(&sample.workload);
        }
    }
    works.into_iter().flat_map(|work| newest(work, samples)).collect()
}

fn newest(workload: &str, samples: &[Sample]) -> Vec<Summary> {
    let mut all: Vec<&Sample> = samples.iter().filter(|one| one.workload == workload).collect();
    let run = all.last().map_or("", |last| &*last.run);
    all.retain(|one| one.run == run);
    // Files without names of runs have several runs in one, and not all of the same size.
    let files = all.iter().rfind(|one| one.error.is_none()).map(|one| one.files);
    all.retain(|one| one.error.is_some() || Some(one.files) == files);
    let mut systems: Vec<&str> = Vec::new();
    for sample in &all {
        if !systems.contains(&&*sample.system) {
            systems.push(&sample.system);
        }
    }
    let of = |system: &str| {
        let all = all.iter().copied().filter(|sample| sample.system == system);
        one((workload, run), system, &all.collect::<Vec<_>>())
    };
    systems.into_iter().map(of).collect()
}

fn one((workload, run): (&str, &str), system: &str, all: &[&Sample]) -> Summary {
    let good: Vec<&Sample> = all.iter().copied().filter(|one| one.error.is_none()).collect();
    let values = |part: fn(&Sample) -> f64| sorted(good.iter().map(|sample| part(sample)));
    let some = |part: fn(&Sample) -> Option<f64>| {
        let values = sorted(good.iter().filter_map(|sample| part(sample)));
        (!values.is_empty()).then(|| middle(&values))
    };
    let most = |part: fn(&Sample) -> u64| good.iter().map(|one| part(one)).max().unwrap_or(0);
    let seconds = values(|sample| sample.seconds);
    let ends = |values: &[f64]| {
        (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
    };
    let (least, longest) = ends(&seconds);
    Summary {
        workload: workload.to_owned(),
        run: run.to_owned(),
        system: system.to_owned(),
        rounds: good.len(),
        failed: all.len() - good.len(),
        bytes: most(|sample| sample.bytes),
        files: most(|sample| sample.files),
        seconds: [least, middle(&seconds), longest],
        client_cpu: middle(&values(|sample| sample.client_cpu)),
        servers_cpu: middle(&values(|sample| sample.servers_cpu)),
        client_kib: most(|sample| sample.client_kib),
        servers_kib: most(|sample| sample.servers_kib),
        server_kib: most(|sample| sample.server_kib),
        p50_ms: some(|sample| sample.p50_ms),
        p99_ms: some(|sample| sample.p99_ms),
        first_ms: some(|sample| sample.first_ms),
        error: all.iter().rev().find_map(|sample| sample.error.clone()),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The median of sorted values; 0 of none.
fn middle(values: &[f64]) -> f64 {
    let half = values.len() / 2;
    match values {
        [] => 0.0,
        _ if values.len().is_multiple_of(2) => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(system: &str, seconds: f64, error: Option<&str>) -> Sample {
        Sample {
            workload: "put".to_owned(),
            system: system.to_owned(),
            files: 100,
            seconds,
            error: error.map(str::to_owned),
            ..Sample::default()
        }
    }

    #[test]
    fn medians_are_of_the_rounds_that_succeeded() {
        let samples = [
            sample("a", 3.0, None),
            sample("b", 1.0, Some("no")),
            sample("a", 1.0, None),
            sample("a", 9.0, None),
            sample("a", 0.0, Some("late")),
        ];
        let [a, b] = &summarize(&samples)[..] else { panic!("two systems") };
        assert_eq!((a.rounds, a.seconds, a.error.as_deref()), (3, [1.0, 3.0, 9.0], Some("late")));
        assert!((a.rate().unwrap() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!((a.failed, b.failed), (1, 1));
        assert_eq!((b.rounds, b.rate()), (0, None));
    }

    #[test]
    fn no_rate_is_of_the_files_of_one_run_and_the_time_of_another() {
        let of = |run: &str, system: &str, files, seconds| Sample {
            run: run.to_owned(),
            files,
            ..sample(system, seconds, None)
        };
        let samples = [
            of("old", "a", 10_000, 10.0),
            of("old", "gone", 10_000, 10.0),
            of("new", "a", 100, 1.0),
            of("new", "a", 100, 2.0),
        ];
        let [a] = &summarize(&samples)[..] else { panic!("one system") };
        assert_eq!((&*a.run, a.files, a.rounds, a.seconds), ("new", 100, 2, [1.0, 1.5, 2.0]));
        let nameless = [of("", "a", 10_000, 10.0), of("", "b", 10_000, 8.0), of("", "a", 100, 1.0)];
        let [a] = &summarize(&nameless)[..] else { panic!("one system") };
        assert_eq!((a.rounds, a.rate()), (1, Some(100.0)));
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        assert!((middle(&[1.0, 2.0, 4.0, 8.0]) - 3.0).abs() < 1e-9);
    }
}
