//! Random identifiers.

use std::sync::atomic::{AtomicU32, Ordering};

use dfs_proto::manifest::UploadId;

/// Draws bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// The upload ids of one client: 8 bytes that it drew once, 4 that count, 4 random ones. So the
/// chunks of files that are put together lie together on the nodes, whose indexes are sorted, and
/// two copies of one process that a virtual machine made give different ids all the same.
pub(crate) struct UploadIds {
    front: [u8; 8],
    given: AtomicU32,
}

impl UploadIds {
    pub(crate) fn new() -> Self {
        Self { front: random(), given: AtomicU32::new(0) }
    }

    pub(crate) fn next(&self) -> UploadId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.front);
        id[8..12].copy_from_slice(&self.given.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id[12..].copy_from_slice(&random::<4>());
        UploadId::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_one_client_are_in_order_and_those_of_two_apart() {
        let (one, two) = (UploadIds::new(), UploadIds::new());
        let ids: Vec<_> = (0..1000).map(|_| *one.next().bytes()).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
        let other = *two.next().bytes();
        assert_ne!(ids[0][..8], other[..8]);
        assert_ne!(ids[0][12..], ids[1][12..], "but for once in four billion runs");
    }
}
