//! Reading a local file: ahead of the digest in the first pass, each block for both nodes at once
//! in the second.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::pool::{Buffer, Pool};
use super::{all_blocks, memory_range, place};
use crate::error::Cause;

/// Blocks of a chunk that are kept for its other node. One that is further behind reads for
/// itself: no node waits for another.
const RECENT: usize = 2;

/// An open file.
pub(crate) struct Local {
    file: File,
    /// Of each chunk the blocks that one node's stream has read and the other's has not yet. Held
    /// while a block is read: both want the same one.
    recent: [Mutex<VecDeque<(u64, Bytes)>>; 4],
    pool: Arc<Pool>,
}

impl Local {
    pub(super) fn new(file: File, pool: Arc<Pool>) -> Self {
        Self { file, recent: Default::default(), pool }
    }

    pub(super) fn length(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The first `length` bytes, or as many as there are.
    pub(super) fn front(&self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut front = Vec::new();
        read_up_to(&self.file, &mut front, length, 0)?;
        Ok(front)
    }

    /// Reads the whole file on a thread of its own, a block ahead of `take`. False where it is not,
    /// or at the end not any more, of this size.
    pub(super) fn scan(
        &self,
        size: u64,
        mut take: impl FnMut(ChunkId, &[u8], Crc32c),
    ) -> std::io::Result<bool> {
        type Read = std::io::Result<(ChunkId, Buffer, Crc32c)>;
        let (full, blocks) = sync_channel::<Read>(0);
        let read = move || {
            for (chunk, range) in all_blocks(size) {
                let mut buffer = self.pool.buffer();
                let length = memory_range(range.clone()).len();
                let found = read_up_to(&self.file, &mut buffer.bytes, length, range.start);
                let block = found.map(|()| {
                    let sum = Crc32c::of(&buffer.bytes);
                    (chunk, buffer, sum)
                });
                if full.send(block).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new().name("read-ahead".into()).spawn_scoped(scope, read)?;
            for (block, (_, expected)) in blocks.into_iter().zip(all_blocks(size)) {
                let (chunk, block, sum) = block?;
                if block.bytes.len() as u64 != expected.end - expected.start {
                    return Ok(false);
                }
                take(chunk, &block.bytes, sum);
            }
            Ok(self.length()? == size)
        })
    }

    /// Reads a block of a chunk of a file of `size` bytes and checks it, or takes what the other
    /// node's stream has read.
    pub(super) fn block(
        &self,
        chunk: ChunkId,
        index: u64,
        size: u64,
        expected: Crc32c,
    ) -> Result<Bytes, Cause> {
        let recent = &self.recent[chunk.index()];
        let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(other, _)| *other == index)
            && let Some((_, block)) = recent.remove(at)
        {
            return Ok(block);
        }
        let unreadable = |error: std::io::Error| Cause::SourceUnreadable(error.to_string());
        let place = place(size, chunk, index);
        let (length, mut buffer) = (memory_range(place.clone()).len(), self.pool.buffer());
        read_up_to(&self.file, &mut buffer.bytes, length, place.start).map_err(unreadable)?;
        // Whichever chunk ends last: a file that has grown by then is not what was summed up.
        let last = place.end == chunk.range(size).end;
        let same = buffer.bytes.len() == length && Crc32c::of(&buffer.bytes) == expected;
        if !same || last && self.length().map_err(unreadable)? != size {
            return Err(Cause::SourceChanged);
        }
        let block = Bytes::from(buffer);
        recent.push_back((index, block.clone()));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        Ok(block)
    }
}

/// Fills `buffer` with `length` bytes from `offset` on, fewer only at the end of the file. Nobody has
/// to fill it with zeros first.
fn read_up_to(
    file: &File,
    buffer: &mut Vec<u8>,
    length: usize,
    offset: u64,
) -> std::io::Result<()> {
    buffer.clear();
    buffer.reserve_exact(length);
    while buffer.len() < length {
        let at = offset + buffer.len() as u64;
        match pread(file, spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may have been room for more than was asked for.
    buffer.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::Source;
    use crate::source::tests::{content, in_file, remote};

    #[test]
    fn what_was_read_for_one_node_is_there_for_the_other() {
        let (_file, source) = in_file(&content(24 << 20));
        let (source, sums) = source.scan(&remote(), Path::new("local"), &|_| {}).unwrap();
        let Source::File(local) = source else { panic!("it is a file") };
        let read = |index: u64| {
            let expected = sums.blocks[1][usize::try_from(index).unwrap()];
            local.block(ChunkId::C2, index, sums.size, expected).unwrap()
        };
        let first = read(0);
        assert_eq!(read(0).as_ptr(), first.as_ptr());
        assert_ne!(read(0).as_ptr(), first.as_ptr(), "both have had it");
        let ahead: Vec<Bytes> = (1..6).map(read).collect();
        assert_ne!(read(1).as_ptr(), ahead[0].as_ptr(), "too far behind");
        assert_eq!(read(5).as_ptr(), ahead[4].as_ptr());
        let kept = local.recent.iter().map(|recent| recent.lock().unwrap().len());
        assert!(kept.max() <= Some(RECENT));
    }
}
