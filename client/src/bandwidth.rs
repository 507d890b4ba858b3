//! A limit for what transfers move in a second, all of them together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far ahead of the limit transfers may be: a pause of that length is made up for.
const BURST: Duration = Duration::from_millis(100);

const NANOS: u128 = 1_000_000_000;

/// Bounds the payload that all transfers of the clients that share it send and receive.
///
/// At any time after its making at most `rate * (seconds + 0.1)` bytes have been let through. Of a
/// read that is what is taken from its connections: nodes send up to 8 MiB ahead, and the first
/// 256 KiB of a chunk come with a node's answer and are paid for afterwards.
#[derive(Debug)]
pub struct Bandwidth {
    started: Instant,
    /// Held for a few instructions, never while waiting.
    schedule: Mutex<Schedule>,
    taken: AtomicU64,
}

impl Bandwidth {
    /// The lowest limit, in bytes per second: with less a stream may get no block of 1 MiB
    /// through before its node takes it for broken.
    pub const LEAST: u64 = 512 << 10;

    /// Limits to `rate` bytes per second; to [`Bandwidth::LEAST`] if that is less.
    pub fn new(rate: u64) -> Self {
        Self {
            started: Instant::now(),
            schedule: Mutex::new(Schedule { rate: rate.max(Self::LEAST), free_at: Duration::ZERO }),
            taken: AtomicU64::new(0),
        }
    }

    /// Bytes that were let through or have a time at which they will be.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Books bytes and says how long to wait before they are moved.
    pub(crate) fn reserve(&self, bytes: u64) -> Duration {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        let now = self.started.elapsed();
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).reserve(now, bytes)
    }
}

/// When which bytes may go. Time is what has passed since the start.
#[derive(Debug)]
struct Schedule {
    rate: u64,
    /// When all that was booked has gone, at this rate.
    free_at: Duration,
}

impl Schedule {
    fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(self.rate));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).saturating_add(takes);
        self.free_at.saturating_sub(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1 << 20;

    #[test]
    fn never_more_than_the_rate_and_a_burst_has_gone() {
        let mut schedule = Schedule { rate: RATE, free_at: Duration::ZERO };
        let mut moved: Vec<(Duration, u64)> = Vec::new();
        // Odd lengths at odd times, with pauses, from several at once.
        let mut now = Duration::ZERO;
        for step in 0..2_000_u64 {
            let bytes = step * 7_919 % (3 << 20);
            moved.push((now + schedule.reserve(now, bytes), bytes));
            if step % 3 == 0 {
                now += Duration::from_millis(step * 31 % 9_000);
            }
        }
        moved.sort_unstable();
        let mut gone = 0_u128;
        for (at, bytes) in moved {
            gone += u128::from(bytes);
            let most = u128::from(RATE) * (at + BURST).as_nanos() / NANOS;
            assert!(gone <= most, "{gone} bytes have gone at {at:?}, most is {most}");
        }
    }

    #[test]
    fn the_rate_is_used_and_a_pause_is_not_saved_up() {
        let mut schedule = Schedule { rate: RATE, free_at: Duration::ZERO };
        let second = Duration::from_secs(1);
        assert_eq!(schedule.reserve(Duration::ZERO, RATE), second - BURST);
        assert_eq!(schedule.reserve(Duration::ZERO, RATE), 2 * second - BURST);
        let later = 3_600 * second;
        assert_eq!(schedule.reserve(later, RATE / 16), Duration::ZERO);
        assert_eq!(schedule.reserve(later, RATE), second + second / 16 - BURST);
    }

    #[test]
    fn counts_what_it_lets_through() {
        let bandwidth = Bandwidth::new(1);
        bandwidth.reserve(1000);
        bandwidth.reserve(24);
        assert_eq!(bandwidth.taken(), 1024);
    }
}
