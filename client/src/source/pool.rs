//! Memory for the blocks of one file: what one block has left the next one takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Memory that no block is in just now.
#[derive(Default)]
pub(super) struct Pool {
    /// Held for a push or a pop.
    unused: Mutex<Vec<Vec<u8>>>,
}

/// Memory with a block; it goes back when nobody has the block any more.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Pool {
    /// Memory whose content does not matter.
    pub(super) fn buffer(self: &Arc<Self>) -> Buffer {
        let bytes = self.unused().pop().unwrap_or_default();
        Buffer { bytes, pool: Arc::clone(self) }
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.unused().push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_the_last_one_has_done_with_it() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.buffer();
        buffer.bytes.extend(b"first");
        let place = buffer.bytes.as_ptr();
        let block = Bytes::from(buffer);
        let part = block.slice(1..3);
        drop(block);
        assert_ne!(pool.buffer().bytes.as_ptr(), place, "a part of it is still read");
        assert_eq!(part, "ir");
        drop(part);
        let places = [pool.buffer(), pool.buffer()].map(|buffer| buffer.bytes.as_ptr());
        assert!(places.contains(&place));
    }
}
