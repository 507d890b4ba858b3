//! The two pairs of opposite nodes, each of which holds a whole copy, and the turns that GETs take
//! between them.
//!
//! A GET alone asks all four nodes and lets no slow one delay it. Of many at the same time that is
//! twice the messages they need: each asks the nodes of one pair, in turn, and the other two only
//! where those do not decide it, fail or keep it waiting. A pair that did is left out for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dfs_proto::placement::NodeId;
use tokio::time::Instant;

/// From so many GETs at the same time on, each asks one pair first.
const MANY: usize = 8;

/// How long a pair may keep a GET waiting before it asks the other one as well. Longer than an
/// answer takes that needs the disk.
pub(crate) const PATIENCE: Duration = Duration::from_millis(25);

/// How long no GET asks a pair first after it failed one, so that a node that is slow or gone delays
/// few.
const CAUTION: Duration = Duration::from_secs(1);

/// Two opposite nodes, which hold a whole copy together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// Nodes 1 and 3.
    Odd,
    /// Nodes 2 and 4.
    Even,
}

impl Pair {
    pub(crate) fn contains(self, id: NodeId) -> bool {
        id.index().is_multiple_of(2) == (self == Self::Odd)
    }
}

/// Whose turn it is.
pub(crate) struct Turns {
    under_way: AtomicUsize,
    taken: AtomicUsize,
    began: Instant,
    /// Until when each pair is left out, in milliseconds after `began`.
    out_until: [AtomicU64; 2],
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            began: Instant::now(),
            out_until: Default::default(),
        }
    }

    /// Begins a GET, which may have chosen its pair itself.
    pub(crate) fn take(self: &Arc<Self>, chosen: Option<Pair>) -> Turn {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        let in_turn = others + 1 >= MANY && chosen.is_none();
        let pair = if in_turn { self.next() } else { None };
        Turn { turns: self.clone(), pair }
    }

    /// The pair whose turn it is, the other one where that is left out, none where both are.
    fn next(&self) -> Option<Pair> {
        let pairs = match self.taken.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            true => [Pair::Odd, Pair::Even],
            false => [Pair::Even, Pair::Odd],
        };
        let now = self.now();
        let is_in = |pair: &Pair| self.out_until[*pair as usize].load(Ordering::Relaxed) <= now;
        pairs.into_iter().find(is_in)
    }

    /// A pair has failed a GET, or kept it waiting.
    pub(crate) fn failed(&self, pair: Pair) {
        let until = self.now().saturating_add(milliseconds(CAUTION));
        self.out_until[pair as usize].fetch_max(until, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        milliseconds(self.began.elapsed())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A GET under way, until it is dropped.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    /// Whom it asks first; `None`: all.
    pub(crate) pair: Option<Pair>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(turns: &[Turn]) -> Vec<Option<Pair>> {
        turns.iter().map(|turn| turn.pair).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn few_gets_ask_all_and_many_take_turns() {
        let turns = Arc::new(Turns::new());
        let few: Vec<Turn> = (1..MANY).map(|_| turns.take(None)).collect();
        assert_eq!(pairs(&few), vec![None; MANY - 1]);
        let more: Vec<Turn> = (0..4).map(|_| turns.take(None)).collect();
        let (odd, even) = (Some(Pair::Odd), Some(Pair::Even));
        assert_eq!(pairs(&more), [odd, even, odd, even]);
        assert_eq!(turns.take(even).pair, None, "it has chosen one");
        assert_eq!(turns.take(None).pair, odd, "and takes nobody's turn");
        drop(few);
        assert_eq!(turns.take(None).pair, None, "the first ones have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_failed_is_left_out_for_a_while() {
        let turns = Arc::new(Turns::new());
        let _few: Vec<Turn> = (1..MANY).map(|_| turns.take(None)).collect();
        let next =
            |count| -> Vec<Option<Pair>> { (0..count).map(|_| turns.take(None).pair).collect() };
        let (odd, even) = (Some(Pair::Odd), Some(Pair::Even));
        turns.failed(Pair::Even);
        assert_eq!(next(4), [odd; 4]);
        turns.failed(Pair::Odd);
        assert_eq!(next(4), [None; 4], "all ask four nodes");
        tokio::time::advance(CAUTION).await;
        assert_eq!(next(4), [odd, even, odd, even]);
    }
}
