//! Chunks: the four pieces of a file, sets of them, and the blocks they are moved in.

use std::fmt;
use std::ops::Range;

/// Length of every block but the last of a chunk, in bytes. Measured: over HTTP/2 blocks of
/// 1 MiB move about twice as fast as blocks of 256 KiB.
pub const BLOCK_BYTES: u64 = 1 << 20;

/// Longest file, in bytes. With it every chunk has fewer than 2^28 blocks, so a block number
/// fits into 32 bits with room to spare.
pub const MAX_FILE_BYTES: u64 = 1 << 50;

const _: () = assert!(MAX_FILE_BYTES / 4 / BLOCK_BYTES < u32::MAX as u64);

/// One of the four chunks of a file, numbered 1..4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkId {
    /// The first quarter.
    C1,
    /// The second quarter.
    C2,
    /// The third quarter.
    C3,
    /// The last quarter.
    C4,
}

impl ChunkId {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::C1, Self::C2, Self::C3, Self::C4];

    /// Takes 1..4.
    pub fn new(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }

    /// The number, 1..4.
    pub const fn get(self) -> u8 {
        self as u8 + 1
    }

    /// The place in an array of four, 0..3.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The bytes of a file of `size` bytes that belong to this chunk:
    /// `[i*size/4, (i+1)*size/4)` for the chunk at index i.
    pub fn range(self, size: u64) -> Range<u64> {
        let border = |i: u128| {
            u64::try_from(i * u128::from(size) / 4).expect("a border is not beyond the size")
        };
        let i = self.index() as u128;
        border(i)..border(i + 1)
    }

    /// The length of this chunk in a file of `size` bytes.
    pub fn length(self, size: u64) -> u64 {
        let range = self.range(size);
        range.end - range.start
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// The number of blocks of a chunk of `length` bytes; none for an empty one.
pub fn block_count(length: u64) -> u64 {
    length.div_ceil(BLOCK_BYTES)
}

/// The bytes of a chunk of `length` bytes that are in its block `index`; empty beyond its end.
pub fn block_range(length: u64, index: u64) -> Range<u64> {
    let start = index.saturating_mul(BLOCK_BYTES).min(length);
    start..start.saturating_add(BLOCK_BYTES).min(length)
}

/// A set of chunks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ChunkSet(u8);

impl ChunkSet {
    /// No chunk.
    pub const EMPTY: Self = Self(0);
    /// All four chunks.
    pub const ALL: Self = Self(0b1111);

    /// Takes a mask of 0..15; bit 0 is chunk 1.
    pub fn from_mask(mask: u32) -> Option<Self> {
        u8::try_from(mask).ok().filter(|mask| *mask <= Self::ALL.0).map(Self)
    }

    /// The mask; bit 0 is chunk 1.
    pub const fn mask(self) -> u8 {
        self.0
    }

    /// Whether `chunk` is in the set.
    pub const fn contains(self, chunk: ChunkId) -> bool {
        self.0 & (1 << chunk.index()) != 0
    }

    /// Whether all of `other` is in the set.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many chunks are in the set, 0..4.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The set with `chunk` in it.
    #[must_use]
    pub const fn with(self, chunk: ChunkId) -> Self {
        Self(self.0 | 1 << chunk.index())
    }

    /// The set without `chunk`.
    #[must_use]
    pub const fn without(self, chunk: ChunkId) -> Self {
        Self(self.0 & !(1 << chunk.index()))
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this but not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The chunks in order.
    pub fn iter(self) -> impl Iterator<Item = ChunkId> {
        ChunkId::ALL.into_iter().filter(move |chunk| self.contains(*chunk))
    }
}

impl FromIterator<ChunkId> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = ChunkId>>(chunks: I) -> Self {
        chunks.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for ChunkSet {
    /// The numbers, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.iter().map(|chunk| chunk.to_string()).collect();
        f.write_str(&numbers.join(","))
    }
}

impl fmt::Debug for ChunkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_split(size: u64) {
        let mut next = 0;
        for chunk in ChunkId::ALL {
            let range = chunk.range(size);
            assert_eq!(range.start, next, "chunk {chunk} of {size}");
            next = range.end;
            let length = chunk.length(size);
            assert!(length == size / 4 || length == size.div_ceil(4), "chunk {chunk} of {size}");
        }
        assert_eq!(next, size);
    }

    #[test]
    fn chunks_tile_the_file_and_are_balanced() {
        (0..=9).for_each(check_split);
        for border in
            [BLOCK_BYTES, 4 * BLOCK_BYTES, 8 * BLOCK_BYTES, 1 << 40, MAX_FILE_BYTES, 1 << 63]
        {
            (border - 5..=border + 5).for_each(check_split);
        }
        check_split(u64::MAX);
    }

    #[test]
    fn golden_splits() {
        let lengths = |size| ChunkId::ALL.map(|chunk| chunk.length(size));
        assert_eq!(lengths(0), [0, 0, 0, 0]);
        assert_eq!(lengths(1), [0, 0, 0, 1]);
        assert_eq!(lengths(2), [0, 1, 0, 1]);
        assert_eq!(lengths(3), [0, 1, 1, 1]);
        assert_eq!(lengths(5), [1, 1, 1, 2]);
    }

    #[test]
    fn blocks_tile_the_chunk() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7] {
            let mut next = 0;
            for index in 0..block_count(length) {
                let range = block_range(length, index);
                assert_eq!(range.start, next);
                assert!(!range.is_empty() && range.end - range.start <= BLOCK_BYTES);
                next = range.end;
            }
            assert_eq!(next, length);
            assert!(block_range(length, block_count(length)).is_empty());
            assert!(block_range(length, u64::MAX).is_empty());
        }
    }

    #[test]
    fn sets_follow_their_masks() {
        for mask in 0..16 {
            let set = ChunkSet::from_mask(mask).unwrap();
            assert_eq!(set.iter().collect::<ChunkSet>(), set);
            assert_eq!(set.len(), mask.count_ones());
            for chunk in ChunkId::ALL {
                assert_eq!(set.contains(chunk), mask & (1 << chunk.index()) != 0);
                assert!(set.with(chunk).contains(chunk) && !set.without(chunk).contains(chunk));
            }
        }
        assert_eq!(ChunkSet::from_mask(16), None);
    }

    proptest! {
        #[test]
        fn any_size_is_tiled(size: u64) {
            check_split(size);
        }
    }
}
