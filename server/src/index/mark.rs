//! The mark: how far the index is known to be durable, in a small file beside it.
//!
//! Every group of changes that the writer commits has a number, kept in a row of the index.
//! When a group is synced its number goes to the mark, in place and without a sync: no answer
//! waits for it. After a power loss the mark is at most as old as the system's write-back, and
//! never ahead of the journal. So an index whose row has a smaller number than the mark has
//! lost changes that may have been acknowledged.
//!
//! ```text
//! 0     8  magic "dfsmark1"     4096  20  the same once more; groups with an even number go
//! 8     8  number of the group            to the first, those with an odd one to the second,
//! 16    4  CRC32C of those 16             so that a write that is cut short spoils one only
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use dfs_proto::digest::Crc32c;

const MAGIC: &[u8; 8] = b"dfsmark1";
const SLOT_BYTES: usize = 20;
/// Distance of the slots: no two of them in one block of a disk.
const SLOT_EVERY: u64 = 4096;

/// The open mark.
pub(super) struct Mark {
    file: File,
}

impl Mark {
    /// Makes the mark of an index that has the groups up to `group`, durably but for its entry
    /// in the directory.
    pub(super) fn create(path: &Path, group: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path)?;
        let mark = Self { file };
        for slot in [0, 1] {
            mark.file.write_all_at(&encode(group), slot * SLOT_EVERY)?;
        }
        mark.sync()
    }

    /// Opens a mark and returns the group it names; `None` where neither slot can be read.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut newest = None;
        for slot in [0, 1] {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_EVERY) {
                Ok(()) => newest = newest.max(decode(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok((Self { file }, newest))
    }

    /// Says that the groups up to `group` are durable.
    pub(super) fn set(&self, group: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(group), group % 2 * SLOT_EVERY)
    }

    /// Makes the mark itself durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

fn encode(group: u64) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    let (front, checksum) = out.split_at_mut(SLOT_BYTES - 4);
    let (magic, number) = front.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    number.copy_from_slice(&group.to_be_bytes());
    checksum.copy_from_slice(&Crc32c::of(front).get().to_be_bytes());
    out
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<u64> {
    let (front, checksum) = bytes.split_last_chunk::<4>()?;
    let (magic, number) = front.split_first_chunk::<8>()?;
    let sound = magic == MAGIC && Crc32c::of(front).get() == u32::from_be_bytes(*checksum);
    sound.then(|| number.try_into().ok().map(u64::from_be_bytes)).flatten()
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sound_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.mark");
        assert_eq!(Mark::open(&path).err().unwrap().kind(), io::ErrorKind::NotFound);
        Mark::create(&path, 4).unwrap();
        assert!(Mark::create(&path, 5).is_err(), "a mark is made once");
        let found = || Mark::open(&path).unwrap().1;
        assert_eq!(found(), Some(4));
        let (mark, _) = Mark::open(&path).unwrap();
        for group in [5, 6, 7] {
            mark.set(group).unwrap();
            assert_eq!(found(), Some(group));
        }
        // The write of 8 is cut short: 7 still stands.
        mark.file.write_all_at(&encode(8)[..16], 0).unwrap();
        assert_eq!(found(), Some(7));
        mark.file.write_all_at(&[0xff], SLOT_EVERY + 19).unwrap();
        assert_eq!(found(), None);
        mark.file.set_len(0).unwrap();
        assert_eq!(found(), None);
    }
}
