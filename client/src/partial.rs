//! A large file that is being fetched: what has come of it outlives the program.
//!
//! It lies beside its target as `.dfs-NAME.partial`, is locked while in use, and is tied to one
//! upload. Numbers are big-endian:
//!
//! ```text
//! 0        S  the content; what has not come is a hole
//! S       8n  for each of the n blocks, chunk after chunk: CRC32C (4), the same inverted (4);
//!             8 zeros: has not come
//! S+8n     8  magic "dfspart1"
//! …       16  upload id
//! …       24  tag: hlc (8), writer (16)
//! …        8  S
//! …       16  MD5 of the content
//! …        4  CRC32C of the last five
//! ```
//!
//! Nothing in it is believed: a block counts as come when it has the checksum that it came
//! with, and a chunk when its blocks make up what the manifest says. So nothing needs to be
//! synced, and a file that was damaged meanwhile costs a second transfer of the damaged part.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, block_count, block_range};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{Manifest, Version};

use crate::{locked, swap};

const MAGIC: &[u8; 8] = b"dfspart1";

/// Bytes of one block's entry.
const ENTRY_BYTES: u64 = 8;

/// How much of a chunk has come: its first blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Prefix {
    /// How many blocks.
    pub(crate) blocks: u64,
    /// Their length in bytes.
    pub(crate) bytes: u64,
    /// Their checksum.
    pub(crate) crc: Crc32c,
}

/// An open and locked partial file.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// Opens the partial file of `target`, or makes one. `None` where somebody else is using
    /// it, or where there cannot be one.
    pub(crate) fn open(target: &Path) -> io::Result<Option<Self>> {
        let Some(path) = path_for(target) else {
            return Ok(None);
        };
        // As any program would create it; the umask takes its share.
        let file = locked::open(&path, 0o666)?;
        Ok(file.map(|file| Self { path, file }))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Finds out what has come of `version`. What belongs to another one is thrown away.
    pub(crate) fn begin(&self, version: &Version, manifest: &Manifest) -> io::Result<[Prefix; 4]> {
        let foot = foot(version, manifest);
        let end = entries_at(manifest.size(), ChunkId::C4)
            + ENTRY_BYTES * block_count(manifest.chunk(ChunkId::C4).length);
        let mut found = vec![0; foot.len()];
        let expected = end + foot.len() as u64;
        let length = self.file.metadata()?.len();
        let same =
            length == expected && self.file.read_exact_at(&mut found, end).is_ok() && found == foot;
        if !same {
            // One that is emptied, even if it was empty, is written out when it is closed (ext4).
            if length > 0 {
                self.file.set_len(0)?;
            }
            self.file.write_all_at(&foot, end)?;
            return Ok(Default::default());
        }
        let mut come = [Prefix::default(); 4];
        for chunk in ChunkId::ALL {
            come[chunk.index()] = self.prefix(chunk, manifest)?;
        }
        Ok(come)
    }

    fn prefix(&self, chunk: ChunkId, manifest: &Manifest) -> io::Result<Prefix> {
        let sum = manifest.chunk(chunk);
        let start = chunk.range(manifest.size()).start;
        let mut prefix = Prefix::default();
        let mut buffer = vec![0; usize::try_from(BLOCK_BYTES).map_err(io::Error::other)?];
        for index in 0..block_count(sum.length) {
            let mut entry = [0; 8];
            let at = entries_at(manifest.size(), chunk) + ENTRY_BYTES * index;
            self.file.read_exact_at(&mut entry, at)?;
            let range = block_range(sum.length, index);
            let length = range.end - range.start;
            let block = &mut buffer[..usize::try_from(length).map_err(io::Error::other)?];
            let Some(crc) = read_entry(entry) else { break };
            self.file.read_exact_at(block, start + range.start)?;
            if Crc32c::of(block) != crc {
                break;
            }
            let crc = prefix.crc.then(crc, length);
            prefix = Prefix { blocks: index + 1, bytes: range.end, crc };
        }
        let wrong = prefix.bytes == sum.length && prefix.crc != sum.crc;
        Ok(if wrong { Prefix::default() } else { prefix })
    }

    /// Writes a block that begins at `offset` of a file of `size` bytes, then notes that it has
    /// come.
    pub(crate) fn write(file: &File, size: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        file.write_all_at(data, offset)?;
        let chunk = ChunkId::ALL.into_iter().find(|chunk| chunk.range(size).contains(&offset));
        let Some(chunk) = chunk else { return Ok(()) };
        let index = (offset - chunk.range(size).start) / BLOCK_BYTES;
        let crc = Crc32c::of(data).get();
        let entry = [crc.to_be_bytes(), (!crc).to_be_bytes()].concat();
        file.write_all_at(&entry, entries_at(size, chunk) + ENTRY_BYTES * index)
    }

    /// Whether the first block of any chunk of a file of `size` bytes has come.
    pub(crate) fn holds_any(&self, size: u64) -> bool {
        let came = |chunk: ChunkId| {
            let mut entry = [0; 8];
            let read = self.file.read_exact_at(&mut entry, entries_at(size, chunk));
            read.is_ok() && read_entry(entry).is_some()
        };
        ChunkId::ALL.into_iter().any(came)
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Gives it the name of its target.
    pub(crate) fn persist(&self, target: &Path) -> io::Result<()> {
        swap::replace(&self.path, target)
    }
}

/// Where the partial file of `target` is; `None` where its name would be too long.
fn path_for(target: &Path) -> Option<PathBuf> {
    const MAX_NAME_BYTES: usize = 255;
    let mut name = std::ffi::OsString::from(".dfs-");
    name.push(target.file_name()?);
    name.push(".partial");
    (name.len() <= MAX_NAME_BYTES).then(|| target.with_file_name(name))
}

/// Where the entries of a chunk's blocks begin.
fn entries_at(size: u64, chunk: ChunkId) -> u64 {
    let before = ChunkId::ALL.into_iter().take(chunk.index());
    let blocks: u64 = before.map(|chunk| block_count(chunk.length(size))).sum();
    size + ENTRY_BYTES * blocks
}

fn read_entry(entry: [u8; 8]) -> Option<Crc32c> {
    let [a, b, c, d, e, f, g, h] = entry;
    let (crc, check) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    (crc == !check).then(|| Crc32c::new(crc))
}

fn foot(version: &Version, manifest: &Manifest) -> Vec<u8> {
    let mut foot = Vec::new();
    foot.extend(MAGIC);
    foot.extend(version.upload.bytes());
    foot.extend(version.tag.hlc.get().to_be_bytes());
    foot.extend(version.tag.writer);
    foot.extend(manifest.size().to_be_bytes());
    foot.extend(manifest.md5().bytes());
    foot.extend(Crc32c::of(&foot).get().to_be_bytes());
    foot
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::digest::Md5Digest;
    use dfs_proto::manifest::{Content, UploadId};
    use dfs_proto::tag::{Hlc, Tag};

    const SIZE: u64 = (9 << 20) + 3;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn version(upload: u8) -> (Version, Manifest) {
        let content = content();
        let crcs = ChunkId::ALL.map(|chunk| {
            let range = chunk.range(SIZE);
            Crc32c::of(&content[range.start as usize..range.end as usize])
        });
        let time = "2026-11-22T10:00:00Z";
        let md5 = Md5Digest::of(&content);
        let manifest = Manifest::new(md5, SIZE, crcs, time, Default::default()).unwrap();
        let tag = Tag { hlc: Hlc::new(1), writer: [2; 16] };
        let content = Content::File(manifest.clone());
        (Version { tag, upload: UploadId::new([upload; 16]), content }, manifest)
    }

    fn write(partial: &Partial, chunk: ChunkId, blocks: std::ops::Range<u64>) {
        let start = chunk.range(SIZE).start;
        for index in blocks {
            let range = block_range(chunk.length(SIZE), index);
            let (from, to) = (start + range.start, start + range.end);
            let data = &content()[from as usize..to as usize];
            Partial::write(&partial.file, SIZE, from, data).unwrap();
        }
    }

    fn blocks(partial: &Partial, upload: u8) -> [u64; 4] {
        let (version, manifest) = version(upload);
        partial.begin(&version, &manifest).unwrap().map(|prefix| prefix.blocks)
    }

    #[test]
    fn what_has_come_is_found_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let partial = Partial::open(&target).unwrap().unwrap();
        assert_eq!(blocks(&partial, 1), [0; 4]);
        write(&partial, ChunkId::C1, 0..2);
        write(&partial, ChunkId::C2, 1..3);
        write(&partial, ChunkId::C4, 0..3);
        assert!(Partial::open(&target).unwrap().is_none(), "it is locked");
        drop(partial);
        let partial = Partial::open(&target).unwrap().unwrap();
        assert_eq!(blocks(&partial, 1), [2, 0, 0, 3]);
        let (from, _) = (ChunkId::C1.range(SIZE).start, ());
        partial.file.write_all_at(&[0xff; 9], from + BLOCK_BYTES + 7).unwrap();
        assert_eq!(blocks(&partial, 1), [1, 0, 0, 3], "a damaged block has not come");
        assert_eq!(blocks(&partial, 2), [0; 4], "it was another upload");
        assert_eq!(blocks(&partial, 1), [0; 4], "and is gone now");
    }

    #[test]
    fn blocks_that_are_not_the_chunk_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let partial = Partial::open(&folder.path().join("file")).unwrap().unwrap();
        assert_eq!(blocks(&partial, 1), [0; 4]);
        write(&partial, ChunkId::C1, 0..3);
        Partial::write(&partial.file, SIZE, BLOCK_BYTES, &[7; BLOCK_BYTES as usize]).unwrap();
        assert_eq!(blocks(&partial, 1), [0; 4]);
    }

    #[test]
    fn a_file_that_went_into_its_place_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let first = Partial::open(&target).unwrap().unwrap();
        first.persist(&target).unwrap();
        let second = Partial::open(&target).unwrap().unwrap();
        assert!(!locked::is_at(&second.file, &target).unwrap());
    }

    #[test]
    fn a_name_that_is_too_long_or_taken_has_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Partial::open(&folder.path().join("n".repeat(250))).unwrap().is_none());
        std::fs::create_dir(folder.path().join(".dfs-file.partial")).unwrap();
        assert!(Partial::open(&folder.path().join("file")).unwrap().is_none());
    }
}
