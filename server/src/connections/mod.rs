//! The connections of a node: how many there may be, whose they are, and which one goes when
//! there is one too many.
//!
//! Never one on which a call has passed the gate. Of the others first one that has not asked
//! for anything yet, then the oldest.

pub(crate) mod door;
pub(crate) mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::config::LimitSettings;
use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;

/// Connections that may wait for a place when all are taken by callers that have logged in.
const MAX_WAITING: usize = 512;
/// Longest such wait: a login's deadline in a client.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// TLS is being agreed on.
    Handshake,
    /// Nothing was asked that may be asked.
    Silent,
    /// Something was asked that everybody may ask.
    Asked,
    /// A call has passed the gate.
    Admitted,
}

/// Who is at the other end of a connection, and how the connection is known here. Every request
/// carries it.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Known>);

struct Known {
    /// Whose share of the places it takes.
    address: IpAddr,
    since: Instant,
    stage: AtomicU8,
    /// Calls on it that run and that everybody may make.
    open_calls: AtomicUsize,
    closed: AtomicBool,
    /// Whoever reads or writes.
    waker: AtomicWaker,
}

/// A connection's place. Dropped, it is free.
pub(crate) struct Place {
    id: u64,
    caller: Caller,
    all: Arc<Connections>,
}

/// All connections.
pub(crate) struct Connections {
    limits: LimitSettings,
    /// Held for access to the table only.
    table: Mutex<Table>,
    freed: Notify,
    waiting: Semaphore,
    patience: Duration,
    /// Connections that went for others.
    displaced: AtomicU64,
    /// Connections for which there was no place.
    refused: AtomicU64,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Oldest first.
    by_age: BTreeMap<u64, Caller>,
}

impl Connections {
    pub(crate) fn new(limits: LimitSettings) -> Arc<Self> {
        Self::with_patience(limits, MAX_WAIT)
    }

    fn with_patience(limits: LimitSettings, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            patience,
            limits,
            table: Mutex::default(),
            freed: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            displaced: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A place for a new connection, now or when one becomes free. `None`: there is none.
    pub(crate) async fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = share(address);
        if let Some(place) = self.take(address) {
            return Some(place);
        }
        let waited = async {
            let _waiting = self.waiting.try_acquire().ok()?;
            loop {
                let freed = self.freed.notified();
                if let Some(place) = self.take(address) {
                    return Some(place);
                }
                freed.await;
            }
        };
        let place = timeout(self.patience, waited).await.ok().flatten();
        if place.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// A place, if need be that of another connection.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut table = self.table();
        let all = table.by_age.values();
        let of_address = all.clone().filter(|caller| caller.0.address == address).count();
        let shaking = all.filter(|caller| caller.stage() == Stage::Handshake as u8).count();
        let victim = if of_address >= self.limits.connections_per_address {
            limit_hit(Limit::ConnectionsOfAddress);
            Some(table.least(|caller| caller.0.address == address)?)
        } else if table.by_age.len() >= self.limits.connections {
            limit_hit(Limit::Connections);
            Some(table.least(|_| true)?)
        } else if shaking >= self.limits.handshakes {
            limit_hit(Limit::Handshakes);
            table.least(|caller| caller.stage() == Stage::Handshake as u8)
        } else {
            None
        };
        if let Some(caller) = victim.and_then(|victim| table.by_age.remove(&victim)) {
            caller.close();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        let id = table.next;
        table.next += 1;
        let caller = Caller::new(address);
        table.by_age.insert(id, caller.clone());
        Some(Place { id, caller, all: Arc::clone(self) })
    }

    /// Closes connections that have had their time to ask for something.
    pub(crate) fn sweep(&self) {
        let overdue = |caller: &Caller| {
            let silent = caller.stage() <= Stage::Silent as u8;
            silent && caller.0.since.elapsed() > self.limits.first_call
        };
        let table = self.table();
        table.by_age.values().filter(|caller| overdue(caller)).for_each(Caller::close);
    }

    /// How many connections went for others, and for how many there was no place, since the
    /// start.
    pub(crate) fn turned_away(&self) -> (u64, u64) {
        (self.displaced.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Of some connections the one that goes first, if any may.
    fn least(&self, of: impl Fn(&Caller) -> bool) -> Option<u64> {
        let rank = |stage: u8| stage.max(Stage::Silent as u8);
        let candidates = self.by_age.iter().filter(|(_, caller)| of(caller));
        let candidates = candidates.map(|(id, caller)| (rank(caller.stage()), *id));
        let least = candidates.min();
        least.filter(|(rank, _)| *rank < Stage::Admitted as u8).map(|(_, id)| id)
    }
}

impl Caller {
    fn new(address: IpAddr) -> Self {
        Self(Arc::new(Known {
            address,
            since: Instant::now(),
            stage: AtomicU8::new(Stage::Handshake as u8),
            open_calls: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }))
    }

    /// Whose share of a limit it takes: its address, of IPv6 its network.
    pub(crate) fn address(&self) -> IpAddr {
        self.0.address
    }

    /// Notes that something was asked that everybody may ask.
    pub(crate) fn asked(&self) {
        self.advance(Stage::Asked);
    }

    /// Notes that a call has passed the gate.
    pub(crate) fn admitted(&self) {
        self.advance(Stage::Admitted);
    }

    /// Counts a call that everybody may make; `None`: there are `most` already.
    pub(crate) fn open_call(&self, most: usize) -> Option<OpenCall> {
        let before = self.0.open_calls.fetch_add(1, Ordering::Relaxed);
        let call = OpenCall(self.clone());
        (before < most).then_some(call)
    }

    fn stage(&self) -> u8 {
        self.0.stage.load(Ordering::Relaxed)
    }

    fn advance(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    /// Closes the connection, with all calls on it.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

/// A call that is being answered.
pub(crate) struct OpenCall(Caller);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().by_age.remove(&self.id);
        self.all.freed.notify_waiters();
    }
}

/// Addresses that share a limit: who has one address of a network of IPv6 has all of them.
pub(crate) fn share(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests;
