//! How much room the disk has, and how much of it chunks may take.
//!
//! Some is kept for the index: a node that cannot write its rows has to stop, one that only
//! takes no more data still removes, commits and prunes.

/// Kept free at most, unless the configuration says otherwise, in bytes.
const MAX_RESERVE_BYTES: u64 = 1 << 30;
/// Kept free of a small disk, in bytes: a journal of 64 MiB, and as much again for the tables
/// that the index writes before it removes what they replace.
const MIN_RESERVE_BYTES: u64 = 128 << 20;
/// Files (inodes) that are kept free at most and of a small disk.
const MAX_RESERVE_FILES: u64 = 1000;
const MIN_RESERVE_FILES: u64 = 64;
/// The part of a disk that is kept free, and the most of a very small one.
const PART: u64 = 20;
const LARGEST_PART: u64 = 4;

/// What a chunk needs: its file and at most two directories.
const FILES_OF_A_CHUNK: u64 = 3;

/// Size and free room of the file system under the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes.
    pub(crate) total: u64,
    pub(crate) free: u64,
    /// Files that there can be; 0 where the file system knows no limit.
    pub(crate) total_files: u64,
    pub(crate) free_files: u64,
}

/// What there is not enough of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error("{needed} bytes are needed, {free} are free for files, {} are missing", .needed.saturating_sub(*.free))]
    Bytes { needed: u64, free: u64 },
    #[error("it takes {free} more files, and those are kept for the index")]
    Files { free: u64 },
}

impl Space {
    /// Whether a chunk of this many bytes may come. `reserve` is what the configuration keeps
    /// free, in bytes.
    pub(super) fn admit(&self, needed: u64, reserve: Option<u64>) -> Result<(), NoRoom> {
        let free = self.free_for_chunks(reserve);
        if needed > free {
            return Err(NoRoom::Bytes { needed, free });
        }
        let kept = part(self.total_files, MIN_RESERVE_FILES, MAX_RESERVE_FILES);
        if self.total_files > 0 && self.free_files < kept + FILES_OF_A_CHUNK {
            return Err(NoRoom::Files { free: self.free_files });
        }
        Ok(())
    }

    /// Free bytes less what is kept for the index.
    pub(super) fn free_for_chunks(&self, reserve: Option<u64>) -> u64 {
        let usual = part(self.total, MIN_RESERVE_BYTES, MAX_RESERVE_BYTES);
        self.free.saturating_sub(reserve.unwrap_or(usual))
    }
}

/// A twentieth, within limits, and never more than a quarter.
fn part(total: u64, least: u64, most: u64) -> u64 {
    (total / PART).min(most).max(least.min(total / LARGEST_PART))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn some_room_is_kept_whatever_the_size_of_the_disk() {
        let space = |total, free| Space { total, free, total_files: 0, free_files: 0 };
        let cases = [
            (16 * MIB, 4 * MIB),
            (200 * MIB, 50 * MIB),
            (1000 * MIB, 128 * MIB),
            (10_000 * MIB, 500 * MIB),
            (1 << 44, 1 << 30),
        ];
        for (total, kept) in cases {
            assert_eq!(space(total, total).free_for_chunks(None), total - kept, "{total}");
            assert_eq!(space(total, kept).admit(0, None), Ok(()));
            assert_eq!(space(total, kept + 7).admit(7, None), Ok(()));
            let refused = space(total, kept + 7).admit(8, None);
            assert_eq!(refused, Err(NoRoom::Bytes { needed: 8, free: 7 }));
        }
        assert_eq!(space(MIB, 10).admit(7, Some(3)), Ok(()), "as configured");
        let refused = space(MIB, 10).admit(7, Some(4)).unwrap_err();
        let text = "7 bytes are needed, 6 are free for files, 1 are missing";
        assert_eq!(refused.to_string(), text);
    }

    #[test]
    fn some_files_are_kept_too() {
        let space =
            |total_files, free_files| Space { total: MIB, free: MIB, total_files, free_files };
        assert_eq!(space(1000, 67).admit(1, Some(0)), Ok(()));
        assert_eq!(space(1000, 66).admit(1, Some(0)), Err(NoRoom::Files { free: 66 }));
        assert_eq!(space(1 << 30, 999).admit(1, Some(0)), Err(NoRoom::Files { free: 999 }));
        assert_eq!(space(0, 0).admit(1, Some(0)), Ok(()), "no limit is known");
    }
}
