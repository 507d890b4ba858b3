//! How much of large files is in memory: however many of them a program moves at once, a few have
//! their turn, and the others wait. So a program that does nothing else stays below 64 MiB.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::source::Buffers;

/// Files that are sent at the same time: each keeps up to 20 MiB in memory.
const SENT_AT_ONCE: usize = 2;

/// Blocks that are fetched at the same time, of one file at most [`BLOCKS_OF_FILE`]: each takes up to
/// 4 MiB with what the network holds of the next one.
const BLOCKS_AT_ONCE: u32 = 12;
const BLOCKS_OF_FILE: u32 = 8;

const _: () = assert!(BLOCKS_OF_FILE <= BLOCKS_AT_ONCE);

/// Files that are read for their sums at the same time, each on a thread of its own.
const SCANS_AT_ONCE: usize = 3;

/// The room that one client has for large files.
pub(crate) struct Room {
    sent: Semaphore,
    fetched: Semaphore,
    scanned: Semaphore,
    buffers: Arc<Buffers>,
}

/// A turn, which lasts until it is dropped. There is always one: nobody closes a room.
type Turn<'a> = Option<SemaphorePermit<'a>>;

impl Room {
    /// The room of a client. Where its bandwidth is limited, one file is sent at a time: the fewest
    /// streams wait for each other then, and a node that gets nothing for long takes one for broken.
    pub(crate) fn new(limited: bool) -> Self {
        let sent = if limited { 1 } else { SENT_AT_ONCE };
        Self {
            sent: Semaphore::new(sent),
            fetched: Semaphore::new(BLOCKS_AT_ONCE as usize),
            scanned: Semaphore::new(SCANS_AT_ONCE),
            buffers: Arc::default(),
        }
    }

    /// Waits for a turn to send a file.
    pub(crate) async fn to_send(&self) -> Turn<'_> {
        self.sent.acquire().await.ok()
    }

    /// Waits for a turn to fetch this many blocks of a file.
    pub(crate) async fn to_fetch(&self, blocks: u64) -> Turn<'_> {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).min(BLOCKS_OF_FILE);
        self.fetched.acquire_many(blocks).await.ok()
    }

    /// Waits for a turn to read a file for its sums.
    pub(crate) async fn to_scan(&self) -> Turn<'_> {
        self.scanned.acquire().await.ok()
    }

    /// Where the blocks of files that are put have their memory.
    pub(crate) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_few_have_their_turn_and_the_next_one_waits() {
        let room = Room::new(false);
        let turns = [(); SENT_AT_ONCE].map(|()| room.to_send().now_or_never().unwrap());
        assert!(room.to_send().now_or_never().is_none());
        drop(turns);
        assert!(room.to_send().now_or_never().is_some());
        let limited = Room::new(true);
        let _turn = limited.to_send().now_or_never().unwrap();
        assert!(limited.to_send().now_or_never().is_none());
    }

    #[test]
    fn a_file_of_any_length_has_its_turn_and_short_ones_beside_it() {
        let room = Room::new(false);
        let large = room.to_fetch(u64::MAX).now_or_never().unwrap();
        let short = room.to_fetch(4).now_or_never().unwrap();
        assert!(room.to_fetch(1).now_or_never().is_none());
        drop(short);
        assert!(room.to_fetch(u64::MAX).now_or_never().is_none(), "one large one at a time");
        drop(large);
        assert!(room.to_fetch(u64::MAX).now_or_never().is_some());
    }
}
