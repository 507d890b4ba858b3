//! What programs ask of the system and of the allocator, counted: a small library that is loaded in
//! front of the C library. The programs have to use the allocator of that.

use std::fs;

use crate::preload::Preload;

/// So much was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Calls that read, from files and sockets.
    pub reads: u64,
    /// Calls that write.
    pub writes: u64,
    /// fsync and fdatasync.
    pub syncs: u64,
    /// Pieces of memory, those that grew included.
    pub allocations: u64,
    /// Their bytes.
    pub allocated: u64,
}

impl Count {
    /// Part by part.
    #[must_use]
    pub fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            reads: join(self.reads, other.reads),
            writes: join(self.writes, other.writes),
            syncs: join(self.syncs, other.syncs),
            allocations: join(self.allocations, other.allocations),
            allocated: join(self.allocated, other.allocated),
        }
    }
}

/// The compiled library, and the files with the numbers.
#[derive(Debug)]
pub struct Counts(Preload);

impl Counts {
    /// Compiles the library; why that cannot be done here, if so.
    pub fn compile() -> Result<Self, String> {
        Preload::compile(include_str!("counts.c")).map(Self)
    }

    /// What a program must find in its environment to be counted as `name`.
    pub fn env(&self, name: &str) -> Vec<(String, String)> {
        let file = self.0.file(name).display().to_string();
        vec![self.0.env(), ("COUNTS".to_owned(), file)]
    }

    /// What all programs of this name have asked for until now.
    pub fn of(&self, name: &str) -> Count {
        // There is no file before the first of them.
        let bytes = fs::read(self.0.file(name)).unwrap_or_default();
        let (numbers, _) = bytes.as_chunks();
        let mut numbers = numbers.iter().map(|bytes| u64::from_ne_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or(0);
        Count {
            reads: next(),
            writes: next(),
            syncs: next(),
            allocations: next(),
            allocated: next(),
        }
    }
}
