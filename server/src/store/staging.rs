//! Chunks whose stream broke: their first blocks are durable and kept for a while, so that
//! whoever sends the chunk again may go on after them.
//!
//! `staging/UPLOAD.N.USER.partial` is a chunk file (see [`super::format`]) of which the first k
//! blocks have come. Their checksums are in its trailer already, each written after its block
//! was synced; the others are 0. So the checksums before the first 0 say how many blocks there
//! are, after a crash as well. Nothing is believed of them at the end: they are read again, and
//! together with those that come later they have to make up the chunk that the manifest describes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use dfs_proto::chunk::{ChunkSet, block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};
use rustix::fs::{FallocateFlags, fallocate};

use super::format::{Header, PREAMBLE_BYTES, Preamble};
use super::reader::ReadError;
use super::writer::WriteError;
use super::{ChunkStore, STAGING, file_name};
use crate::chunk_key::ChunkKey;
use crate::telemetry::labels::Synced;
use crate::telemetry::timed;

/// How the names of kept files end.
const PARTIAL: &str = "partial";

/// What is kept takes at most this part of the disk.
const SHARE_OF_DISK: u64 = 4;

/// What is known of a kept chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    path: FilePath,
    /// Blocks that are durable.
    blocks: u64,
    /// Their length in bytes.
    bytes: u64,
    /// When the last of them came.
    since_ms: u64,
}

pub(super) type Partials = HashMap<ChunkKey, Kept>;

/// A chunk file that is not whole, as found on the disk.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) header: Header,
    /// Checksums of the blocks that are durable.
    pub(super) blocks: Vec<Crc32c>,
    pub(super) data_offset: u64,
}

impl Found {
    /// Opens an unfinished chunk file and finds out how much of it there is.
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut front = [0; PREAMBLE_BYTES];
        file.read_exact_at(&mut front, 0)?;
        let preamble = Preamble::decode(&front)?;
        let mut fields = vec![0; preamble.field_bytes];
        file.read_exact_at(&mut fields, u64::try_from(PREAMBLE_BYTES).unwrap_or(u64::MAX))?;
        let header = Header::decode(&preamble, &fields)?;
        let data_offset = preamble.data_offset();
        let length = header.sum().length;
        let trailer = data_offset.saturating_add(length);
        // No more than there is: the length is what a client announced.
        let there = file.metadata()?.len().saturating_sub(trailer).min(4 * block_count(length));
        let mut sums = vec![0; usize::try_from(there).map_err(io::Error::other)?];
        let found = read_up_to(&file, &mut sums, trailer)?;
        let sums = sums[..found].chunks_exact(4);
        let sums = sums.map(|sum| sum.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
        let blocks = sums.take_while(|sum| *sum != 0).map(Crc32c::new).collect();
        Ok(Self { file, header, blocks, data_offset })
    }
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(found) => filled += found,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl ChunkStore {
    /// Durable bytes of a chunk that is not whole, in whole blocks.
    pub(crate) fn durable_bytes(&self, key: &ChunkKey, path: &FilePath) -> u64 {
        let partials = self.partials();
        partials.get(key).filter(|kept| kept.path == *path).map_or(0, |kept| kept.bytes)
    }

    /// Bytes of all unfinished chunks that are kept for a user, but for one of them.
    pub(crate) fn kept_bytes(&self, user: &UserName, but: &ChunkKey) -> u64 {
        let partials = self.partials();
        let others = partials.iter().filter(|(key, _)| key.user == *user && *key != but);
        others.fold(0, |all, (_, kept)| all.saturating_add(kept.bytes))
    }

    /// Where the unfinished file of a chunk is kept.
    pub(super) fn partial_path(&self, key: &ChunkKey) -> PathBuf {
        self.root.join(STAGING).join(format!("{}.{}.{PARTIAL}", file_name(key), key.user))
    }

    /// Takes the kept file of a chunk for one who goes on with it at `first_block`, under a new
    /// name, and the room for the blocks that it lacks. Where that fails the file stays kept.
    pub(super) fn claim(
        &self,
        header: &Header,
        first_block: u64,
        name: &Path,
    ) -> Result<Found, WriteError> {
        let staged = |staged| WriteError::NotStaged { first_block, staged };
        // Held until the file has its new name: nobody else may find it or replace it.
        let mut partials = self.partials();
        let path = self.partial_path(&header.key);
        let found = match partials.get(&header.key) {
            None => return Err(staged(0)),
            Some(_) => Found::open(&path),
        };
        let found = match found {
            Ok(found) if found.header.manifest == header.manifest => found,
            Ok(_) | Err(ReadError::Missing) => return Err(staged(0)),
            Err(ReadError::Io(error)) => return Err(WriteError::Io(error)),
            Err(_) => return Err(staged(0)),
        };
        let blocks = count(&found.blocks);
        if found.header.path != header.path || blocks < first_block {
            return Err(staged(blocks));
        }
        let missing = missing(&found.header, blocks);
        let claimed = self
            .take_room(&found.file, &missing)
            .and_then(|()| fs::rename(&path, name).map_err(WriteError::Io));
        if let Err(error) = claimed {
            // A file system may have taken some of the room before it found no more.
            give_back_room(&found.file, &missing);
            return Err(error);
        }
        partials.remove(&header.key);
        Ok(found)
    }

    /// Keeps an unfinished file of which so many blocks and their checksums are durable, unless
    /// as much of the chunk is kept already. What takes too much room goes, oldest first.
    pub(super) fn keep_file(
        &self,
        path: &Path,
        file: &File,
        header: &Header,
        blocks: u64,
        since_ms: u64,
    ) -> Result<(), WriteError> {
        let key = &header.key;
        let bytes = block_range(header.sum().length, blocks).start;
        // Held over the rename, so that the file and what is known of it are one.
        let mut partials = self.partials();
        if blocks == 0 || partials.get(key).is_some_and(|old| old.blocks >= blocks) {
            return Ok(());
        }
        give_back_room(file, &missing(header, blocks));
        // Opened before the rename: a process that is out of descriptors has changed nothing.
        let dir = File::open(self.root.join(STAGING)).map_err(WriteError::Io)?;
        fs::rename(path, self.partial_path(key)).map_err(WriteError::Io)?;
        let kept = Kept { path: header.path.clone(), blocks, bytes, since_ms };
        partials.insert(key.clone(), kept);
        drop(partials);
        sync_entries(&dir)?;
        self.make_room().map_err(WriteError::Io)
    }

    fn make_room(&self) -> io::Result<()> {
        let limit = self.space()?.total / SHARE_OF_DISK;
        loop {
            let oldest = {
                let partials = self.partials();
                let total =
                    partials.values().fold(0_u64, |all, kept| all.saturating_add(kept.bytes));
                if total <= limit {
                    return Ok(());
                }
                let oldest = partials.iter().min_by_key(|(_, kept)| kept.since_ms);
                oldest.map(|(key, _)| key.clone())
            };
            let Some(oldest) = oldest else { return Ok(()) };
            self.remove_partial(&oldest)?;
        }
    }

    /// Removes the unfinished file of a chunk if one is kept.
    pub(crate) fn remove_partial(&self, key: &ChunkKey) -> io::Result<()> {
        let mut partials = self.partials();
        if partials.remove(key).is_none() {
            return Ok(());
        }
        match fs::remove_file(self.partial_path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The chunks of an upload of which an unfinished file is kept.
    pub(crate) fn partials_of(&self, user: &UserName, upload: UploadId) -> Vec<ChunkKey> {
        let partials = self.partials();
        if partials.is_empty() {
            return Vec::new();
        }
        let keys = ChunkKey::each(user, upload, ChunkSet::ALL);
        keys.into_iter().filter(|key| partials.contains_key(key)).collect()
    }

    /// Removes what has been kept for too long; returns how many files that were.
    pub(crate) fn expire(&self, now_ms: u64) -> io::Result<usize> {
        let old = |kept: &Kept| is_old(kept.since_ms, now_ms, self.staging_ttl);
        let expired: Vec<ChunkKey> = {
            let partials = self.partials();
            partials.iter().filter(|(_, kept)| old(kept)).map(|(key, _)| key.clone()).collect()
        };
        for key in &expired {
            self.remove_partial(key)?;
        }
        Ok(expired.len())
    }

    /// At a start: keeps what somebody may go on with and removes the rest. Returns how many
    /// files were removed.
    pub(super) fn sweep_staging<E: From<io::Error>>(
        &self,
        now_ms: u64,
        is_known: &mut impl FnMut(&ChunkKey) -> Result<bool, E>,
    ) -> Result<u64, E> {
        let entries = fs::read_dir(self.root.join(STAGING))?;
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        // Kept files first: one that was being written replaces them only if it has more.
        paths.sort_by_key(|path| path.extension() != Some(OsStr::new(PARTIAL)));
        let mut removed = 0;
        for path in paths {
            if let Ok(found) = Found::open(&path)
                && let Ok(since_ms) = modified_ms(&found.file)
                && !is_old(since_ms, now_ms, self.staging_ttl)
                && !is_known(&found.header.key)?
            {
                let Found { file, header, blocks, .. } = &found;
                let kept = self.keep_file(&path, file, header, count(blocks), since_ms);
                kept.map_err(io::Error::other)?;
                if path == self.partial_path(&header.key) && !blocks.is_empty() {
                    continue;
                }
            }
            match fs::remove_file(&path) {
                // It has its name as a kept file now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => {
                    done?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// Makes the entries of an open directory durable. Its failure is that of a sync, whatever
/// the system calls it.
pub(super) fn sync_entries(dir: &File) -> Result<(), WriteError> {
    timed(Synced::Directory, || dir.sync_all()).map_err(WriteError::Sync)
}

/// Where in a chunk's file the blocks after the first `blocks` go, in bytes.
fn missing(header: &Header, blocks: u64) -> Range<u64> {
    let length = header.sum().length;
    let front = u64::try_from(header.encode().len()).unwrap_or(u64::MAX);
    let start = front.saturating_add(block_range(length, blocks).start);
    start..front.saturating_add(length)
}

/// Gives back the room that was taken for blocks that have not come. Best effort.
fn give_back_room(file: &File, missing: &Range<u64>) {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if !missing.is_empty() {
        let _ = fallocate(file, flags, missing.start, missing.end - missing.start);
    }
}

/// The blocks that are found again: those before the first whose checksum is 0.
pub(super) fn count(blocks: &[Crc32c]) -> u64 {
    let blocks = blocks.iter().take_while(|crc| **crc != Crc32c::default()).count();
    u64::try_from(blocks).unwrap_or(u64::MAX)
}

fn is_old(since_ms: u64, now_ms: u64, ttl: Duration) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) > ttl.as_millis()
}

fn modified_ms(file: &File) -> io::Result<u64> {
    let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(modified.as_millis()).unwrap_or(u64::MAX))
}
