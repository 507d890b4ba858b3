//! The machine's cores, shared by the tests of one run.
//!
//! A cluster with its clients keeps a core busy. More clusters at once than cores, and
//! deadlines that mean something would begin to mean nothing.

use std::sync::{Condvar, Mutex, PoisonError};

/// Slots of the machine: one per core, at least two, at most eight.
static MACHINE: Machine = Machine {
    queue: Mutex::new(Queue { taken: 0, next_ticket: 0, serving: 0 }),
    changed: Condvar::new(),
};

struct Machine {
    /// A std mutex is enough: it is held for a few instructions.
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// First come, first served: a test that wants the whole machine is not passed by.
struct Queue {
    taken: usize,
    next_ticket: u64,
    serving: u64,
}

fn slots() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

/// A part of the machine, given back when dropped.
#[derive(Debug)]
pub struct Share(usize);

impl Share {
    /// Waits for one slot.
    pub fn one() -> Self {
        Self::take(1)
    }

    /// Waits for the whole machine.
    pub fn all() -> Self {
        Self::take(slots())
    }

    fn take(count: usize) -> Self {
        let mut queue = MACHINE.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        while queue.serving != ticket || queue.taken + count > slots() {
            queue = MACHINE.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.serving += 1;
        queue.taken += count;
        MACHINE.changed.notify_all();
        Self(count)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut queue = MACHINE.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.taken -= self.0;
        MACHINE.changed.notify_all();
    }
}
