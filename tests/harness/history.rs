//! What clients did to one path and what they were told: whether one register explains it.
//!
//! Knows nothing of nodes. A register holds one content or nothing; every operation takes
//! effect at one moment between its start and its end. One whose outcome is unknown may take
//! effect at any moment after its start, or never.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// What a path holds: the content of this put, or nothing.
pub type State = Option<u64>;

/// What is known of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It wrote.
    Wrote(State),
    /// It may have written, or may do so yet.
    MayWrite(State),
    /// It was refused: it wrote nothing and never will.
    DidNotWrite(State),
    /// It read.
    Read(State),
    /// It read, and said that the next reader may see something older.
    ReadUnconfirmed(State),
    /// It failed to read.
    Failed,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Which path.
    pub path: usize,
    /// Whose it was.
    pub client: u64,
    /// When it was called, since some moment.
    pub started: Duration,
    /// When it returned, since the same moment.
    pub ended: Duration,
    /// What came of it.
    pub effect: Effect,
}

/// Requires that the operations on each of these paths, in any order, have an explanation.
pub fn require(paths: &[&str], done: &[Done]) {
    let mut wrong = Vec::new();
    for (path, name) in paths.iter().enumerate() {
        let of_path: Vec<Done> = done.iter().filter(|done| done.path == path).copied().collect();
        if let Err(why) = judge(&of_path) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How much of what was done, to see that it was something.
pub fn summary(done: &[Done]) -> String {
    let count = |is: fn(&Effect) -> bool| done.iter().filter(|done| is(&done.effect)).count();
    format!(
        "{} operations: {} writes, {} refused, {} unknown; {} reads, {} unconfirmed, {} failed",
        done.len(),
        count(|effect| matches!(effect, Effect::Wrote(_))),
        count(|effect| matches!(effect, Effect::DidNotWrite(_))),
        count(|effect| matches!(effect, Effect::MayWrite(_))),
        count(|effect| matches!(effect, Effect::Read(_))),
        count(|effect| matches!(effect, Effect::ReadUnconfirmed(_))),
        count(|effect| matches!(effect, Effect::Failed)),
    )
}

/// Says what is wrong with the operations on one path, in any order.
fn judge(operations: &[Done]) -> Result<(), String> {
    let mut sorted = operations.to_vec();
    sorted.sort_by_key(|done| done.started);
    for read in &sorted {
        let (state, unconfirmed) = match read.effect {
            Effect::Read(state) => (state, false),
            Effect::ReadUnconfirmed(state) => (state, true),
            _ => continue,
        };
        if state.is_some() && !may_see(&sorted, state, read) {
            return Err(format!("nobody had written what was read: {read:?}"));
        }
        if unconfirmed && !is_fresh(&sorted, state, read) {
            return Err(format!("older than what was acknowledged: {read:?}"));
        }
    }
    let steps = steps(&sorted);
    search(&steps).map_err(|stuck| {
        let around = &steps[stuck.saturating_sub(12)..steps.len().min(stuck + 12)];
        let lines: Vec<String> = around.iter().map(Step::to_string).collect();
        format!("no order explains it, stuck at step {stuck}:\n{}", lines.join("\n"))
    })
}

fn writes(effect: Effect) -> Option<State> {
    match effect {
        Effect::Wrote(state) | Effect::MayWrite(state) => Some(state),
        _ => None,
    }
}

/// Whether something that may have written `state` had begun when `read` ended.
fn may_see(operations: &[Done], state: State, read: &Done) -> bool {
    let is_source = |done: &&Done| writes(done.effect) == Some(state);
    operations.iter().filter(is_source).any(|done| done.started < read.ended)
}

/// Whether some source of `state` was not replaced, for certain, before `read` began.
fn is_fresh(operations: &[Done], state: State, read: &Done) -> bool {
    let replaced = |since: Duration| {
        operations.iter().any(|done| {
            matches!(done.effect, Effect::Wrote(_))
                && done.started > since
                && done.ended < read.started
        })
    };
    let at_first = state.is_none() && !replaced(Duration::ZERO);
    at_first
        || operations.iter().any(|done| {
            let ended = match done.effect {
                Effect::Wrote(_) => done.ended,
                _ => Duration::MAX,
            };
            writes(done.effect) == Some(state) && done.started < read.ended && !replaced(ended)
        })
}

/// An operation as the search sees it.
#[derive(Clone, Copy)]
struct Step {
    client: u64,
    started: Duration,
    ended: Duration,
    write: bool,
    state: State,
    /// It need not take effect at all.
    optional: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.started, self.ended].map(|time| time.as_secs_f64());
        let may = if self.optional { "may have " } else { "" };
        let what = if self.write { "written" } else { "read" };
        write!(f, "{from:.4}..{to:.4} client {}: {may}{what} {:?}", self.client, self.state)
    }
}

/// What has to be put in order, by start. A put of unknown outcome counts from its start to the
/// end of the first read of it; one that nobody read changes nothing and is left out.
fn steps(sorted: &[Done]) -> Vec<Step> {
    let seen = |state: State| {
        let reads = sorted.iter().filter(|read| read.effect == Effect::Read(state));
        reads.map(|read| read.ended).min()
    };
    let step = |done: &Done| {
        let &Done { client, started, ended, effect, .. } = done;
        let (write, state, ended, optional) = match effect {
            Effect::Wrote(state) => (true, state, ended, false),
            Effect::Read(state) => (false, state, ended, false),
            Effect::MayWrite(None) => (true, None, Duration::MAX, true),
            Effect::MayWrite(state) => (true, state, seen(state)?, false),
            Effect::DidNotWrite(_) | Effect::ReadUnconfirmed(_) | Effect::Failed => return None,
        };
        Some(Step { client, started, ended, write, state, optional })
    };
    sorted.iter().filter_map(step).collect()
}

/// Which steps have taken effect, and what the path holds then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reached {
    taken: Vec<u64>,
    holds: State,
}

impl Reached {
    fn has(&self, step: usize) -> bool {
        self.taken[step / 64] & (1 << (step % 64)) != 0
    }

    fn take(&mut self, step: usize) {
        self.taken[step / 64] |= 1 << (step % 64);
    }
}

/// Looks for an order that explains every step; else says how far any order comes.
fn search(steps: &[Step]) -> Result<(), usize> {
    let nothing = Reached { taken: vec![0; steps.len().div_ceil(64)], holds: None };
    let mut known = HashSet::new();
    let mut left = vec![nothing];
    let mut farthest = 0;
    while let Some(mut reached) = left.pop() {
        let next = next_writes(steps, &mut reached);
        let first = (0..steps.len()).find(|step| !steps[*step].optional && !reached.has(*step));
        let Some(first) = first else { return Ok(()) };
        farthest = farthest.max(first);
        for step in next {
            let mut then = reached.clone();
            then.take(step);
            then.holds = steps[step].state;
            if known.insert(then.clone()) {
                left.push(then);
            }
        }
    }
    Err(farthest)
}

/// The writes that may come next. Reads that fit are taken at once: that excludes nothing.
fn next_writes(steps: &[Step], reached: &mut Reached) -> Vec<usize> {
    loop {
        let possible = possible(steps, reached);
        let (writes, reads): (Vec<usize>, Vec<usize>) =
            possible.into_iter().partition(|step| steps[*step].write);
        let mut fits = reads.into_iter().filter(|step| steps[*step].state == reached.holds);
        match fits.next() {
            Some(step) => reached.take(step),
            None => {
                // Removals of unknown outcome are all alike, and needed only where something is.
                let optional = writes.iter().copied().find(|step| steps[*step].optional);
                let optional = optional.filter(|_| reached.holds.is_some());
                let certain = writes.into_iter().filter(|step| !steps[*step].optional);
                return optional.into_iter().chain(certain).collect();
            }
        }
    }
}

/// The steps that began before any other that is left had ended.
fn possible(steps: &[Step], reached: &Reached) -> Vec<usize> {
    let mut found = Vec::new();
    let mut first_end = Duration::MAX;
    for (index, step) in steps.iter().enumerate().filter(|(index, _)| !reached.has(*index)) {
        if step.started > first_end {
            break;
        }
        first_end = first_end.min(step.ended);
        found.push(index);
    }
    found.retain(|index| steps[*index].started <= first_end);
    found
}

#[cfg(test)]
mod tests {
    use super::Effect::{DidNotWrite, MayWrite, Read, ReadUnconfirmed, Wrote};
    use super::*;

    /// Operations of (start, end, effect).
    fn judged<const N: usize>(operations: [(u64, u64, Effect); N]) -> bool {
        let done = operations.map(|(started, ended, effect)| Done {
            path: 0,
            client: 0,
            started: Duration::from_secs(started),
            ended: Duration::from_secs(ended),
            effect,
        });
        judge(&done).is_ok()
    }

    #[test]
    fn what_one_register_does_is_explained() {
        assert!(judged([]));
        assert!(judged([(1, 2, Read(None)), (3, 4, Wrote(Some(1))), (5, 6, Read(Some(1)))]));
        // At the same time, in either order.
        let both = [(1, 9, Wrote(Some(1))), (1, 9, Wrote(Some(2)))];
        for last in [1, 2] {
            assert!(judged([both[0], both[1], (10, 11, Read(Some(last)))]));
            let other = (12, 13, Read(Some(3 - last)));
            assert!(!judged([both[0], both[1], (10, 11, Read(Some(last))), other]));
        }
        assert!(judged([(1, 2, Wrote(Some(1))), (3, 4, Wrote(None)), (5, 6, Read(None))]));
        assert!(!judged([(1, 2, Wrote(Some(1))), (3, 4, Wrote(None)), (5, 6, Read(Some(1)))]));
    }

    #[test]
    fn an_old_value_a_lost_one_and_one_that_comes_back_are_not() {
        let [one, two] = [(1, 2, Wrote(Some(1))), (3, 4, Wrote(Some(2)))];
        assert!(!judged([one, two, (5, 6, Read(Some(1)))]));
        assert!(!judged([one, (3, 4, Read(None))]));
        // During the second put: the new one, then the old one again.
        let slow = (3, 9, Wrote(Some(2)));
        assert!(judged([one, slow, (4, 5, Read(Some(1))), (6, 7, Read(Some(2)))]));
        assert!(!judged([one, slow, (4, 5, Read(Some(2))), (6, 7, Read(Some(1)))]));
    }

    #[test]
    fn what_is_unknown_takes_effect_late_or_never_but_only_once() {
        let (one, late) = ((1, 2, Wrote(Some(1))), (3, 4, MayWrite(Some(2))));
        let reads = |states: [u64; 3]| {
            let read = |at: usize| (5 + 2 * at as u64, 6 + 2 * at as u64, Read(Some(states[at])));
            judged([one, late, read(0), read(1), read(2)])
        };
        assert!(reads([1, 1, 1]) && reads([1, 1, 2]) && reads([1, 2, 2]) && reads([2, 2, 2]));
        assert!(!reads([1, 2, 1]) && !reads([2, 1, 1]));
        let gone = (3, 4, MayWrite(None));
        assert!(judged([one, gone, (5, 6, Read(Some(1))), (7, 8, Read(None))]));
        assert!(!judged([one, gone, (5, 6, Read(None)), (7, 8, Read(Some(1)))]));
        let again = (7, 8, Wrote(Some(3)));
        assert!(!judged([one, gone, (5, 6, Read(None)), again, (9, 10, Read(None))]));
        assert!(judged([one, gone, gone, (5, 6, Read(None)), again, (9, 10, Read(None))]));
    }

    #[test]
    fn what_was_refused_leaves_no_trace() {
        assert!(judged([(1, 2, DidNotWrite(Some(1))), (3, 4, Read(None))]));
        assert!(!judged([(1, 2, DidNotWrite(Some(1))), (3, 4, Read(Some(1)))]));
        assert!(!judged([(1, 2, DidNotWrite(Some(1))), (3, 4, ReadUnconfirmed(Some(1)))]));
        assert!(!judged([(5, 6, Wrote(Some(1))), (3, 4, Read(Some(1)))]));
    }

    #[test]
    fn an_unconfirmed_read_may_go_back_but_not_behind_what_was_acknowledged() {
        let [one, two] = [(1, 2, Wrote(Some(1))), (3, 9, Wrote(Some(2)))];
        let flagged = |at, state| (at, at + 1, ReadUnconfirmed(Some(state)));
        assert!(judged([one, two, flagged(4, 2), (6, 7, Read(Some(1)))]));
        assert!(judged([one, two, flagged(10, 2)]));
        assert!(!judged([one, two, flagged(10, 1)]));
        assert!(!judged([one, (3, 4, ReadUnconfirmed(None))]));
        assert!(judged([(1, 2, ReadUnconfirmed(None)), one]));
    }
}
