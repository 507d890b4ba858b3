//! Who is calling: passwords are exchanged for tokens, tokens for a user's name.
//!
//! Tokens are 32 random bytes that live in this process only, kept as their SHA-256: whoever
//! reads the memory of a core dump cannot log in with what he finds, and a look-up by hash
//! needs no comparison in constant time. A token ends with its time, with a logout, and when
//! its user's password or role is changed or he is removed.

mod failures;

pub(crate) mod layer;

mod reload;

mod tokens;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dfs_proto::name::UserName;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::audit::{Audit, Event};
use crate::hex;
use crate::password::HashMemory;
use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;
use crate::users::{Role, Users};
use failures::Failures;
pub(crate) use tokens::TOKEN_LIFE;
use tokens::{TokenHash, Tokens};

/// Logins that may run at a time, each in memory of its own.
const MAX_CORES: usize = 4;
/// Logins that may wait for a core. Each takes tens of milliseconds.
const MAX_WAITING: usize = 256;
/// Longest such wait.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// An authenticated user. Made by the layer only.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) user: UserName,
    pub(crate) role: Role,
    /// Of the token that he came with.
    pub(crate) token: TokenHash,
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("user and password do not match")]
    Refused,
    #[error("too many logins have failed; try again in {} s", .0.as_secs() + 1)]
    TooManyFailures(Duration),
    #[error("too many logins wait already")]
    Overloaded,
    #[error("the login failed")]
    Failed,
}

/// Users, tokens and the secret of the cluster. Has no `Debug`.
pub(crate) struct Auth {
    /// Replaced as a whole when the file changes. Held for access to the pointer only.
    users: Mutex<Arc<Users>>,
    peer_secret: TokenHash,
    /// Told who comes and who is refused.
    pub(crate) audit: Audit,
    /// Held for map access only.
    tokens: Mutex<Tokens>,
    cores: Arc<Semaphore>,
    /// As many as logins ran at a time. Held for access to the list only.
    memory: Mutex<Vec<HashMemory>>,
    waiting: AtomicUsize,
    /// Logins that failed of late.
    failures: Failures,
}

impl Auth {
    pub(crate) fn new(users: Users, peer_secret: &str, audit: Audit) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CORES);
        Self {
            users: Mutex::new(Arc::new(users)),
            peer_secret: hash(peer_secret),
            audit,
            tokens: Mutex::default(),
            cores: Arc::new(Semaphore::new(cores)),
            memory: Mutex::default(),
            waiting: AtomicUsize::new(0),
            failures: Failures::default(),
        }
    }

    /// Exchanges a name and a password for a token. Who tries it from where is told in the log
    /// and in the audit log, and counts where it fails; `from` is an address as limits share it.
    pub(crate) async fn login(
        self: &Arc<Self>,
        name: String,
        password: String,
        from: Option<IpAddr>,
    ) -> Result<String, LoginError> {
        let offered = name.clone();
        let allowed = from.map_or(Ok(()), |from| self.failures.allow(&offered, from));
        let token = match allowed {
            Ok(()) => self.check(name, password).await,
            Err(wait) => Err(LoginError::TooManyFailures(wait)),
        };
        // What was typed as a name may be a password: only what can be a name is told.
        let user = UserName::new(&*offered).ok();
        let user = user.as_ref().map(UserName::as_str);
        let peer = from.map(tracing::field::display);
        match &token {
            Ok(_) => tracing::info!(user, peer, "logged in"),
            // There may be thousands.
            Err(LoginError::TooManyFailures(_)) => {
                tracing::debug!(user, peer, "a login came after too many that failed");
            }
            Err(error) => tracing::info!(user, peer, %error, "a login failed"),
        }
        match &token {
            Ok(_) => self.audit.tell(from, &Event::Login { user: user.unwrap_or_default() }),
            Err(error) => {
                self.audit.tell(from, &Event::LoginRefused { user, why: error.to_string() });
            }
        }
        match (&token, from) {
            (Ok(_), Some(from)) => self.failures.succeeded(&offered, from),
            (Err(LoginError::Refused), Some(from)) => self.failures.failed(&offered, from),
            (Err(LoginError::TooManyFailures(_)), _) => limit_hit(Limit::FailedLogins),
            (Err(LoginError::Overloaded), _) => limit_hit(Limit::LoginQueue),
            _ => {}
        }
        token
    }

    /// A token for a name and a password that match.
    async fn check(self: &Arc<Self>, name: String, password: String) -> Result<String, LoginError> {
        let _queued = Queued::enter(&self.waiting).ok_or(LoginError::Overloaded)?;
        let core = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.cores).acquire_owned()).await;
        let core = core.map_err(|_| LoginError::Overloaded)?.map_err(|_| LoginError::Failed)?;
        let (auth, users) = (Arc::clone(self), self.users());
        let verified_by = Arc::clone(&users);
        // Goes on with its core and its memory when the caller goes away: who connects and
        // leaves again must not get more of either.
        let verified = tokio::task::spawn_blocking(move || {
            let _core = core;
            let mut memory = auth.memory().pop().unwrap_or_default();
            let user = users.verify(&name, &password, &mut memory);
            auth.memory().push(memory);
            user
        });
        let user = verified.await.map_err(|_| LoginError::Failed)?.ok_or(LoginError::Refused)?;
        self.issue(user, &verified_by, Instant::now())
    }

    /// A new token for a user whose password `verified_by` knows; refused where that has
    /// changed meanwhile.
    fn issue(
        &self,
        user: UserName,
        verified_by: &Users,
        now: Instant,
    ) -> Result<String, LoginError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| LoginError::Failed)?;
        let token = hex::encode(&random);
        // Whoever replaces the users ends their tokens afterwards, under this lock.
        let mut tokens = self.tokens();
        if !self.users().agrees(verified_by, &user) {
            return Err(LoginError::Refused);
        }
        tokens.insert(hash(&token), user, now);
        Ok(token)
    }

    /// Who comes with a token, if it is valid.
    pub(crate) fn principal(&self, token: &str) -> Option<Principal> {
        let token = hash(token);
        let user = self.tokens().find(&token, Instant::now())?;
        let role = self.users().role(&user);
        Some(Principal { user, role, token })
    }

    /// Ends a token.
    pub(crate) fn logout(&self, token: &TokenHash) {
        self.tokens().remove(token);
    }

    /// Takes new users and ends the tokens of those who are changed or gone.
    pub(crate) fn replace_users(&self, users: Users) {
        let users = Arc::new(users);
        let old = std::mem::replace(&mut *self.lock_users(), Arc::clone(&users));
        self.tokens().remove_users(|user| !users.agrees(&old, user));
    }

    /// Whether this is the secret of the cluster.
    pub(crate) fn is_peer(&self, secret: &str) -> bool {
        use subtle::ConstantTimeEq;
        hash(secret).ct_eq(&self.peer_secret).into()
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.lock_users())
    }

    fn lock_users(&self) -> MutexGuard<'_, Arc<Users>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Vec<HashMemory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
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
