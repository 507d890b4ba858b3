//! The content of a GET in memory, up to a limit.

use std::io::{Error, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// What has come; its clones share it.
#[derive(Clone)]
pub(crate) struct Memory {
    limit: u64,
    /// A std one: nobody waits while he holds it.
    content: Arc<Mutex<BytesMut>>,
}

impl Memory {
    /// Takes at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, content: Arc::default() }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Holds a whole file, which is not longer than the limit.
    pub(crate) fn hold<'a>(&self, pieces: impl Iterator<Item = &'a Bytes>) {
        let mut content = self.lock();
        pieces.for_each(|piece| content.extend_from_slice(piece));
    }

    /// Takes the content out.
    pub(crate) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.lock()).freeze()
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut content = self.lock();
        if (content.len() + bytes.len()) as u64 > self.limit {
            return Err(Error::other(format!("more than {} bytes came", self.limit)));
        }
        content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_the_limit_allows_and_not_a_byte_more() {
        let memory = Memory::new(5);
        memory.clone().write_all(b"hel").unwrap();
        memory.clone().write_all(b"lo").unwrap();
        let refused = memory.clone().write_all(b"!").unwrap_err();
        assert_eq!(refused.to_string(), "more than 5 bytes came");
        assert_eq!(memory.take(), "hello");
    }
}
