//! How often a login may fail: each failure takes something out of a bucket that fills up again
//! with time. A login that succeeds takes nothing.
//!
//! There is one bucket for a name and an address together, so that nobody can lock another out
//! from elsewhere, and one for the address, against trying many names. Who has logged in from an
//! address before is not held up by what others there do.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Failures of one name from one address at once: a person who mistypes, a script that tries
/// four nodes.
const OF_NAME: Limit = Limit { burst: 10.0, refill: Duration::from_secs(12) };
/// Failures of one address at once, whatever the names.
const OF_ADDRESS: Limit = Limit { burst: 20.0, refill: Duration::from_secs(3) };
/// Logins that run at the same time may all fail: a bucket can owe so many.
const MAX_DEBT: f64 = 50.0;
/// Buckets of each kind that are kept. A full one says nothing and goes first.
const MAX_BUCKETS: usize = 10_000;

/// How many failures are allowed at once, and how long it takes to regain one.
#[derive(Clone, Copy)]
struct Limit {
    burst: f64,
    refill: Duration,
}

/// What is left in a bucket, and when that was so.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// A name as it was offered, whether there is such a user or not, and where it was offered.
type Pair = ([u8; 32], IpAddr);

/// The failures of late.
#[derive(Default)]
pub(crate) struct Failures {
    /// Held for map access only.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    pairs: HashMap<Pair, Bucket>,
    addresses: HashMap<IpAddr, Bucket>,
    /// Who has logged in from where.
    known: HashMap<Pair, Instant>,
}

impl Failures {
    /// Whether a login may be tried; else how long to wait for the next one.
    pub(crate) fn allow(&self, name: &str, from: IpAddr) -> Result<(), Duration> {
        self.allow_at(name, from, Instant::now())
    }

    fn allow_at(&self, name: &str, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = pair(name, from);
        wait(counts.pairs.get(&pair), OF_NAME, now)?;
        if counts.known.contains_key(&pair) {
            return Ok(());
        }
        wait(counts.addresses.get(&from), OF_ADDRESS, now)
    }

    /// Notes that name and password did not match.
    pub(crate) fn failed(&self, name: &str, from: IpAddr) {
        self.failed_at(name, from, Instant::now());
    }

    fn failed_at(&self, name: &str, from: IpAddr, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut counts.pairs, pair(name, from), OF_NAME, now);
        take(&mut counts.addresses, from, OF_ADDRESS, now);
    }

    /// Notes that somebody has logged in.
    pub(crate) fn succeeded(&self, name: &str, from: IpAddr) {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut counts.known;
        let pair = pair(name, from);
        if known.len() >= MAX_BUCKETS
            && !known.contains_key(&pair)
            && let Some(oldest) = known.iter().min_by_key(|(_, at)| **at).map(|(pair, _)| *pair)
        {
            known.remove(&oldest);
        }
        known.insert(pair, now);
    }
}

impl Bucket {
    fn left(self, limit: Limit, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed / limit.refill.as_secs_f64()).min(limit.burst)
    }
}

/// How long until a bucket has one more to give, if it has none now.
fn wait(bucket: Option<&Bucket>, limit: Limit, now: Instant) -> Result<(), Duration> {
    let left = bucket.map_or(limit.burst, |bucket| bucket.left(limit, now));
    if left >= 1.0 { Ok(()) } else { Err(limit.refill.mul_f64(1.0 - left)) }
}

fn take<K: Hash + Eq + Copy>(buckets: &mut HashMap<K, Bucket>, key: K, limit: Limit, now: Instant) {
    if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
        buckets.retain(|_, bucket| bucket.left(limit, now) < limit.burst);
        // Whoever fails from ever other addresses makes room for himself only.
        if buckets.len() >= MAX_BUCKETS
            && let Some(oldest) = buckets.iter().min_by_key(|(_, b)| b.at).map(|(key, _)| *key)
        {
            buckets.remove(&oldest);
        }
    }
    let left = buckets.get(&key).map_or(limit.burst, |bucket| bucket.left(limit, now));
    buckets.insert(key, Bucket { left: (left - 1.0).max(-MAX_DEBT), at: now });
}

/// Names are kept as hashes: what was typed as one may be a password, and has any length.
fn pair(name: &str, from: IpAddr) -> Pair {
    (Sha256::digest(name.as_bytes()).into(), from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn failures_are_used_up_and_come_back() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(failures.allow_at("alice", address(1), now), Ok(()));
            failures.failed_at("alice", address(1), now);
        }
        let wait = failures.allow_at("alice", address(1), now).unwrap_err();
        assert_eq!(wait, OF_NAME.refill);
        assert_eq!(failures.allow_at("alice", address(2), now), Ok(()), "from elsewhere");
        assert_eq!(failures.allow_at("bob", address(1), now), Ok(()), "another name");
        let later = now + Duration::from_millis(12_001);
        assert_eq!(failures.allow_at("alice", address(1), later), Ok(()));
        failures.failed_at("alice", address(1), later);
        assert!(failures.allow_at("alice", address(1), later).is_err());
    }

    #[test]
    fn many_names_from_one_address_are_one_who_guesses() {
        let (failures, now) = (Failures::default(), Instant::now());
        failures.succeeded("carol", address(1));
        for name in 0..20 {
            failures.failed_at(&name.to_string(), address(1), now);
        }
        assert!(failures.allow_at("never tried", address(1), now).is_err());
        assert_eq!(failures.allow_at("carol", address(1), now), Ok(()), "was here before");
        assert_eq!(failures.allow_at("carol", address(2), now), Ok(()));
        for _ in 0..10 {
            failures.failed_at("carol", address(1), now);
        }
        assert!(failures.allow_at("carol", address(1), now).is_err(), "her own failures count");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (failures, now) = (Failures::default(), Instant::now());
        for name in 0..MAX_BUCKETS + 50 {
            failures.failed_at(&name.to_string(), address(1), now);
        }
        assert_eq!(failures.counts.lock().unwrap().pairs.len(), MAX_BUCKETS);
        let later = now + Duration::from_secs(3600);
        failures.failed_at("one more", address(1), later);
        assert_eq!(failures.counts.lock().unwrap().pairs.len(), 1, "full ones say nothing");
    }
}
