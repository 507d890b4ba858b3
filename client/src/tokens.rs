//! Tokens of earlier runs, in a file that only its owner can read: a script that calls dfsctl
//! a thousand times logs in once.
//!
//! An entry belongs to a node at its address, a user and the password that he gave: with
//! another password it is as if it were not there, so that a wrong one never succeeds because
//! the right one was used before. A node knows the tokens that it gave since its start, and
//! those only; what it refuses is dropped and the login repeated. All of this only saves
//! time: a cache that cannot be read or written is none.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dfs_proto::name::{ClusterName, UserName};
use dfs_proto::placement::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::locked;
use crate::random::random;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most entries that are kept; those that end first go first.
const MAX_ENTRIES: usize = 512;
/// An entry that ends within this time is not used any more.
const MARGIN: Duration = Duration::from_secs(60);
/// How long the lock is waited for: another program has it for a moment only.
const LOCK_LIMIT: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// One node as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cluster: ClusterName,
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) user: UserName,
}

/// The cache. Has no `Debug`: nothing of it belongs into a log.
pub struct TokenCache {
    file: PathBuf,
    /// Held for access to the list only.
    content: Mutex<Content>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Random, in hexadecimal: what the passwords' hashes are keyed with.
    key: String,
    tokens: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    cluster: String,
    node: u8,
    address: String,
    user: String,
    /// Keyed hash of the password that the token was got with.
    password: String,
    token: String,
    /// Seconds since 1970.
    ends: u64,
    /// Whether it may be used where no password is given.
    login: bool,
}

const VERSION: u32 = 1;

impl TokenCache {
    /// The cache in a folder, which need not exist yet.
    pub fn open(folder: &Path) -> Self {
        let file = folder.join("tokens.yaml");
        let content = read(&file).unwrap_or_default();
        Self { file, content: Mutex::new(content) }
    }

    /// A token for a place; without a password only one that a login left.
    pub(crate) fn find(&self, place: &Place, password: Option<&str>) -> Option<String> {
        let content = self.content();
        let now = now_seconds() + MARGIN.as_secs();
        let entry = content.tokens.iter().find(|e| e.is_for(place) && now < e.ends)?;
        let fits = match password {
            Some(password) => entry.password == content.hash(password)?,
            None => entry.login,
        };
        fits.then(|| entry.token.clone())
    }

    /// The token of a place, whatever it was got with: to end it.
    pub(crate) fn find_any(&self, place: &Place) -> Option<String> {
        let content = self.content();
        content.tokens.iter().find(|entry| entry.is_for(place)).map(|entry| entry.token.clone())
    }

    /// Drops a token that its node refused.
    pub(crate) fn forget(&self, place: &Place) {
        self.content().tokens.retain(|entry| !entry.is_for(place));
    }

    /// Whether a login left something for this user.
    pub fn has_login(&self, cluster: &ClusterName, user: &UserName) -> bool {
        let now = now_seconds();
        let mine = |e: &Entry| e.cluster == cluster.as_str() && e.user == user.as_str();
        self.content().tokens.iter().any(|e| mine(e) && e.login && now < e.ends)
    }

    /// Keeps a token that was got with a password, for `life`. Blocks for a moment.
    pub(crate) fn keep(
        &self,
        place: &Place,
        password: &str,
        token: String,
        life: Duration,
        login: bool,
    ) -> io::Result<()> {
        self.change(|content| {
            let before = content.tokens.iter().find(|entry| entry.is_for(place));
            let login = login || before.is_some_and(|entry| entry.login);
            content.tokens.retain(|entry| !entry.is_for(place));
            let Some(password) = content.hash(password) else { return };
            content.tokens.push(Entry {
                cluster: place.cluster.as_str().to_owned(),
                node: place.node.get(),
                address: place.address.clone(),
                user: place.user.as_str().to_owned(),
                password,
                token,
                ends: now_seconds() + life.as_secs(),
                login,
            });
        })
    }

    /// Removes the token of a place from the file. Blocks for a moment.
    pub(crate) fn remove(&self, place: &Place) -> io::Result<()> {
        self.change(|content| content.tokens.retain(|entry| !entry.is_for(place)))
    }

    /// Changes what is in the file now, which other programs change as well.
    fn change(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let _lock = lock(&folder.join("tokens.lock"))?;
        let mut content = read(&self.file).unwrap_or_default();
        if content.key.is_empty() {
            let key = hex(&random::<32>());
            content = Content { version: VERSION, key, tokens: Vec::new() };
        }
        change(&mut content);
        let now = now_seconds();
        content.tokens.retain(|entry| now < entry.ends);
        content.tokens.sort_by_key(|entry| entry.ends);
        let surplus = content.tokens.len().saturating_sub(MAX_ENTRIES);
        content.tokens.drain(..surplus);
        write(&self.file, folder, &content)?;
        *self.content() = content;
        Ok(())
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// `None` before there is a key.
    fn hash(&self, password: &str) -> Option<String> {
        let keyed = |bytes: &[u8]| Sha256::new().chain_update(&self.key).chain_update(bytes);
        let inner = keyed(password.as_bytes()).finalize();
        (!self.key.is_empty()).then(|| hex(&keyed(&inner).finalize()))
    }
}

impl Entry {
    fn is_for(&self, place: &Place) -> bool {
        self.cluster == place.cluster.as_str()
            && self.node == place.node.get()
            && self.address == place.address
            && self.user == place.user.as_str()
    }
}

/// What is in the file; `None` unless it is ours alone and whole.
fn read(file: &Path) -> Option<Content> {
    let about = std::fs::symlink_metadata(file).ok()?;
    let parent = std::fs::metadata(file.parent()?).ok()?;
    // Where anybody else may write, an entry could be planted.
    let private = about.is_file() && about.mode() & 0o077 == 0 && about.uid() == parent.uid();
    if !private || parent.mode() & 0o022 != 0 {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let content: Content = serde_yaml::from_str(&text).ok()?;
    (content.version == VERSION && !content.key.is_empty()).then_some(content)
}

fn write(file: &Path, folder: &Path, content: &Content) -> io::Result<()> {
    let text = serde_yaml::to_string(content).map_err(io::Error::other)?;
    // Made readable by its owner only.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.persist(file)?;
    Ok(())
}

fn lock(file: &Path) -> io::Result<std::fs::File> {
    let started = std::time::Instant::now();
    loop {
        match locked::open(file, 0o600)? {
            Some(lock) => return Ok(lock),
            None if started.elapsed() > LOCK_LIMIT => return Err(io::ErrorKind::WouldBlock.into()),
            None => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
