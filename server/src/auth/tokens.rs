//! Tokens that are valid now: who holds them, and until when. Knows neither passwords nor the
//! transport.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use dfs_proto::name::UserName;

use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;

/// Lifetime of a token, used or not.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);
/// A token that was not used for this long ends early.
pub(crate) const TOKEN_IDLE: Duration = Duration::from_secs(2 * 3600);
/// Most tokens that are valid at a time; the oldest ones go first.
const MAX_TOKENS: usize = 100_000;

/// SHA-256 of a token.
pub(crate) type TokenHash = [u8; 32];

#[derive(Default)]
pub(super) struct Tokens {
    by_hash: HashMap<TokenHash, Entry>,
    /// Expiry and a serial number, oldest first.
    by_age: BTreeMap<(Instant, u64), TokenHash>,
    serial: u64,
}

struct Entry {
    user: UserName,
    /// Its key in `by_age`.
    age: (Instant, u64),
    last_used: Instant,
}

impl Tokens {
    pub(super) fn insert(&mut self, hash: TokenHash, user: UserName, now: Instant) {
        while let Some(oldest) = self.by_age.first_entry() {
            let expired = oldest.key().0 <= now;
            if !expired && self.by_hash.len() < MAX_TOKENS {
                break;
            }
            if !expired {
                limit_hit(Limit::Tokens);
            }
            self.by_hash.remove(&oldest.remove());
        }
        self.serial += 1;
        let age = (now + TOKEN_LIFE, self.serial);
        self.by_age.insert(age, hash);
        self.by_hash.insert(hash, Entry { user, age, last_used: now });
    }

    /// The user of a token that is valid; it counts as used.
    pub(super) fn find(&mut self, hash: &TokenHash, now: Instant) -> Option<UserName> {
        let entry = self.by_hash.get_mut(hash)?;
        if now < entry.age.0 && now < entry.last_used + TOKEN_IDLE {
            entry.last_used = now;
            return Some(entry.user.clone());
        }
        self.remove(hash);
        None
    }

    /// Ends one token.
    pub(super) fn remove(&mut self, hash: &TokenHash) {
        if let Some(entry) = self.by_hash.remove(hash) {
            self.by_age.remove(&entry.age);
        }
    }

    /// Ends all tokens of the users that `gone` names.
    pub(super) fn remove_users(&mut self, gone: impl Fn(&UserName) -> bool) {
        let Self { by_hash, by_age, .. } = self;
        by_hash.retain(|_, entry| {
            let stays = !gone(&entry.user);
            if !stays {
                by_age.remove(&entry.age);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    fn id(i: usize) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&i.to_be_bytes());
        hash
    }

    #[test]
    fn a_token_ends_after_its_life_however_much_it_is_used() {
        let mut tokens = Tokens::default();
        let start = Instant::now();
        tokens.insert(id(1), user("alice"), start);
        let mut now = start;
        while now < start + TOKEN_LIFE {
            assert_eq!(tokens.find(&id(1), now), Some(user("alice")));
            now += TOKEN_IDLE / 2;
        }
        assert_eq!(tokens.find(&id(1), start + TOKEN_LIFE), None);
        assert_eq!(tokens.find(&id(2), start), None);
        tokens.insert(id(2), user("bob"), start + TOKEN_LIFE);
        assert_eq!((tokens.by_hash.len(), tokens.by_age.len()), (1, 1), "the expired one is gone");
    }

    #[test]
    fn a_token_ends_when_it_is_not_used() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        tokens.insert(id(1), user("alice"), now);
        let late = now + TOKEN_IDLE - MINUTE;
        assert!(tokens.find(&id(1), late).is_some());
        assert!(tokens.find(&id(1), late + TOKEN_IDLE - MINUTE).is_some(), "used in between");
        assert!(tokens.find(&id(1), late + 3 * TOKEN_IDLE).is_none());
        assert!(tokens.by_age.is_empty() && tokens.by_hash.is_empty());
    }

    #[test]
    fn tokens_are_bounded() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        for i in 0..MAX_TOKENS + 10 {
            tokens.insert(id(i), user("alice"), now);
        }
        assert_eq!(tokens.by_hash.len(), MAX_TOKENS);
        assert_eq!(tokens.find(&id(9), now), None, "the oldest went");
        assert!(tokens.find(&id(10), now).is_some());
    }

    #[test]
    fn tokens_of_one_user_or_one_token_end_alone() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        for (i, name) in ["alice", "alice", "bob", "bob"].into_iter().enumerate() {
            tokens.insert(id(i), user(name), now);
        }
        tokens.remove(&id(2));
        tokens.remove_users(|name| name.as_str() == "alice");
        let left: Vec<bool> = (0..4).map(|i| tokens.find(&id(i), now).is_some()).collect();
        assert_eq!(left, [false, false, false, true]);
        assert_eq!(tokens.by_age.len(), 1);
    }
}
