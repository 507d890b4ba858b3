//! Tags: the order of the versions of one path, and how a writer chooses its place in it.

use std::fmt;

/// A node refuses a tag that is further ahead of its clock than this, in milliseconds.
pub const MAX_AHEAD_MS: u64 = 60_000;

/// A node whose clock is further off than this, in milliseconds, is reported to the user.
pub const REPORTED_SKEW_MS: u64 = 30_000;

/// A hybrid logical clock: milliseconds since 1970 in the upper 48 bits, a counter below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(u64);

impl Hlc {
    /// Takes a raw value.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The first value of the millisecond `ms` since 1970.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms << 16)
    }

    /// The raw value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// Whether a node whose clock shows `now_ms` refuses this value.
    pub const fn is_future(self, now_ms: u64) -> bool {
        self.ms() > now_ms.saturating_add(MAX_AHEAD_MS)
    }
}

/// The place of a version in the order of versions of its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Compared first.
    pub hlc: Hlc,
    /// Chosen at random by the writer; makes tags unique.
    pub writer: [u8; 16],
}

impl fmt::Display for Tag {
    /// `HLC-WRITER` in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:032x}", self.hlc.get(), u128::from_be_bytes(self.writer))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What one Serving node says to a writer that chooses a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagAnswer {
    /// The hlc of the path's newest version there; `None` where it has none.
    pub current: Option<Hlc>,
    /// The node's clock.
    pub proposed: Hlc,
}

/// Chooses the hlc of a new version from the answers of Serving nodes: above every current
/// one, and not below the second-largest clock. One node with a fast clock therefore moves
/// nothing, and the writer's own clock is never asked.
///
/// `None` with fewer than two answers, or at the end of time.
pub fn choose_hlc(answers: &[TagAnswer]) -> Option<Hlc> {
    let mut clocks: Vec<Hlc> = answers.iter().map(|answer| answer.proposed).collect();
    clocks.sort_unstable();
    let clock = *clocks.get(clocks.len().checked_sub(2)?)?;
    match answers.iter().filter_map(|answer| answer.current).max() {
        Some(current) => Some(Hlc(current.0.checked_add(1)?).max(clock)),
        None => Some(clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(current: Option<u64>, proposed: u64) -> TagAnswer {
        TagAnswer { current: current.map(Hlc), proposed: Hlc(proposed) }
    }

    #[test]
    fn hlc_decides_before_writer() {
        let tag = |hlc, writer| Tag { hlc: Hlc(hlc), writer: [writer; 16] };
        assert!(tag(1, 9) < tag(2, 0));
        assert!(tag(2, 0) < tag(2, 1));
        let ends = |last: u8| Tag {
            hlc: Hlc(1),
            writer: [[0; 15].as_slice(), &[last]].concat().try_into().unwrap(),
        };
        assert!(ends(255) < Tag { hlc: Hlc(1), writer: [1; 16] }, "big-endian order");
    }

    #[test]
    fn one_fast_clock_moves_nothing() {
        let answers = [answer(None, 100), answer(None, 101), answer(None, 99_999)];
        assert_eq!(choose_hlc(&answers), Some(Hlc(101)));
        assert_eq!(choose_hlc(&[answer(None, 7), answer(None, 5)]), Some(Hlc(5)));
    }

    #[test]
    fn needs_two_answers() {
        assert_eq!(choose_hlc(&[]), None);
        assert_eq!(choose_hlc(&[answer(Some(1), 1)]), None);
        assert_eq!(choose_hlc(&[answer(Some(u64::MAX), 1), answer(None, 1)]), None);
    }

    #[test]
    fn future_is_more_than_a_minute_ahead() {
        assert!(!Hlc::from_ms(60_005).is_future(5));
        assert!(Hlc::from_ms(60_006).is_future(5));
        assert!(!Hlc::new(u64::MAX).is_future(u64::MAX));
    }

    proptest! {
        #[test]
        fn is_above_every_current_tag(
            answers in prop::collection::vec((prop::option::of(0..u64::MAX), any::<u64>()), 2..5)
        ) {
            let answers: Vec<_> = answers.into_iter().map(|(c, p)| answer(c, p)).collect();
            let chosen = choose_hlc(&answers).unwrap();
            for a in &answers {
                prop_assert!(a.current.is_none_or(|current| chosen > current));
            }
            let not_above = answers.iter().filter(|a| a.proposed <= chosen).count();
            prop_assert!(not_above >= answers.len() - 1);
        }
    }
}
