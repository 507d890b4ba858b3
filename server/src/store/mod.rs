//! The chunk store: one file per chunk that is too large for the index.
//!
//! ```text
//! chunks/USER/HH/UPLOAD.N     chunk N of an upload; HH is the first byte of its id
//! staging/UPLOAD.N.SERIAL     being written
//! staging/UPLOAD.N.USER.partial   was being written when its stream broke; kept for a while
//! quarantine/USER.UPLOAD.N.T  was found bad, or unknown to the index, at the time T; kept for
//!                             the operator
//! ```
//!
//! A user's name is a valid directory name by its type; nothing else of a path on this
//! machine comes from a user. [`mod@format`] draws a file, [`writer`] makes one, [`reader`] reads
//! it, [`staging`] keeps what is not whole, [`room`] says whether there is any room, [`sweep`]
//! tidies up at a start. All functions block: callers run them on blocking
//! threads. The store does not know the index; who calls it joins the two.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod room;
pub(crate) mod salvage;
mod staging;
mod sweep;
pub(crate) mod writer;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dfs_proto::chunk::ChunkId;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::UserName;

use crate::chunk_key::ChunkKey;
use crate::hex;
use room::{NoRoom, Space};
use staging::Partials;
pub(crate) use sweep::Swept;

const CHUNKS: &str = "chunks";
const STAGING: &str = "staging";
const QUARANTINE: &str = "quarantine";

/// The chunk files under one data directory.
pub(crate) struct ChunkStore {
    root: PathBuf,
    /// Directories whose entry in their parent is known to be durable. Held for map access
    /// only.
    durable_dirs: Mutex<HashSet<PathBuf>>,
    serial: AtomicU64,
    /// Held from the look at the free room until some of it is taken: one `fallocate`.
    taking_room: Mutex<()>,
    /// Unfinished chunks that are kept. Held for map access and a rename, and while room is taken
    /// for one of them or given back.
    partials: Mutex<Partials>,
    /// How long they are.
    staging_ttl: Duration,
    /// Bytes that the configuration keeps free.
    reserve: Option<u64>,
}

impl ChunkStore {
    /// Makes the directories of an empty store.
    pub(crate) fn create(root: &Path) -> io::Result<()> {
        for name in [CHUNKS, STAGING, QUARANTINE] {
            DirBuilder::new().mode(0o700).create(root.join(name))?;
        }
        sync_dir(root)
    }

    /// Makes the directories that a store lacks.
    pub(crate) fn complete(root: &Path) -> io::Result<()> {
        for name in [CHUNKS, STAGING, QUARANTINE] {
            match DirBuilder::new().mode(0o700).create(root.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        sync_dir(root)
    }

    /// Removes all that a store holds.
    pub(crate) fn clear(root: &Path) -> io::Result<()> {
        for name in [CHUNKS, STAGING, QUARANTINE] {
            match fs::remove_dir_all(root.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        sync_dir(root)
    }

    /// Whether there is a chunk file, of whomever.
    pub(crate) fn has_chunks(root: &Path) -> io::Result<bool> {
        let users = match fs::read_dir(root.join(CHUNKS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            users => users?,
        };
        for user in users {
            for shard in fs::read_dir(user?.path())? {
                if fs::read_dir(shard?.path())?.next().is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Opens an existing store; it keeps unfinished chunks for `staging_ttl`.
    pub(crate) fn open(root: &Path, staging_ttl: Duration) -> io::Result<Self> {
        for name in [CHUNKS, STAGING, QUARANTINE] {
            let path = root.join(name);
            if !path.is_dir() {
                let text = format!("{} is missing", path.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        }
        Ok(Self {
            root: root.to_owned(),
            durable_dirs: Mutex::default(),
            serial: AtomicU64::new(0),
            taking_room: Mutex::default(),
            partials: Mutex::default(),
            staging_ttl,
            reserve: None,
        })
    }

    /// Sets how many bytes are kept free; `None` for what is usual for the disk's size.
    #[must_use]
    pub(crate) fn keeping(self, reserve: Option<u64>) -> Self {
        Self { reserve, ..self }
    }

    /// Whether a chunk of this many bytes may come.
    pub(crate) fn admit(&self, bytes: u64) -> io::Result<Result<(), NoRoom>> {
        Ok(self.space()?.admit(bytes, self.reserve))
    }

    /// Why a chunk of this many bytes found no room after all.
    pub(crate) fn no_room(&self, needed: u64) -> NoRoom {
        let space = self.space();
        let free = space.map_or(0, |space| space.free_for_chunks(self.reserve));
        NoRoom::Bytes { needed, free: free.min(needed.saturating_sub(1)) }
    }

    /// Removes a chunk's file if it is there.
    pub(crate) fn remove(&self, key: &ChunkKey) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Moves a bad or unknown chunk's file out of the way if it is there.
    pub(crate) fn quarantine(&self, key: &ChunkKey, now_ms: u64) -> io::Result<()> {
        let name = format!("{}.{}.{now_ms}", key.user, file_name(key));
        let target = self.root.join(QUARANTINE).join(name);
        match fs::rename(self.path(key), target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// How much room there is.
    pub(crate) fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total_files: found.f_files,
            free_files: found.f_favail,
        })
    }

    fn path(&self, key: &ChunkKey) -> PathBuf {
        self.dir(key).join(file_name(key))
    }

    fn dir(&self, key: &ChunkKey) -> PathBuf {
        let shard = hex::encode(&key.upload.bytes()[..1]);
        self.root.join(CHUNKS).join(key.user.as_str()).join(shard)
    }

    fn partials(&self) -> MutexGuard<'_, Partials> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taking_room(&self) -> MutexGuard<'_, ()> {
        self.taking_room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable_dirs(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the entries of a directory durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn file_name(key: &ChunkKey) -> String {
    format!("{}.{}", key.upload, key.chunk)
}

/// Reads what [`file_name`] writes.
fn parse_file_name(user: &UserName, name: &str) -> Option<ChunkKey> {
    let (upload, chunk) = name.split_once('.')?;
    let key = ChunkKey {
        user: user.clone(),
        upload: UploadId::new(hex::decode(upload)?),
        chunk: ChunkId::new(chunk.parse().ok()?)?,
    };
    (file_name(&key) == name).then_some(key)
}

#[cfg(test)]
mod tests;
