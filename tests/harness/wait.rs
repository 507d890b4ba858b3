//! Waiting for something to be so.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks again and again until there is a value, and returns it.
///
/// Panics, naming `what`, when there is none within `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?} of waiting");
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks again and again until the answer is yes. Panics as [`until`] does.
#[track_caller]
pub fn until_true(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) {
    until(what, limit, || ask().then_some(()));
}
