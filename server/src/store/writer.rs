//! Writing a chunk file: open, then verified and durable, then published under its name.
//!
//! Each step consumes the one before. A writer that is dropped on the way removes its file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use dfs_proto::chunk::{block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::ChunkSum;

use super::format::{Header, encode_trailer, trailer_bytes};
use super::{CHUNKS, ChunkStore, STAGING, file_name};
use crate::chunk_key::ChunkKey;

/// Data is handed to the disk each time this many bytes have come. Left to the end, the sync
/// of a large chunk would take longer than a client waits for progress.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// Why a chunk was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("block {index}: {why}")]
    Block { index: u64, why: &'static str },
    #[error("the chunk ends after {found} of {expected} bytes")]
    Incomplete { found: u64, expected: u64 },
    #[error("the chunk's checksum is {found:?}, its manifest says {expected:?}")]
    Checksum { found: Crc32c, expected: Crc32c },
    #[error("the disk is full: {needed} bytes are needed")]
    Full { needed: u64 },
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Nobody knows what is on the disk now: the node must stop.
    #[error("a sync failed: {0}")]
    Sync(#[source] io::Error),
}

impl WriteError {
    /// What an error means where `needed` bytes were to be written.
    fn io(needed: u64) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { needed },
            _ => Self::Io(error),
        }
    }
}

/// Checks that a block is the next one of a chunk and is what it says; shared by all chunks,
/// whether they go to a file or into the index.
#[derive(Debug)]
pub(crate) struct BlockCheck {
    expected: ChunkSum,
    next: u64,
    crc: Crc32c,
    length: u64,
}

impl BlockCheck {
    pub(crate) fn new(expected: ChunkSum) -> Self {
        Self { expected, next: 0, crc: Crc32c::default(), length: 0 }
    }

    /// Whether all blocks have come.
    pub(crate) fn is_complete(&self) -> bool {
        self.next == block_count(self.expected.length)
    }

    /// Takes the next block.
    pub(crate) fn take(&mut self, index: u64, data: &[u8], crc: Crc32c) -> Result<(), WriteError> {
        let refuse = |why| Err(WriteError::Block { index, why });
        if index != self.next || self.is_complete() {
            return refuse("is not the next one of its chunk");
        }
        let range = block_range(self.expected.length, index);
        if u64::try_from(data.len()) != Ok(range.end - range.start) {
            return refuse("has the wrong length");
        }
        if Crc32c::of(data) != crc {
            return refuse("does not match its checksum");
        }
        self.crc = self.crc.then(crc, range.end - range.start);
        self.length = range.end;
        self.next += 1;
        Ok(())
    }

    /// Checks that the chunk is whole and the one its manifest describes.
    pub(crate) fn finish(self) -> Result<(), WriteError> {
        if !self.is_complete() {
            return Err(WriteError::Incomplete {
                found: self.length,
                expected: self.expected.length,
            });
        }
        if self.crc != self.expected.crc {
            return Err(WriteError::Checksum { found: self.crc, expected: self.expected.crc });
        }
        Ok(())
    }
}

/// A file in staging that goes when this is dropped.
struct Staged {
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The sweep at the next start takes it.
            tracing::warn!(file = %self.path.display(), %error, "a staged file stays behind");
        }
    }
}

/// A chunk that is coming in.
pub(crate) struct ChunkWriter {
    // Dropped before the file's name goes.
    file: File,
    staged: Staged,
    header: Header,
    check: BlockCheck,
    blocks: Vec<Crc32c>,
    unsynced: u64,
}

/// A whole, right and durable chunk that has no name yet.
pub(crate) struct StagedChunk {
    staged: Staged,
    key: ChunkKey,
}

impl ChunkStore {
    /// Starts a chunk's file.
    pub(crate) fn start(&self, header: Header) -> Result<ChunkWriter, WriteError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{serial}", file_name(&header.key));
        let path = self.root.join(STAGING).join(name);
        let front = header.encode();
        let needed = file_bytes(&front, &header);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).map_err(WriteError::io(needed))?;
        let staged = Staged { path };
        reserve(&file, needed)?;
        file.write_all(&front).map_err(WriteError::io(needed))?;
        Ok(ChunkWriter {
            file,
            staged,
            check: BlockCheck::new(header.sum()),
            header,
            blocks: Vec::new(),
            unsynced: 0,
        })
    }

    /// Gives a chunk its name, durably. Replaces a file that has it; the caller makes sure
    /// that no row speaks of that one, and that nobody else publishes this chunk meanwhile.
    pub(crate) fn publish(&self, chunk: StagedChunk) -> Result<(), WriteError> {
        let dir = self.make_dir(&chunk.key)?;
        // Opened before the rename: a process that is out of descriptors has changed nothing.
        let dir = File::open(dir).map_err(WriteError::io(0))?;
        fs::rename(&chunk.staged.path, self.path(&chunk.key)).map_err(WriteError::io(0))?;
        dir.sync_all().map_err(WriteError::Sync)
    }

    /// Makes the directory of a chunk, durably.
    fn make_dir(&self, key: &ChunkKey) -> Result<PathBuf, WriteError> {
        let dir = self.dir(key);
        if self.durable_dirs().contains(&dir) {
            return Ok(dir);
        }
        let user_dir = self.root.join(CHUNKS).join(key.user.as_str());
        for made in [&user_dir, &dir] {
            match DirBuilder::new().mode(0o700).create(made) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => done.map_err(WriteError::io(0))?,
            }
            // Even if it was there: whoever made it may have crashed before this.
            let parent = made.parent().unwrap_or(&self.root);
            let parent = File::open(parent).map_err(WriteError::io(0))?;
            parent.sync_all().map_err(WriteError::Sync)?;
        }
        self.durable_dirs().insert(dir.clone());
        Ok(dir)
    }
}

/// Length of a chunk's whole file.
fn file_bytes(front: &[u8], header: &Header) -> u64 {
    let length = header.sum().length;
    let front = u64::try_from(front.len()).unwrap_or(u64::MAX);
    front.saturating_add(length).saturating_add(trailer_bytes(length))
}

/// Takes the room for a file from the disk before its data comes, so that uploads at the same
/// time do not all believe in the same free bytes.
fn reserve(file: &File, bytes: u64) -> Result<(), WriteError> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
            Err(WriteError::Full { needed: bytes })
        }
        // Not every file system can; then the writes find out.
        _ => Ok(()),
    }
}

impl ChunkWriter {
    /// What is being written.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Checks and writes the next block.
    pub(crate) fn append(
        &mut self,
        index: u64,
        data: &Bytes,
        crc: Crc32c,
    ) -> Result<(), WriteError> {
        self.check.take(index, data, crc)?;
        self.file.write_all(data).map_err(WriteError::io(self.header.sum().length))?;
        self.blocks.push(crc);
        self.unsynced += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data().map_err(WriteError::Sync)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Checks the whole and makes it durable.
    pub(crate) fn finish(self) -> Result<StagedChunk, WriteError> {
        let Self { mut file, staged, header, check, blocks, .. } = self;
        check.finish()?;
        let trailer = encode_trailer(&blocks);
        file.write_all(&trailer).map_err(WriteError::io(header.sum().length))?;
        file.sync_all().map_err(WriteError::Sync)?;
        Ok(StagedChunk { staged, key: header.key })
    }
}
