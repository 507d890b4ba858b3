//! Ports for the nodes of a cluster.
//!
//! They lie below the ephemeral range, so that no outgoing connection takes a node's port while
//! the node is down. Runs side by side keep out of each other's way by locked files.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use crate::seed::Rng;

/// The admin ports of a development cluster are this far above the others.
const ADMIN_OFFSET: u16 = 1000;

/// Four ports in a row and the four admin ports above them, until dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    base: u16,
    /// Locked: no other test process takes these ports.
    _lock: File,
}

impl Ports {
    /// Finds ports on which nothing listens and that no other test uses.
    pub(crate) fn reserve() -> Self {
        let bases = bases();
        let mut rng = Rng::new(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
        for _ in 0..1000 {
            let pick = rng.below(bases.len() as u64);
            let base = bases[usize::try_from(pick).expect("an index")];
            if let Some(lock) = lock(base)
                && ports_of(base).all(is_free)
            {
                return Self { base, _lock: lock };
            }
        }
        panic!("no free ports between {bases:?}");
    }

    /// The first of the four.
    pub(crate) fn base(&self) -> u16 {
        self.base
    }

    /// Where the node at `position` (1..4) listens.
    pub(crate) fn address(&self, position: usize) -> SocketAddr {
        let step = u16::try_from(position - 1).expect("1..4");
        (Ipv4Addr::LOCALHOST, self.base + step).into()
    }

    /// Where its metrics and status page are.
    pub(crate) fn admin_address(&self, position: usize) -> SocketAddr {
        let address = self.address(position);
        (address.ip(), address.port() + ADMIN_OFFSET).into()
    }
}

fn ports_of(base: u16) -> impl Iterator<Item = u16> {
    [base, base + ADMIN_OFFSET].into_iter().flat_map(|first| first..first + 4)
}

/// Every base whose eight ports belong to it alone.
fn bases() -> Vec<u16> {
    let Range { start, end } = usable();
    let window = ADMIN_OFFSET * 2;
    let windows = (start..end - window + 1).step_by(window.into());
    let bases = windows.flat_map(|first| (first..first + ADMIN_OFFSET).step_by(4));
    bases.collect()
}

/// The ports below the ephemeral range, or above it where there are too few below.
fn usable() -> Range<u16> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut limits = text.split_whitespace().map(str::parse::<u16>);
    match (limits.next(), limits.next()) {
        (Some(Ok(first)), Some(Ok(_))) if first >= 16_000 => 10_000..first,
        (Some(Ok(_)), Some(Ok(last))) if last < 60_000 => last + 1..65_000,
        _ => 10_000..32_000,
    }
}

fn lock(base: u16) -> Option<File> {
    let dir = std::env::temp_dir().join("dfs-test-ports");
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let file = File::create(dir.join(base.to_string())).expect("a lock file");
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("cannot lock a file: {error}"),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_belongs_to_two_bases() {
        let mut ports: Vec<u16> = bases().into_iter().flat_map(ports_of).collect();
        let count = ports.len();
        assert!(count >= 8 * 100, "room for many clusters");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }

    #[test]
    fn clusters_side_by_side_have_ports_of_their_own() {
        let reserved: Vec<Ports> = (0..50).map(|_| Ports::reserve()).collect();
        let mut bases: Vec<u16> = reserved.iter().map(Ports::base).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), 50);
    }
}
