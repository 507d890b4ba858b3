//! Who may ask the admin address.
//!
//! On a loopback address everybody on the machine, without credentials; but no web page that a
//! browser on the machine has open, neither by a name of its own that leads here (the Host
//! header is checked) nor by a request across sites. On any other address an administrator with
//! his password, through the same queue as every login.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::audit::Event;
use crate::auth::{Auth, LoginError, Principal};
use crate::connections::share;
use crate::users::Role;

/// Credentials that are known to be good, so that a scraper does not pay for a hash each time.
const REMEMBERED: usize = 64;

/// Why somebody was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this address answers to localhost only")]
    Host,
    #[error("requests of other sites are not answered")]
    CrossSite,
    #[error("no administrator, or the wrong password")]
    Credentials,
    #[error("too many logins wait, or have failed")]
    Busy,
}

/// Lets in who may ask. Has no `Debug`.
pub(super) struct Door {
    is_loopback: bool,
    auth: Arc<Auth>,
    /// By hash of the credentials the token they were exchanged for. Held for map access only.
    good: Mutex<HashMap<[u8; 32], String>>,
}

impl Door {
    pub(super) fn new(is_loopback: bool, auth: Arc<Auth>) -> Self {
        Self { is_loopback, auth, good: Mutex::default() }
    }

    /// Checks a request's headers.
    pub(super) async fn admit(&self, headers: &HeaderMap, from: IpAddr) -> Result<(), Refusal> {
        if is_cross_site(headers) {
            return Err(Refusal::CrossSite);
        }
        if self.is_loopback {
            return if names_loopback(headers) { Ok(()) } else { Err(Refusal::Host) };
        }
        let from = share(from);
        let caller = self.caller(headers, from).await?;
        match caller.role {
            Role::Admin => Ok(()),
            Role::User => {
                let (user, why) = (Some(caller.user.as_str()), "no administrator");
                let event = Event::Refused { user, method: "admin address", why };
                self.auth.audit.tell(Some(from), &event);
                Err(Refusal::Credentials)
            }
        }
    }

    /// Who came with these credentials.
    async fn caller(&self, headers: &HeaderMap, from: IpAddr) -> Result<Principal, Refusal> {
        let (name, password) = basic(headers).ok_or(Refusal::Credentials)?;
        let key = key(&name, &password);
        let token = self.good().get(&key).cloned();
        // A token that was withdrawn takes what is remembered along.
        if let Some(caller) = token.and_then(|token| self.auth.principal(&token)) {
            return Ok(caller);
        }
        let token = self.auth.login(name, password, Some(from)).await;
        let token = token.map_err(|error| match error {
            LoginError::TooManyFailures(_) | LoginError::Overloaded => Refusal::Busy,
            LoginError::Refused | LoginError::Failed => Refusal::Credentials,
        })?;
        let caller = self.auth.principal(&token).ok_or(Refusal::Credentials)?;
        let mut good = self.good();
        if good.len() >= REMEMBERED {
            good.clear();
        }
        good.insert(key, token);
        Ok(caller)
    }

    fn good(&self) -> MutexGuard<'_, HashMap<[u8; 32], String>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: &str, password: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    // No name has a NUL that is a user's, so name and password cannot run into each other.
    hash.update(name.as_bytes());
    hash.update([0]);
    hash.update(password.as_bytes());
    hash.finalize().into()
}

/// Name and password of the authorization header.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Whether a browser says that another site's page makes the request, other than by a link.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let says = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let other = matches!(says("sec-fetch-site"), Some("cross-site" | "same-site"));
    other && says("sec-fetch-mode") != Some("navigate")
}

/// Whether the Host header names this machine by one of the names that only it has.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Audit;
    use dfs_proto::name::UserName;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let each = all.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), value.parse().expect("a value"))
        });
        let mut map = HeaderMap::new();
        each.for_each(|(name, value): (_, http::HeaderValue)| {
            map.append(name, value);
        });
        map
    }

    #[test]
    fn only_names_of_the_loopback_are_answered() {
        for host in [
            "localhost",
            "localhost:11001",
            "LocalHost:1",
            "127.0.0.1:11001",
            "127.9.9.9",
            "[::1]:9",
            "[::1]",
        ] {
            assert!(names_loopback(&headers(&[("host", host)])), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:11001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "10.0.0.1:11001",
            "[::2]",
            "localhost:11001:x",
            "localhost@evil",
        ] {
            assert!(!names_loopback(&headers(&[("host", host)])), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()), "no host at all");
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(!names_loopback(&two), "two hosts");
    }

    #[test]
    fn other_sites_may_link_here_and_nothing_else() {
        let cross = |site, mode| {
            is_cross_site(&headers(&[("sec-fetch-site", site), ("sec-fetch-mode", mode)]))
        };
        assert!(cross("cross-site", "no-cors"));
        assert!(cross("cross-site", "cors"));
        assert!(cross("same-site", "no-cors"), "another port of this machine");
        assert!(!cross("cross-site", "navigate"));
        assert!(!cross("same-origin", "cors"));
        assert!(!cross("none", "navigate"));
        assert!(!is_cross_site(&HeaderMap::new()), "no browser");
    }

    #[tokio::test]
    async fn off_the_loopback_a_password_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let mut users = crate::users::Users::load_or_empty(&dir.path().join("users")).unwrap();
        let alice = UserName::new("alice").unwrap();
        users.add(alice, "right", Role::Admin).unwrap();
        users.add(UserName::new("bob").unwrap(), "right", Role::User).unwrap();
        let auth = Arc::new(Auth::new(users, "the secret of the cluster", Audit::default()));
        let from = IpAddr::from([10, 0, 0, 7]);
        let door = Door::new(false, Arc::clone(&auth));
        let by = |name: &str, password: &str| {
            let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
            let basic = format!("Basic {encoded}");
            headers(&[("host", "dfs1.example:11001"), ("authorization", &basic)])
        };
        let of = |password| by("alice", password);
        assert_eq!(door.admit(&HeaderMap::new(), from).await, Err(Refusal::Credentials));
        assert_eq!(door.admit(&of("wrong"), from).await, Err(Refusal::Credentials));
        assert_eq!(door.admit(&by("bob", "right"), from).await, Err(Refusal::Credentials));
        door.good().clear();
        assert_eq!(door.admit(&of("right"), from).await, Ok(()));
        assert_eq!(door.good().len(), 1, "and is remembered");
        assert_eq!(door.admit(&of("right"), from).await, Ok(()));
        assert_eq!(door.admit(&of("wrong"), from).await, Err(Refusal::Credentials));
        let local = Door::new(true, auth);
        assert_eq!(local.admit(&of("right"), from).await, Err(Refusal::Host));
        assert_eq!(local.admit(&headers(&[("host", "localhost:1")]), from).await, Ok(()));
    }

    #[test]
    fn credentials_are_read_as_they_are_written() {
        let of = |value: &str| basic(&headers(&[("authorization", value)]));
        let encoded = BASE64_STANDARD.encode("alice:a:b ✓");
        let expected = Some(("alice".to_owned(), "a:b ✓".to_owned()));
        assert_eq!(of(&format!("Basic {encoded}")), expected);
        assert_eq!(of(&format!("bAsIc {encoded}")), expected);
        for odd in ["Basic", "Basic !!", "Bearer abc", "Basic YWxpY2U="] {
            assert_eq!(of(odd), None, "{odd}");
        }
        assert_eq!(basic(&HeaderMap::new()), None);
        assert_ne!(key("a", "b"), key("ab", ""));
    }
}
