//! What clients did to one path and saw of it: does one order of operations explain it all?

use std::collections::BTreeSet;

use dfs_proto::manifest::UploadId;

/// What an operation did or saw: the upload that is the path's content, or none.
type Value = Option<UploadId>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Write(Value),
    Read(Value),
    /// It made no difference, or nothing is known of it.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    act: Act,
    begin: u64,
    /// Before which it certainly took place; `None`: it may still, or never.
    end: Option<u64>,
}

/// The operations on one path.
#[derive(Debug, Default)]
pub(crate) struct History {
    operations: Vec<Operation>,
    time: u64,
}

impl History {
    /// An operation begins; a write may take place from now on.
    pub(crate) fn begin(&mut self, write: Option<Value>) -> usize {
        self.time += 1;
        let act = write.map_or(Act::Nothing, Act::Write);
        self.operations.push(Operation { act, begin: self.time, end: None });
        self.operations.len() - 1
    }

    /// A write has taken place.
    pub(crate) fn written(&mut self, operation: usize) {
        self.time += 1;
        self.operations[operation].end = Some(self.time);
    }

    /// A write has not taken place and never will.
    pub(crate) fn never(&mut self, operation: usize) {
        self.operations[operation].act = Act::Nothing;
    }

    /// This was seen.
    pub(crate) fn seen(&mut self, operation: usize, value: Value) {
        self.time += 1;
        self.operations[operation].act = Act::Read(value);
        self.operations[operation].end = Some(self.time);
    }

    /// Looks for an order in which every read sees the latest write before it, no operation
    /// comes before one that had ended when it began, and those under way may be left out.
    pub(crate) fn is_linearizable(&self) -> bool {
        let operations: Vec<Operation> =
            self.operations.iter().filter(|op| op.act != Act::Nothing).copied().collect();
        assert!(operations.len() < 64, "a mask of 64 bits is enough");
        search(&operations, 0, None, &mut BTreeSet::new())
    }
}

/// Wing and Gong's search; `dead` are the states that lead nowhere.
fn search(ops: &[Operation], done: u64, value: Value, dead: &mut BTreeSet<(u64, Value)>) -> bool {
    let left = || ops.iter().enumerate().filter(|(place, _)| done & (1 << place) == 0);
    // Whatever begins after the earliest end comes later.
    let Some(limit) = left().filter_map(|(_, op)| op.end).min() else {
        return true;
    };
    if !dead.insert((done, value)) {
        return false;
    }
    left().filter(|(_, op)| op.begin < limit).any(|(place, op)| {
        let done = done | 1 << place;
        match op.act {
            Act::Write(written) => search(ops, done, written, dead),
            Act::Read(seen) => seen == value && search(ops, done, value, dead),
            Act::Nothing => false,
        }
    })
}

#[test]
fn finds_an_order_or_none() {
    let [a, b] = [1, 2].map(|n| Some(UploadId::new([n; 16])));
    let mut history = History::default();
    let write_a = history.begin(Some(a));
    history.written(write_a);
    let write_b = history.begin(Some(b));
    for value in [a, b] {
        let read = history.begin(None);
        history.seen(read, value);
    }
    assert!(history.is_linearizable(), "the second write is under way");
    let read = history.begin(None);
    history.seen(read, a);
    assert!(!history.is_linearizable(), "a, b, a");
    history.never(write_b);
    assert!(!history.is_linearizable(), "b was never written");
}
