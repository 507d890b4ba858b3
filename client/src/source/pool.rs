//! Memory for blocks: what one has left the next one takes, of whichever file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// The memory for the blocks of all files that one client puts; there is none while it puts none.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Weak<Pool>>);

impl Buffers {
    /// The pool of those who have it now, or a new one.
    pub(super) fn pool(&self) -> Arc<Pool> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let pool = Arc::default();
            *shared = Arc::downgrade(&pool);
            pool
        })
    }
}

/// Memory for blocks, and that which no block is in just now.
#[derive(Default)]
pub(super) struct Pool {
    /// Held for a push or a pop.
    unused: Mutex<Vec<Vec<u8>>>,
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

/// Memory with a block; it goes back when nobody has the block any more.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pool: Arc<Pool>,
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
        let buffers = Buffers::default();
        let pool = buffers.pool();
        let mut buffer = pool.buffer();
        buffer.bytes.extend(b"first");
        let place = buffer.bytes.as_ptr();
        let block = Bytes::from(buffer);
        let part = block.slice(1..3);
        drop(block);
        assert_eq!(pool.unused().len(), 0, "a part of it is still read");
        assert_eq!(part, "ir");
        drop(part);
        assert_eq!(buffers.pool().buffer().bytes.as_ptr(), place);
    }

    #[test]
    fn memory_goes_when_no_file_is_put() {
        let buffers = Buffers::default();
        let pool = buffers.pool();
        pool.buffer().bytes.extend(b"block");
        let other = buffers.pool();
        drop(pool);
        assert_eq!(buffers.pool().unused().len(), 1, "another file is put");
        drop(other);
        assert_eq!(buffers.pool().unused().len(), 0);
    }
}
