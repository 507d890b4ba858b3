//! What is put: a local file, or bytes, read twice.
//!
//! The first pass finds the MD5 and the checksums; the second sends the blocks and must find
//! the same again.

mod local;
mod pool;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, MAX_FILE_BYTES, block_count, block_range};
use dfs_proto::digest::{Crc32c, Md5Digest, Md5Hasher};
use dfs_proto::name::FilePath;

use crate::error::{Cause, Error};
use local::Local;
pub(crate) use pool::Buffers;

/// A file up to this length is read into memory once and both passes run over that.
const IN_MEMORY_BYTES: u64 = 256 << 10;

/// Content that can be read twice.
#[derive(Clone)]
pub(crate) enum Source {
    /// In memory.
    Bytes(Bytes),
    /// In a file, which may be a spooled stream.
    File(Arc<Local>),
}

/// What the first pass found.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    pub(crate) size: u64,
    pub(crate) md5: Md5Digest,
    pub(crate) crcs: [Crc32c; 4],
    /// Those of every block of the chunks: four bytes for each MiB.
    blocks: [Vec<Crc32c>; 4],
}

impl Source {
    /// Opens a local file and tells its modification time.
    pub(crate) fn open(
        path: &Path,
        buffers: &Buffers,
    ) -> Result<(Self, std::time::SystemTime), Error> {
        // Looked at first: opening a pipe would wait for its writer.
        let about = std::fs::metadata(path).map_err(Error::local("read", path))?;
        if !about.is_file() {
            let kind = std::io::Error::other("it is not a regular file");
            return Err(Error::local("put", path)(kind));
        }
        let file = File::open(path).map_err(Error::local("read", path))?;
        let modified = about.modified().map_err(Error::local("read", path))?;
        Ok((Self::File(Arc::new(Local::new(file, buffers.pool()))), modified))
    }

    /// Copies a stream of unknown length to a temporary file without a name.
    pub(crate) fn spool(mut stream: impl Read, buffers: &Buffers) -> Result<Self, Error> {
        let directory = std::env::temp_dir();
        let mut file = tempfile::tempfile().map_err(Error::local("write", &*directory))?;
        std::io::copy(&mut stream, &mut file).map_err(Error::local("spool stdin to", directory))?;
        Ok(Self::File(Arc::new(Local::new(file, buffers.pool()))))
    }

    fn length(&self) -> std::io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(local) => local.length(),
        }
    }

    /// Pass one. Small files stay in memory from here on. Blocks; run it on a blocking thread.
    pub(crate) fn scan(
        self,
        remote: &FilePath,
        local: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(Self, Sums), Error> {
        let unreadable = |source| Error::local("read", local)(source);
        let size = self.length().map_err(unreadable)?;
        let changed = || Error::Changed { path: remote.clone() };
        if size > MAX_FILE_BYTES {
            let source = dfs_proto::manifest::ManifestError::TooLarge(size);
            return Err(Error::Manifest { path: remote.clone(), source });
        }
        let source = match self {
            Self::File(local) if size <= IN_MEMORY_BYTES => {
                // One byte more than expected, to notice a file that grows.
                let most = usize::try_from(size).map_err(|_| changed())? + 1;
                let buffer = local.front(most).map_err(unreadable)?;
                if buffer.len() as u64 != size {
                    return Err(changed());
                }
                Self::Bytes(buffer.into())
            }
            other => other,
        };
        let mut md5 = Md5Hasher::new();
        let mut crcs = [Crc32c::default(); 4];
        let mut blocks = [const { Vec::new() }; 4];
        let mut take = |chunk: ChunkId, block: &[u8], sum: Crc32c| {
            let length = block.len() as u64;
            md5.update(block);
            crcs[chunk.index()] = crcs[chunk.index()].then(sum, length);
            blocks[chunk.index()].push(sum);
            progress(length);
        };
        match &source {
            Self::Bytes(bytes) => {
                for (chunk, range) in all_blocks(size) {
                    let block = bytes.get(memory_range(range)).ok_or_else(changed)?;
                    take(chunk, block, Crc32c::of(block));
                }
            }
            Self::File(local) => {
                let whole = local.scan(size, take).map_err(unreadable)?;
                if !whole {
                    return Err(changed());
                }
            }
        }
        Ok((source, Sums { size, md5: md5.finish(), crcs, blocks }))
    }

    /// The only block of a chunk in memory and its checksum; `None` where it has none.
    pub(crate) fn in_memory(&self, sums: &Sums, chunk: ChunkId) -> Option<(Bytes, Crc32c)> {
        let crc = *sums.blocks[chunk.index()].first()?;
        match self {
            Self::Bytes(bytes) => Some((bytes.slice(memory_range(chunk.range(sums.size))), crc)),
            Self::File(_) => None,
        }
    }

    /// Pass two over one chunk: its blocks from `first` on with their checksums. Ends with an error
    /// where they are not what the first pass found.
    pub(crate) fn blocks(&self, sums: Arc<Sums>, chunk: ChunkId, first: u64) -> Blocks {
        Blocks { source: self.clone(), sums, chunk, next: first }
    }
}

/// The blocks of a file of `size` bytes, chunk after chunk, and where in the file they are.
fn all_blocks(size: u64) -> impl Iterator<Item = (ChunkId, Range<u64>)> {
    ChunkId::ALL.into_iter().flat_map(move |chunk| {
        let blocks = 0..block_count(chunk.length(size));
        blocks.map(move |index| (chunk, place(size, chunk, index)))
    })
}

/// Where in a file of `size` bytes a block of a chunk is.
fn place(size: u64, chunk: ChunkId, index: u64) -> Range<u64> {
    let start = chunk.range(size).start;
    let range = block_range(chunk.length(size), index);
    start + range.start..start + range.end
}

/// Bytes in memory have lengths that fit.
fn memory_range(range: Range<u64>) -> Range<usize> {
    let fit = |place| usize::try_from(place).unwrap_or(usize::MAX);
    fit(range.start)..fit(range.end)
}

/// The blocks of one chunk, in order.
pub(crate) struct Blocks {
    source: Source,
    sums: Arc<Sums>,
    chunk: ChunkId,
    next: u64,
}

impl Blocks {
    /// The next block and its checksum; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<(Bytes, Crc32c), Cause>> {
        let index = self.next;
        let expected = *self.sums.blocks[self.chunk.index()].get(usize::try_from(index).ok()?)?;
        self.next += 1;
        let (size, chunk) = (self.sums.size, self.chunk);
        let block = match &self.source {
            // The first pass ran over the same bytes.
            Source::Bytes(bytes) => Ok(bytes.slice(memory_range(place(size, chunk, index)))),
            Source::File(local) => {
                let local = Arc::clone(local);
                let read = move || local.block(chunk, index, size, expected);
                let read = tokio::task::spawn_blocking(read).await;
                read.unwrap_or_else(|error| Err(Cause::SourceUnreadable(error.to_string())))
            }
        };
        Some(block.map(|block| (block, expected)))
    }
}

/// The name shown for a local file in messages.
pub(crate) fn shown(local: Option<&Path>) -> PathBuf {
    local.map_or_else(|| PathBuf::from("-"), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    pub(super) fn remote() -> FilePath {
        FilePath::new("remote").unwrap()
    }

    pub(super) fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    pub(super) fn in_file(content: &[u8]) -> (tempfile::NamedTempFile, Source) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let (source, _) = Source::open(file.path(), &Buffers::default()).unwrap();
        (file, source)
    }

    async fn read(source: &Source, sums: &Arc<Sums>) -> Result<Vec<u8>, Cause> {
        let mut all = Vec::new();
        for chunk in ChunkId::ALL {
            let mut blocks = source.blocks(sums.clone(), chunk, 0);
            while let Some(block) = blocks.next().await {
                let (data, crc) = block?;
                assert_eq!(crc, Crc32c::of(&data));
                all.extend_from_slice(&data);
            }
        }
        Ok(all)
    }

    #[tokio::test]
    async fn both_passes_read_the_same_at_every_size() {
        let limit = usize::try_from(IN_MEMORY_BYTES).unwrap();
        for length in [0, 1, 2, 3, 4, 5, limit, limit + 1, (4 << 20) - 1, (4 << 20) + 1, 9 << 20] {
            let content = content(length);
            let (_file, source) = in_file(&content);
            let (source, sums) = source.scan(&remote(), Path::new("local"), &|_| {}).unwrap();
            assert_eq!(sums.size, length as u64);
            assert_eq!(sums.md5, Md5Digest::of(&content), "{length} bytes");
            let sums = Arc::new(sums);
            assert_eq!(read(&source, &sums).await.unwrap(), content, "{length} bytes");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_between_the_passes_is_noticed() {
        for (offset, byte) in [(0, 9), (5 << 20, 9)] {
            let (file, source) = in_file(&content(6 << 20));
            let (source, sums) = source.scan(&remote(), Path::new("local"), &|_| {}).unwrap();
            file.as_file().write_all_at(&[byte], offset).unwrap();
            let read = read(&source, &Arc::new(sums)).await;
            assert_eq!(read, Err(Cause::SourceChanged), "offset {offset}");
        }
    }

    #[tokio::test]
    async fn a_file_that_shrinks_between_the_passes_is_noticed() {
        let (file, source) = in_file(&content(6 << 20));
        let (source, sums) = source.scan(&remote(), Path::new("local"), &|_| {}).unwrap();
        file.as_file().set_len(5 << 20).unwrap();
        assert_eq!(read(&source, &Arc::new(sums)).await, Err(Cause::SourceChanged));
    }

    #[tokio::test]
    async fn a_file_that_grows_is_noticed() {
        let (file, source) = in_file(&content(6 << 20));
        let (source, sums) = source.scan(&remote(), Path::new("local"), &|_| {}).unwrap();
        file.as_file().set_len((6 << 20) + 1).unwrap();
        assert_eq!(read(&source, &Arc::new(sums)).await, Err(Cause::SourceChanged));

        let (file, source) = in_file(&content(6 << 20));
        let grow = |_| file.as_file().set_len((6 << 20) + 1).unwrap();
        let scanned = source.scan(&remote(), Path::new("local"), &grow);
        assert!(matches!(scanned.map(drop), Err(Error::Changed { .. })), "in the first pass");
    }

    #[test]
    fn a_folder_is_no_source() {
        assert!(matches!(
            Source::open(Path::new("/"), &Buffers::default()),
            Err(Error::Local { .. })
        ));
    }
}
