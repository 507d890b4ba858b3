//! What each user holds on this node, in figures: counted in memory with every change of the
//! index, and anew from the index at a start.
//!
//! The writer thread applies what a transaction changed once the transaction has succeeded, so
//! the figures are those of the index with all changes that are on their way to the disk; where
//! those fail the node stops. Chunks that are still coming in are counted beside the index: room
//! is set aside for them before they come ([`Usage::set_aside`]), and given up in the same
//! step in which they are counted as held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, UploadId, Version};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::row::{Current, Row, Upload, UploadState};

use super::codec::{self, ChunkEntry};
use super::txn::Lookup;
use super::{IndexError, View};
use crate::chunk_key::ChunkKey;

/// An upload of a path of a known user, as its key in the index names it.
type UploadKey = Vec<u8>;

/// What one user holds.
#[derive(Debug, Default)]
struct Account {
    /// Bytes of all chunks that the index knows, whatever they belong to.
    bytes: u64,
    /// Paths whose newest version is a file.
    files: u64,
    /// Superseded versions that are not forgotten yet.
    superseded: u64,
    /// Uploads that are neither committed nor dropped, with their bytes.
    staged: HashMap<UploadKey, u64>,
    /// The sum of those bytes.
    staged_bytes: u64,
    /// Uploads for whose chunks room is set aside, with how many those are.
    coming: HashMap<UploadKey, u32>,
    /// The sum of what is set aside, in bytes.
    coming_bytes: u64,
}

/// The figures of an account, chunks that are coming in included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes of all chunks.
    pub(crate) bytes: u64,
    /// Paths whose newest version is a file.
    pub(crate) files: u64,
    /// Bytes of uploads that are neither committed nor dropped.
    pub(crate) staged_bytes: u64,
    /// Those uploads.
    pub(crate) uploads: u64,
}

impl Account {
    fn held(&self) -> Held {
        let new = self.coming.keys().filter(|key| !self.staged.contains_key(*key)).count();
        Held {
            bytes: self.bytes.saturating_add(self.coming_bytes),
            files: self.files,
            staged_bytes: self.staged_bytes.saturating_add(self.coming_bytes),
            uploads: u64::try_from(self.staged.len() + new).unwrap_or(u64::MAX),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::FileCame => self.files = self.files.saturating_add(1),
            Change::FileWent => self.files = self.files.saturating_sub(1),
            Change::SupersededCame => self.superseded = self.superseded.saturating_add(1),
            Change::SupersededWent => self.superseded = self.superseded.saturating_sub(1),
            Change::StagedCame(key) => {
                self.staged.entry(key).or_insert(0);
            }
            Change::StagedWent(key) => {
                let bytes = self.staged.remove(&key).unwrap_or(0);
                self.staged_bytes = self.staged_bytes.saturating_sub(bytes);
            }
            Change::BytesCame(key, bytes) => {
                self.bytes = self.bytes.saturating_add(bytes);
                if let Some(staged) = self.staged.get_mut(&key) {
                    *staged = staged.saturating_add(bytes);
                    self.staged_bytes = self.staged_bytes.saturating_add(bytes);
                }
            }
            Change::BytesWent(key, bytes) => {
                self.bytes = self.bytes.saturating_sub(bytes);
                if let Some(staged) = self.staged.get_mut(&key) {
                    *staged = staged.saturating_sub(bytes);
                    self.staged_bytes = self.staged_bytes.saturating_sub(bytes);
                }
            }
            Change::Arrived(mut room) => self.give_up(&mut room),
        }
    }

    fn give_up(&mut self, room: &mut SetAside) {
        let Some(key) = room.upload.take() else { return };
        self.coming_bytes = self.coming_bytes.saturating_sub(room.bytes);
        if let Some(chunks) = self.coming.get_mut(&key) {
            *chunks -= 1;
            if *chunks == 0 {
                self.coming.remove(&key);
            }
        }
    }
}

/// One step of an account.
enum Change {
    FileCame,
    FileWent,
    SupersededCame,
    SupersededWent,
    StagedCame(UploadKey),
    StagedWent(UploadKey),
    BytesCame(UploadKey, u64),
    BytesWent(UploadKey, u64),
    Arrived(SetAside),
}

/// What a transaction changes in the accounts, in order.
#[derive(Default)]
pub(super) struct Tally(Vec<(UserName, Change)>);

impl Tally {
    fn add(&mut self, user: &UserName, change: Change) {
        self.0.push((user.clone(), change));
    }

    /// A row becomes another one. `before` and `after` may lack the same uploads.
    pub(super) fn row(&mut self, user: &UserName, path: &FilePath, before: &Row, after: &Row) {
        match (is_file(before.current.as_ref()), is_file(after.current.as_ref())) {
            (false, true) => self.add(user, Change::FileCame),
            (true, false) => self.add(user, Change::FileWent),
            _ => {}
        }
        let added = after.uploads.keys().filter(|id| !before.uploads.contains_key(id));
        for id in before.uploads.keys().chain(added) {
            let (old, new) = (before.uploads.get(id), after.uploads.get(id));
            match (old.is_some_and(is_staged), new.is_some_and(is_staged)) {
                (false, true) => {
                    self.add(user, Change::StagedCame(codec::upload_key(user, path, *id)));
                }
                (true, false) => {
                    self.add(user, Change::StagedWent(codec::upload_key(user, path, *id)));
                }
                _ => {}
            }
            match (old.is_some_and(is_superseded), new.is_some_and(is_superseded)) {
                (false, true) => self.add(user, Change::SupersededCame),
                (true, false) => self.add(user, Change::SupersededWent),
                _ => {}
            }
        }
    }

    /// A chunk is held from now on.
    pub(super) fn chunk_came(&mut self, key: &ChunkKey, entry: &ChunkEntry) {
        let upload = codec::upload_key(&key.user, &entry.path, key.upload);
        self.add(&key.user, Change::BytesCame(upload, entry.sum.length));
    }

    /// A chunk is held no longer.
    pub(super) fn chunk_went(&mut self, key: &ChunkKey, entry: &ChunkEntry) {
        let upload = codec::upload_key(&key.user, &entry.path, key.upload);
        self.add(&key.user, Change::BytesWent(upload, entry.sum.length));
    }

    /// A chunk for which this was set aside is held from now on.
    pub(super) fn arrived(&mut self, room: SetAside) {
        let user = room.user.clone();
        self.add(&user, Change::Arrived(room));
    }
}

fn is_file(current: Option<&Current>) -> bool {
    current.is_some_and(|current| current.record.version.content != Content::Tombstone)
}

/// Neither committed nor dropped.
fn is_staged(upload: &Upload) -> bool {
    match upload.state {
        UploadState::Prepared => true,
        UploadState::Fenced => !upload.have.is_empty(),
        UploadState::Superseded(_) => false,
    }
}

fn is_superseded(upload: &Upload) -> bool {
    matches!(upload.state, UploadState::Superseded(_))
}

/// The accounts of all users who hold anything.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// A plain mutex: held for additions, never across a wait.
    accounts: Mutex<HashMap<UserName, Account>>,
}

impl Usage {
    /// Counts what the index holds. Chunks of versions are counted by what their manifests say,
    /// so that those in the index need not be read: what is held fits its version.
    pub(super) fn load(view: &View) -> Result<Self, IndexError> {
        let mut accounts: HashMap<UserName, Account> = HashMap::new();
        let mut last: Option<(UserName, Account)> = None;
        for row in view.records(None, None) {
            let (user, _, current) = row?;
            let account = turn_to(&mut last, &mut accounts, user);
            account.files += u64::from(is_file(Some(&current)));
            let record = &current.record;
            account.bytes += length(&record.version, record.have);
        }
        for row in view.uploads_after(None) {
            let (user, path, id, upload) = row?;
            let bytes = match &upload.state {
                UploadState::Superseded(version) => length(version, upload.have),
                UploadState::Prepared | UploadState::Fenced => {
                    let keys = ChunkKey::each(&user, id, upload.have);
                    let lengths = keys.iter().map(|key| {
                        Ok::<u64, IndexError>(view.chunk(key)?.map_or(0, |entry| entry.sum.length))
                    });
                    lengths.sum::<Result<_, _>>()?
                }
            };
            let key = is_staged(&upload).then(|| codec::upload_key(&user, &path, id));
            let account = turn_to(&mut last, &mut accounts, user);
            account.bytes += bytes;
            account.superseded += u64::from(is_superseded(&upload));
            if let Some(key) = key {
                account.staged_bytes += bytes;
                account.staged.insert(key, bytes);
            }
        }
        if let Some((user, account)) = last {
            accounts.insert(user, account);
        }
        Ok(Self { accounts: Mutex::new(accounts) })
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<UserName, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a user holds now.
    pub(crate) fn of(&self, user: &UserName) -> Held {
        self.accounts().get(user).map(Account::held).unwrap_or_default()
    }

    /// Uploads that are neither committed nor dropped, and superseded versions, of all users.
    pub(crate) fn pending(&self) -> u64 {
        let accounts = self.accounts();
        let staged = accounts.values().map(|account| account.staged.len());
        let staged = u64::try_from(staged.sum::<usize>()).unwrap_or(u64::MAX);
        staged.saturating_add(accounts.values().map(|account| account.superseded).sum())
    }

    pub(super) fn apply(&self, tally: Tally) {
        if tally.0.is_empty() {
            return;
        }
        let mut accounts = self.accounts();
        for (user, change) in tally.0 {
            accounts.entry(user).or_default().apply(change);
        }
    }

    /// Sets room aside for a chunk that is about to come, unless `judge` minds. That is told
    /// what the user holds and whether the upload is among it: asked and taken in one step.
    pub(crate) fn set_aside<E>(
        self: &Arc<Self>,
        (user, path, upload): (&UserName, &FilePath, UploadId),
        bytes: u64,
        judge: impl FnOnce(Held, bool) -> Result<(), E>,
    ) -> Result<SetAside, E> {
        let key = codec::upload_key(user, path, upload);
        let mut accounts = self.accounts();
        let account = accounts.entry(user.clone()).or_default();
        let known = account.staged.contains_key(&key) || account.coming.contains_key(&key);
        judge(account.held(), known)?;
        account.coming_bytes = account.coming_bytes.saturating_add(bytes);
        *account.coming.entry(key.clone()).or_insert(0) += 1;
        Ok(SetAside { usage: Arc::clone(self), user: user.clone(), upload: Some(key), bytes })
    }
}

/// The account of `user`. Rows come sorted by user: one look at the map for each of them.
fn turn_to<'a>(
    last: &'a mut Option<(UserName, Account)>,
    accounts: &mut HashMap<UserName, Account>,
    user: UserName,
) -> &'a mut Account {
    if last.as_ref().is_none_or(|(of, _)| *of != user)
        && let Some((of, account)) = last.take()
    {
        accounts.insert(of, account);
    }
    &mut last
        .get_or_insert_with(|| {
            let account = accounts.remove(&user).unwrap_or_default();
            (user, account)
        })
        .1
}

/// Bytes of these chunks of a version.
fn length(version: &Version, have: ChunkSet) -> u64 {
    let Some(manifest) = version.manifest() else { return 0 };
    have.iter().map(|chunk| manifest.chunk(chunk).length).sum()
}

/// Room that is set aside for a chunk that is coming in; given up when this goes.
pub(crate) struct SetAside {
    usage: Arc<Usage>,
    user: UserName,
    /// `None` once it was given up.
    upload: Option<UploadKey>,
    bytes: u64,
}

impl Drop for SetAside {
    fn drop(&mut self) {
        if self.upload.is_none() {
            return;
        }
        let usage = Arc::clone(&self.usage);
        let mut accounts = usage.accounts();
        let user = self.user.clone();
        if let Some(account) = accounts.get_mut(&user) {
            account.give_up(self);
        }
    }
}
