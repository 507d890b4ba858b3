//! The index: what this node knows of every path, upload and chunk, in one embedded database.
//!
//! Writes go through [`Index::update`]: closures that run one after the other on the writer
//! thread and are durable, many at a time, before they are answered. Reads go straight to the
//! database from any thread and see only what is durable, but for changes that asked for no
//! sync. This is the only module that knows which database it is.
//!
//! [`codec`] draws keys and values, [`txn`] is a transaction, [`writer`] the group commit,
//! [`scan`] walks over everything, [`usage`] counts what each user holds. [`journal`] looks
//! through the database's journals before it opens them, and [`mark`] says how much they have
//! to have.

pub(crate) mod codec;
mod journal;
mod mark;
mod opened;
pub(crate) mod salvage;
mod scan;
pub(crate) mod txn;
pub(crate) mod usage;
mod writer;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::identity::IndexAge;
use dfs_proto::manifest::{Incarnation, UploadId};
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::protocol::row::Upload;
use fjall::{KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable};

use crate::codec::CodecError;
use crate::poison::Poison;
use mark::Mark;
use opened::{Opened, mark_of};
use txn::{Changes, Lookup, Txn};
use usage::Usage;
pub(crate) use writer::Pending;
use writer::Writer;

/// Memory that the keyspace of chunks fills before it is written out, and each of the others. With
/// what is being written out, and the cache, they have to stay well below the 128 MiB that a node
/// may use.
const CHUNKS_MEMTABLE_BYTES: u64 = 8 << 20;
const MEMTABLE_BYTES: u64 = 4 << 20;
/// Blocks of tables that are kept for the next read.
const CACHE_BYTES: u64 = 16 << 20;
/// Journals on disk; the least that the database takes is 64 MiB.
const JOURNAL_BYTES: u64 = 128 << 20;
/// Threads that write memory out and merge tables. The database keeps one of them from merging: with
/// two it hands itself the same order over and over, and takes a whole core, while the other merges.
/// One alone would be faster than three, but nothing is written out while it merges: memory grows for
/// as long, and orders that fill the queue stop it for good.
const WORKERS: usize = 3;
/// Values of chunks above this many bytes are kept out of the sorted tables, so that merging
/// those does not copy file data around.
const SEPARATED_BYTES: u32 = 1024;

/// Why the index did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("the index failed: {}", plain(.0))]
    Failed(Arc<fjall::Error>),
    #[error("the node takes nothing any more since its disk failed")]
    Poisoned,
    #[error("the node is about to stop")]
    Closed,
    #[error("a row of the index is damaged: {0}")]
    Damaged(#[from] CodecError),
}

/// The database's own texts are those of `Debug`; most failures are the system's.
fn plain(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl From<fjall::Error> for IndexError {
    fn from(error: fjall::Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// Why the index could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("there is no index at {0}")]
    Missing(PathBuf),
    #[error("the index at {path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error(
        "the index at {path} went back in time: it ends at change {found}, change {expected} was \
         made durable"
    )]
    Lost { path: PathBuf, found: u64, expected: u64 },
    #[error("the index at {path} belongs to another life of this node's disk")]
    Foreign { path: PathBuf },
    #[error("the index at {path} cannot be made: {source}")]
    Create { path: PathBuf, source: IndexError },
}

/// The four parts of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Paths,
    Uploads,
    Chunks,
    Meta,
}

impl Space {
    const ALL: [Self; 4] = [Self::Paths, Self::Uploads, Self::Chunks, Self::Meta];

    const fn name(self) -> &'static str {
        match self {
            Self::Paths => "paths",
            Self::Uploads => "uploads",
            Self::Chunks => "chunks",
            Self::Meta => "meta",
        }
    }

    fn options(self) -> KeyspaceCreateOptions {
        let separation = (self == Self::Chunks)
            .then(|| KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES));
        let memtable = match self {
            Self::Chunks => CHUNKS_MEMTABLE_BYTES,
            Self::Paths | Self::Uploads | Self::Meta => MEMTABLE_BYTES,
        };
        KeyspaceCreateOptions::default().max_memtable_size(memtable).with_kv_separation(separation)
    }
}

struct Database {
    fjall: fjall::Database,
    spaces: [fjall::Keyspace; 4],
}

impl Database {
    fn builder(path: &Path) -> fjall::DatabaseBuilder<fjall::Database> {
        fjall::Database::builder(path)
            .max_journaling_size(JOURNAL_BYTES)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKERS)
    }

    fn space(&self, space: Space) -> &fjall::Keyspace {
        &self.spaces[space as usize]
    }

    fn write(&self, changes: Changes, durable: bool) -> Result<(), IndexError> {
        // The journal's data and length are all that recovery needs, and fdatasync covers both.
        let mode = durable.then_some(PersistMode::SyncData);
        let mut batch = self.fjall.batch().durability(mode.or(Some(PersistMode::Buffer)));
        for (space, changes) in self.spaces.iter().zip(changes) {
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(space, key, value),
                    None => batch.remove(space, key),
                }
            }
        }
        Ok(batch.commit()?)
    }

    /// The number of the last group.
    fn group(&self) -> Result<Option<u64>, IndexError> {
        let bytes = self.get(Space::Meta, codec::GROUP_KEY)?;
        Ok(bytes.as_deref().map(codec::read_group).transpose()?)
    }

    fn sync(&self) -> Result<(), IndexError> {
        Ok(self.fjall.persist(PersistMode::SyncAll)?)
    }
}

impl Lookup for Database {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        Ok(self.space(space).get(key)?.map(Bytes::from))
    }
}

/// The index of one node.
pub(crate) struct Index {
    database: Arc<Database>,
    writer: Writer,
    /// The last group that it had when it was opened.
    opened_at: u64,
    usage: Arc<Usage>,
    poison: Poison,
}

impl Index {
    /// Makes an empty index for a disk's new life. Only `init` and `rejoin` may call this.
    pub(crate) fn create(path: &Path, incarnation: Incarnation) -> Result<(), OpenError> {
        let make = || -> Result<(), IndexError> {
            let fjall = Database::builder(path).open()?;
            let spaces = Space::ALL.map(|space| fjall.keyspace(space.name(), || space.options()));
            let [paths, uploads, chunks, meta] = spaces;
            let spaces = [paths?, uploads?, chunks?, meta?];
            let database = Database { fjall, spaces };
            let row = |key: &[u8], value: Vec<u8>| (key.to_vec(), Some(value.into()));
            let mut changes = Changes::default();
            changes[Space::Meta as usize].extend([
                row(codec::NODE_KEY, codec::put_node(incarnation)),
                row(codec::GROUP_KEY, codec::put_group(0)),
            ]);
            database.write(changes, true)?;
            database.sync()?;
            Mark::create(&mark_of(path), 0).map_err(|error| fjall::Error::from(error).into())
        };
        make().map_err(|source| OpenError::Create { path: path.to_owned(), source })
    }

    /// Removes what there is of an index. Only `rejoin` may call this.
    pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
        let gone = |removed: std::io::Result<()>| match removed {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        gone(std::fs::remove_dir_all(path))?;
        gone(std::fs::remove_file(mark_of(path)))
    }

    /// Opens an existing index and checks that it belongs to `incarnation`. Never makes one:
    /// an empty index in place of a lost one would deny files that were acknowledged.
    pub(crate) fn open(
        path: &Path,
        incarnation: Incarnation,
        poison: Poison,
    ) -> Result<Self, OpenError> {
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        let Opened { database, mark, group } = Opened::open(path, incarnation)?;
        let usage = Usage::load(&View::of(&database, &poison));
        let usage = Arc::new(usage.map_err(|error| damaged(error.to_string()))?);
        let parts = (Arc::clone(&database), Arc::clone(&usage));
        let writer = Writer::start(parts, mark, group, poison.clone());
        let writer = writer.map_err(|error| damaged(error.to_string()))?;
        Ok(Self { database, writer, opened_at: group, usage, poison })
    }

    /// Runs `change` as a transaction and waits until it is durable.
    pub(crate) async fn update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        self.submit(change).await.done().await
    }

    /// Hands `change` to the writer; the answer can be awaited later.
    pub(crate) async fn submit<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, IndexError> + Send + 'static,
    ) -> Pending<R> {
        self.writer.submit(true, change).await
    }

    /// Like [`Self::update`], but a crash may undo it.
    pub(crate) async fn update_lazy<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<R, IndexError> + Send + 'static,
    ) -> Result<R, IndexError> {
        self.writer.submit(false, change).await.done().await
    }

    /// How far it is.
    pub(crate) fn age(&self) -> IndexAge {
        IndexAge { at_start: self.opened_at, now: self.writer.durable() }
    }

    /// A view of the index as it is now, for reads that belong together.
    pub(crate) fn view(&self) -> View {
        View::of(&self.database, &self.poison)
    }

    /// What each user holds.
    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Finishes what waits and syncs.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
    }
}

/// The index at one moment. A read that the database fails ends the node: an index that
/// cannot be read cannot be trusted with another promise either.
pub(crate) struct View {
    database: Arc<Database>,
    snapshot: fjall::Snapshot,
    poison: Poison,
}

/// What the database answered, or its failure, after which the node stops.
fn or_poisoned<T>(poison: &Poison, read: Result<T, fjall::Error>) -> Result<T, IndexError> {
    read.map_err(|error| {
        let error = IndexError::from(error);
        poison.trip(&error);
        error
    })
}

impl Lookup for View {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let found = self.snapshot.get(self.database.space(space), key);
        Ok(or_poisoned(&self.poison, found)?.map(Bytes::from))
    }
}

impl View {
    fn of(database: &Arc<Database>, poison: &Poison) -> Self {
        let snapshot = database.fjall.snapshot();
        Self { database: Arc::clone(database), snapshot, poison: poison.clone() }
    }

    /// Bytes of the whole database on the disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64, IndexError> {
        or_poisoned(&self.poison, self.database.fjall.disk_space())
    }

    /// The paths of a user with this prefix, in byte order, after `start_after` if given. `read`
    /// reads of a row what is wanted of it.
    pub(crate) fn paths<R, F: Fn(&[u8]) -> Result<R, CodecError>>(
        &self,
        user: &UserName,
        prefix: &Prefix,
        start_after: Option<&str>,
        read: F,
    ) -> impl Iterator<Item = Result<(FilePath, R), IndexError>> + use<R, F> {
        let user_prefix = codec::user_prefix(user);
        let key_prefix = codec::path_key(user, prefix.as_str());
        let start = match start_after.map(|path| codec::path_key(user, path)) {
            Some(after) if after >= key_prefix => Bound::Excluded(after),
            _ => Bound::Included(key_prefix.clone()),
        };
        let space = self.database.space(Space::Paths);
        let poison = self.poison.clone();
        self.snapshot
            .range(space, (start, Bound::Unbounded))
            .map(fjall::Guard::into_inner)
            .take_while(move |item| match item {
                Ok((key, _)) => key.starts_with(&key_prefix),
                Err(_) => true,
            })
            .map(move |item| {
                let (key, value) = or_poisoned(&poison, item)?;
                let path = codec::path_of_key(&key, &user_prefix)?;
                Ok((path, read(&value)?))
            })
    }

    /// The uploads of one path that are not its current version.
    pub(crate) fn uploads_of(
        &self,
        user: &UserName,
        path: &FilePath,
    ) -> impl Iterator<Item = Result<(UploadId, Upload), IndexError>> + use<> {
        let space = self.database.space(Space::Uploads);
        let poison = self.poison.clone();
        self.snapshot.prefix(space, codec::uploads_prefix(user, path)).map(move |guard| {
            let (key, value) = or_poisoned(&poison, guard.into_inner())?;
            let (_, _, upload) = codec::read_upload_key(&key)?;
            Ok((upload, codec::read_upload(&value)?))
        })
    }

    /// All uploads of all users that are not current versions.
    pub(crate) fn uploads(
        &self,
    ) -> impl Iterator<Item = Result<(UserName, FilePath, UploadId, Upload), IndexError>> + use<>
    {
        let space = self.database.space(Space::Uploads);
        let poison = self.poison.clone();
        self.snapshot.iter(space).map(move |guard| {
            let (key, value) = or_poisoned(&poison, guard.into_inner())?;
            let (user, path, id) = codec::read_upload_key(&key)?;
            Ok((user, path, id, codec::read_upload(&value)?))
        })
    }
}

/// What is checked of the private modules.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    pub(crate) use super::journal::fuzz::journal;
    pub(crate) use super::mark::fuzz::mark;
}

#[cfg(test)]
mod tests;
