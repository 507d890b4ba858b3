//! Who is calling: passwords are exchanged for tokens, tokens for a user's name.
//!
//! Tokens are 32 random bytes that live in this process only, kept as their SHA-256: whoever
//! reads the memory of a core dump cannot log in with what he finds, and a look-up by hash
//! needs no comparison in constant time.

pub(crate) mod failures;

pub(crate) mod layer;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dfs_proto::name::UserName;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::hex;
use crate::password::HashMemory;
use crate::users::Users;
use failures::Failures;

/// Lifetime of a token.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Most tokens that are valid at a time; the oldest ones go first.
const MAX_TOKENS: usize = 100_000;
/// Logins that may run at a time, each in memory of its own.
const MAX_CORES: usize = 4;
/// Logins that may wait for a core. Each takes tens of milliseconds.
const MAX_WAITING: usize = 256;
/// Longest such wait.
const MAX_WAIT: Duration = Duration::from_secs(10);

type TokenHash = [u8; 32];

/// An authenticated user. Made by the layer only.
#[derive(Debug, Clone)]
pub(crate) struct Principal(pub(crate) UserName);

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("user and password do not match")]
    Refused,
    #[error("too many logins wait already")]
    Overloaded,
    #[error("the login failed")]
    Failed,
}

/// Users, tokens and the secret of the cluster. Has no `Debug`.
pub(crate) struct Auth {
    users: Users,
    peer_secret: TokenHash,
    /// Held for map access only.
    tokens: Mutex<Tokens>,
    cores: Arc<Semaphore>,
    /// As many as logins ran at a time. Held for access to the list only.
    memory: Mutex<Vec<HashMemory>>,
    waiting: AtomicUsize,
    /// Logins that failed of late.
    pub(crate) failures: Failures,
}

#[derive(Default)]
struct Tokens {
    by_hash: HashMap<TokenHash, (UserName, Instant)>,
    /// Expiry and a serial number, oldest first.
    by_age: BTreeMap<(Instant, u64), TokenHash>,
    serial: u64,
}

impl Auth {
    pub(crate) fn new(users: Users, peer_secret: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CORES);
        Self {
            users,
            peer_secret: hash(peer_secret),
            tokens: Mutex::default(),
            cores: Arc::new(Semaphore::new(cores)),
            memory: Mutex::default(),
            waiting: AtomicUsize::new(0),
            failures: Failures::default(),
        }
    }

    /// Exchanges a name and a password for a token.
    pub(crate) async fn login(
        self: &Arc<Self>,
        name: String,
        password: String,
    ) -> Result<String, LoginError> {
        let _queued = Queued::enter(&self.waiting).ok_or(LoginError::Overloaded)?;
        let core = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.cores).acquire_owned()).await;
        let core = core.map_err(|_| LoginError::Overloaded)?.map_err(|_| LoginError::Failed)?;
        let auth = Arc::clone(self);
        // Goes on with its core and its memory when the caller goes away: who connects and
        // leaves again must not get more of either.
        let verified = tokio::task::spawn_blocking(move || {
            let _core = core;
            let mut memory = auth.memory().pop().unwrap_or_default();
            let user = auth.users.verify(&name, &password, &mut memory);
            auth.memory().push(memory);
            user
        });
        let user = verified.await.map_err(|_| LoginError::Failed)?.ok_or(LoginError::Refused)?;
        self.issue(user, Instant::now())
    }

    fn issue(&self, user: UserName, now: Instant) -> Result<String, LoginError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| LoginError::Failed)?;
        let token = hex::encode(&random);
        self.tokens().insert(hash(&token), user, now);
        Ok(token)
    }

    /// The user of a token, if it is valid.
    pub(crate) fn user_of(&self, token: &str) -> Option<UserName> {
        self.tokens().find(&hash(token), Instant::now())
    }

    /// Whether this is the secret of the cluster.
    pub(crate) fn is_peer(&self, secret: &str) -> bool {
        use subtle::ConstantTimeEq;
        hash(secret).ct_eq(&self.peer_secret).into()
    }

    fn memory(&self) -> MutexGuard<'_, Vec<HashMemory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn insert(&mut self, hash: TokenHash, user: UserName, now: Instant) {
        while let Some(oldest) = self.by_age.first_entry() {
            let expired = oldest.key().0 <= now;
            if !expired && self.by_hash.len() < MAX_TOKENS {
                break;
            }
            self.by_hash.remove(&oldest.remove());
        }
        let expiry = now + TOKEN_LIFE;
        self.serial += 1;
        self.by_age.insert((expiry, self.serial), hash);
        self.by_hash.insert(hash, (user, expiry));
    }

    fn find(&self, hash: &TokenHash, now: Instant) -> Option<UserName> {
        let (user, expiry) = self.by_hash.get(hash)?;
        (now < *expiry).then(|| user.clone())
    }
}

fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}

/// A place among the logins that wait or run.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let queued = Self(waiting);
        (before < MAX_WAITING).then_some(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn tokens_expire() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        tokens.insert([1; 32], user("alice"), now);
        let just_before = now + TOKEN_LIFE - Duration::from_secs(1);
        assert_eq!(tokens.find(&[1; 32], just_before), Some(user("alice")));
        assert_eq!(tokens.find(&[1; 32], now + TOKEN_LIFE), None);
        assert_eq!(tokens.find(&[2; 32], now), None);
        tokens.insert([2; 32], user("bob"), now + TOKEN_LIFE);
        assert_eq!(tokens.by_hash.len(), 1, "the expired one is gone");
        assert_eq!(tokens.by_age.len(), 1);
    }

    #[test]
    fn tokens_are_bounded() {
        let mut tokens = Tokens::default();
        let now = Instant::now();
        let id = |i: usize| hash(&i.to_string());
        for i in 0..MAX_TOKENS + 10 {
            tokens.insert(id(i), user("alice"), now);
        }
        assert_eq!(tokens.by_hash.len(), MAX_TOKENS);
        assert_eq!(tokens.find(&id(9), now), None, "the oldest went");
        assert!(tokens.find(&id(10), now).is_some());
    }

    #[test]
    fn the_queue_has_an_end() {
        let waiting = AtomicUsize::new(0);
        let queued: Vec<_> = (0..MAX_WAITING).map(|_| Queued::enter(&waiting)).collect();
        assert!(queued.iter().all(Option::is_some));
        assert!(Queued::enter(&waiting).is_none());
        drop(queued);
        assert!(Queued::enter(&waiting).is_some());
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
