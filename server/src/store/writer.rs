//! Writing a chunk file: open, then verified and durable, then published under its name.
//!
//! Each step consumes the one before. A writer that is dropped on the way removes its file,
//! unless it is kept for one who goes on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use dfs_proto::chunk::{block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::ChunkSum;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::format::{Header, encode_trailer, trailer_bytes};
use super::staging::{Found, count, sync_entries};
use super::{CHUNKS, ChunkStore, STAGING, file_name};
use crate::chunk_key::ChunkKey;
use crate::telemetry::labels::Synced;
use crate::telemetry::{block_received, timed};

/// Data is handed to the disk each time this many bytes have come, and has to be there when as many
/// more have. Left to the end, the sync of a large chunk would take longer than a client waits for
/// progress.
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
    #[error("block {first_block} cannot be the next one: {staged} blocks of its chunk are here")]
    NotStaged { first_block: u64, staged: u64 },
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

    /// Goes on after blocks that came before, with these checksums.
    fn after(expected: ChunkSum, blocks: &[Crc32c]) -> Self {
        let mut check = Self::new(expected);
        for crc in blocks {
            let range = block_range(expected.length, check.next);
            check.crc = check.crc.then(*crc, range.end - range.start);
            check.length = range.end;
            check.next += 1;
        }
        check
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
        block_received();
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
    /// How many of them an earlier stream has brought.
    kept: usize,
    /// Where the checksums of the blocks are.
    trailer: u64,
    /// How many of them are there: those of blocks that are synced.
    noted: usize,
    unsynced: u64,
    syncing: Option<Syncing>,
}

/// A sync that goes on while more blocks come.
struct Syncing {
    /// How many blocks had come before it.
    blocks: usize,
    thread: JoinHandle<io::Result<()>>,
}

/// A whole, right and durable chunk that has no name yet.
pub(crate) struct StagedChunk {
    staged: Staged,
    key: ChunkKey,
}

impl ChunkStore {
    /// Starts a chunk's file.
    pub(crate) fn start(&self, header: Header) -> Result<ChunkWriter, WriteError> {
        let path = self.staged_path(&header.key);
        let front = header.encode();
        let needed = file_bytes(&front, &header);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).map_err(WriteError::io(needed))?;
        let staged = Staged { path };
        self.take_room(&file, &(0..needed))?;
        file.write_all(&front).map_err(WriteError::io(needed))?;
        let front = u64::try_from(front.len()).unwrap_or(u64::MAX);
        Ok(ChunkWriter {
            file,
            staged,
            check: BlockCheck::new(header.sum()),
            trailer: front.saturating_add(header.sum().length),
            header,
            blocks: Vec::new(),
            kept: 0,
            noted: 0,
            unsynced: 0,
            syncing: None,
        })
    }

    /// Goes on with a chunk that was kept: `first_block` is the next one to come, and those
    /// before it have to be here. Where the disk has no room for the rest it stays kept.
    pub(crate) fn resume(
        &self,
        header: &Header,
        first_block: u64,
    ) -> Result<ChunkWriter, WriteError> {
        let path = self.staged_path(&header.key);
        let Found { mut file, header, mut blocks, data_offset } =
            self.claim(header, first_block, &path)?;
        let staged = Staged { path };
        let sum = header.sum();
        let noted = usize::try_from(first_block).unwrap_or(usize::MAX);
        let trailer = data_offset.saturating_add(sum.length);
        let forgotten = blocks.len().saturating_sub(noted);
        blocks.truncate(noted);
        if forgotten > 0 {
            // Their checksums go before their bytes are written anew.
            let at = trailer.saturating_add(first_block.saturating_mul(4));
            let zeros = vec![0; 4 * forgotten];
            file.write_all_at(&zeros, at).map_err(WriteError::io(sum.length))?;
            timed(Synced::Chunk, || file.sync_data()).map_err(WriteError::Sync)?;
        }
        let next = data_offset.saturating_add(block_range(sum.length, first_block).start);
        file.seek(SeekFrom::Start(next)).map_err(WriteError::Io)?;
        let check = BlockCheck::after(sum, &blocks);
        let (kept, unsynced, syncing) = (noted, 0, None);
        Ok(ChunkWriter {
            file,
            staged,
            header,
            check,
            blocks,
            kept,
            trailer,
            noted,
            unsynced,
            syncing,
        })
    }

    /// Keeps what has come of a chunk whose stream broke, durably, for one who goes on with it.
    pub(crate) fn keep(&self, mut writer: ChunkWriter, now_ms: u64) -> Result<(), WriteError> {
        writer.end_sync()?;
        timed(Synced::Chunk, || writer.file.sync_data()).map_err(WriteError::Sync)?;
        writer.note(writer.blocks.len())?;
        timed(Synced::Chunk, || writer.file.sync_data()).map_err(WriteError::Sync)?;
        let ChunkWriter { file, staged, header, blocks, .. } = writer;
        let blocks = count(&blocks);
        self.keep_file(&staged.path, &file, &header, blocks, now_ms)
    }

    /// Takes the room for these bytes of a file from the disk before they come, so that uploads at
    /// the same time do not all believe in the same free bytes. [`WriteError::Full`] where that
    /// would be room that is kept for the index.
    pub(super) fn take_room(&self, file: &File, range: &Range<u64>) -> Result<(), WriteError> {
        let needed = range.end.saturating_sub(range.start);
        // Held until the room is taken: the next one finds so much less.
        let _taking = self.taking_room();
        if needed > self.space().map_err(WriteError::Io)?.free_for_chunks(self.reserve) {
            return Err(WriteError::Full { needed });
        }
        match fallocate(file, FallocateFlags::empty(), range.start, needed) {
            Err(Errno::NOSPC | Errno::DQUOT) => Err(WriteError::Full { needed }),
            // Not every file system can; then the writes find out.
            _ => Ok(()),
        }
    }

    /// A new name in staging.
    fn staged_path(&self, key: &ChunkKey) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.root.join(STAGING).join(format!("{}.{serial}", file_name(key)))
    }

    /// Gives a chunk its name, durably. Replaces a file that has it; the caller makes sure
    /// that no row speaks of that one, and that nobody else publishes this chunk meanwhile.
    pub(crate) fn publish(&self, chunk: StagedChunk) -> Result<(), WriteError> {
        let dir = self.make_dir(&chunk.key)?;
        // Opened before the rename: a process that is out of descriptors has changed nothing.
        let dir = File::open(dir).map_err(WriteError::io(0))?;
        fs::rename(&chunk.staged.path, self.path(&chunk.key)).map_err(WriteError::io(0))?;
        sync_entries(&dir)
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
            sync_entries(&parent)?;
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

impl ChunkWriter {
    /// What is being written.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Why the chunk cannot be finished yet; `None` when all of it has come.
    pub(crate) fn incomplete(&self) -> Option<WriteError> {
        let (found, expected) = (self.check.length, self.header.sum().length);
        (!self.check.is_complete()).then_some(WriteError::Incomplete { found, expected })
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
        if self.syncing.as_ref().is_some_and(|syncing| syncing.thread.is_finished()) {
            self.end_sync()?;
        }
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.begin_sync()?;
        }
        Ok(())
    }

    /// Starts to sync the blocks that are here, after those before them are synced.
    fn begin_sync(&mut self) -> Result<(), WriteError> {
        self.end_sync()?;
        let file = self.file.try_clone().map_err(WriteError::Io)?;
        let sync = move || timed(Synced::Chunk, || file.sync_data());
        let thread = std::thread::Builder::new().name("chunk-sync".into()).spawn(sync);
        let thread = thread.map_err(WriteError::Io)?;
        self.syncing = Some(Syncing { blocks: self.blocks.len(), thread });
        self.unsynced = 0;
        Ok(())
    }

    /// Waits until a sync has ended, and notes its blocks.
    pub(super) fn end_sync(&mut self) -> Result<(), WriteError> {
        let Some(Syncing { blocks, thread }) = self.syncing.take() else { return Ok(()) };
        let synced = thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        synced.map_err(WriteError::Sync)?;
        self.note(blocks)
    }

    /// Writes the checksums of the first blocks, which have to be synced, to their places: after a
    /// crash those that are there are of blocks that are there.
    fn note(&mut self, blocks: usize) -> Result<(), WriteError> {
        let new = self.blocks.get(self.noted..blocks).unwrap_or_default();
        let sums: Vec<u8> = new.iter().flat_map(|crc| crc.get().to_be_bytes()).collect();
        let before = u64::try_from(self.noted).unwrap_or(u64::MAX).saturating_mul(4);
        let at = self.trailer.saturating_add(before);
        self.file.write_all_at(&sums, at).map_err(WriteError::io(self.header.sum().length))?;
        self.noted = blocks;
        Ok(())
    }

    /// Reads again what an earlier stream has brought: that may be a day ago.
    fn check_kept(&self) -> Result<(), WriteError> {
        let length = self.header.sum().length;
        let start = self.trailer.saturating_sub(length);
        let mut buffer = Vec::new();
        for (index, crc) in (0..).zip(self.blocks.iter().take(self.kept)) {
            let range = block_range(length, index);
            buffer.resize(usize::try_from(range.end - range.start).unwrap_or(0), 0);
            self.file.read_exact_at(&mut buffer, start + range.start).map_err(WriteError::Io)?;
            if Crc32c::of(&buffer) != *crc {
                return Err(WriteError::Block { index, why: "was damaged while it was kept" });
            }
        }
        Ok(())
    }

    /// Checks the whole and makes it durable.
    pub(crate) fn finish(mut self) -> Result<StagedChunk, WriteError> {
        self.end_sync()?;
        self.check_kept()?;
        let Self { mut file, staged, header, check, blocks, .. } = self;
        check.finish()?;
        let trailer = encode_trailer(&blocks);
        file.write_all(&trailer).map_err(WriteError::io(header.sum().length))?;
        timed(Synced::Chunk, || file.sync_all()).map_err(WriteError::Sync)?;
        Ok(StagedChunk { staged, key: header.key })
    }
}
