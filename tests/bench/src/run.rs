//! Runs work on each system in turn, round after round.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::local;
use crate::results::{self, Line, Sample};
use crate::site::Site;
use crate::target::Target;
use crate::work::{Floor, Work, Workload};

/// How long the stores have to notice that a node is gone.
const LOSS: Duration = Duration::from_secs(10);

/// What to do.
pub(crate) struct Plan {
    /// The run's name in results.
    pub(crate) run: String,
    pub(crate) targets: Vec<Target>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    /// No work begins after that.
    pub(crate) until: Instant,
    pub(crate) results: PathBuf,
    /// Added to the names of the work if the peers sync.
    pub(crate) suffix: &'static str,
}

/// A run of a plan.
pub(crate) struct Bench {
    plan: Plan,
    site: Site,
}

impl Bench {
    pub(crate) fn new(plan: Plan, site: Site) -> Self {
        Self { plan, site }
    }

    /// Does all of it. What fails is a result as well.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let (down, up): (Vec<_>, Vec<_>) =
            self.plan.workloads.clone().into_iter().partition(|workload| workload.degraded);
        for workload in &up {
            let ready = self.prepare(workload).await?;
            self.rounds_of(workload, &ready).await?;
        }
        // What is read while a node is down was stored while all were up.
        let mut prepared = Vec::new();
        for workload in &down {
            prepared.push((workload, self.prepare(workload).await?));
        }
        if prepared.iter().all(|(_, ready)| ready.is_empty()) {
            return Ok(());
        }
        self.site.stores.lose_one().await?;
        tokio::time::sleep(LOSS).await;
        for (workload, ready) in prepared {
            self.rounds_of(workload, &ready).await?;
        }
        Ok(())
    }

    /// Whether the time is over, which is said.
    fn is_late(&self, workload: &Workload, round: u32) -> bool {
        let late = Instant::now() >= self.plan.until;
        if late {
            println!("{}{}: out of time in round {round}", workload.name, self.plan.suffix);
        }
        late
    }

    /// Stores what is read later; the systems that have it.
    async fn prepare(&mut self, workload: &Workload) -> Result<Vec<Target>, Error> {
        let mut ready = Vec::new();
        if matches!(workload.work, Work::Floor(_)) {
            return Ok(ready);
        }
        for target in self.plan.targets.clone() {
            if self.is_late(workload, 0) {
                return Ok(Vec::new());
            }
            match self.site.prepare(target, workload.work).await {
                Ok(()) => ready.push(target),
                Err(error) => self.report(workload, target.name(), 0, Err(error))?,
            }
        }
        Ok(ready)
    }

    async fn rounds_of(&mut self, workload: &Workload, ready: &[Target]) -> Result<(), Error> {
        if let Work::Floor(floor) = workload.work {
            return self.rounds_of_floor(workload, floor).await;
        }
        if matches!(workload.work, Work::GetTree { .. }) && !ready.is_empty() {
            tokio::time::sleep(local::REMOVAL).await;
        }
        for round in 0..self.plan.rounds {
            for (turn, target) in turns(ready, round).into_iter().enumerate() {
                if self.is_late(workload, round) {
                    return Ok(());
                }
                if turn == 0 {
                    self.site.make_sources(workload.work)?;
                }
                let done = self.site.once(workload, target, round).await;
                self.report(workload, target.name(), round, done)?;
            }
        }
        Ok(())
    }

    async fn rounds_of_floor(&self, workload: &Workload, floor: Floor) -> Result<(), Error> {
        for round in 0..self.plan.rounds {
            if self.is_late(workload, round) {
                return Ok(());
            }
            let done = self.site.floor(workload.work, floor).await;
            self.report(workload, "this machine", round, done)?;
        }
        Ok(())
    }

    fn report(
        &self,
        workload: &Workload,
        system: &str,
        round: u32,
        done: Result<Sample, Error>,
    ) -> Result<(), Error> {
        let work = workload.work;
        let failed = |error: Error| Sample {
            bytes: work.bytes(),
            files: work.files(),
            error: Some(error.to_string()),
            ..Sample::default()
        };
        let suffix = if matches!(work, Work::Floor(_)) { "" } else { self.plan.suffix };
        let sample = Sample {
            run: self.plan.run.clone(),
            workload: format!("{}{suffix}", workload.name),
            system: system.to_owned(),
            round,
            ..done.unwrap_or_else(failed)
        };
        println!("{}", results::shown(&sample));
        results::add(&self.plan.results, &Line::Sample(sample))
    }
}

/// The systems in the order of a round: who is first differs from round to round.
fn turns(ready: &[Target], round: u32) -> Vec<Target> {
    let mut turns = ready.to_vec();
    if !turns.is_empty() {
        turns.rotate_left(round as usize % ready.len());
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_is_first_in_its_turn() {
        let first = |round| turns(&Target::ALL, round)[0];
        assert_eq!([first(0), first(1), first(2), first(3)], Target::ALL);
        assert_eq!(first(4), first(0));
        assert_eq!(turns(&[], 3), []);
    }
}
