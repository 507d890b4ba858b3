//! Random numbers that can be had again.

use std::hash::{BuildHasher, RandomState};

/// A small generator (SplitMix64): fast, and the same everywhere for the same seed.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts at the seed in `DFS_TEST_SEED`, else at a fresh one, and prints it, so that a
    /// failed test says how to repeat it.
    pub fn fresh() -> Self {
        let given = std::env::var("DFS_TEST_SEED").ok();
        let seed = match given.map(|text| text.parse()) {
            Some(seed) => seed.expect("DFS_TEST_SEED is a number of 64 bits"),
            None => RandomState::new().hash_one(std::process::id()),
        };
        eprintln!("seed {seed}; to repeat: DFS_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; `bound` is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// An index of something that has so many.
    pub fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("less than a usize")
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// An identifier of 16 bytes.
    pub fn id(&mut self) -> Vec<u8> {
        self.bytes(16)
    }
}
