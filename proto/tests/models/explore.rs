//! Visits every state of a model, nearest first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hasher};

/// Something with finitely many states.
pub(crate) trait Model: Debug {
    type State: Copy;
    /// What happened, for people.
    type Action: Copy + Debug;

    fn initial(&self) -> Self::State;

    /// All that can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Step<Self>>);

    /// The same number for states that differ only in the names of the nodes, and for no others.
    fn key(&self, state: &Self::State) -> u128;

    /// The promise that does not hold in this state, if there is one.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
}

/// One thing that can happen.
pub(crate) struct Step<M: Model + ?Sized> {
    pub(crate) action: M::Action,
    pub(crate) to: M::State,
    /// The promise that this step itself breaks.
    pub(crate) broken: Option<&'static str>,
}

/// What an exploration found.
pub(crate) enum Found {
    Nothing { states: usize },
    Broken { promise: &'static str, trace: Vec<String> },
}

/// Explores until a promise is broken or every state has been seen.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let first = model.initial();
    let mut parents = Parents::default();
    parents.insert(model.key(&first), model.key(&first));
    let (mut layer, mut next, mut steps) = (vec![first], Vec::new(), Vec::new());
    while !layer.is_empty() {
        for from in layer.drain(..) {
            model.steps(&from, &mut steps);
            for step in steps.drain(..) {
                let key = model.key(&step.to);
                let seen = match parents.entry(key) {
                    Entry::Occupied(_) => true,
                    Entry::Vacant(place) => {
                        place.insert(model.key(&from));
                        false
                    }
                };
                let broken = || if seen { None } else { model.broken(&step.to) };
                if let Some(promise) = step.broken.or_else(broken) {
                    let mut trace = trace(model, &parents, model.key(&from));
                    trace.push(format!("{:?}", step.action));
                    return Found::Broken { promise, trace };
                }
                if !seen {
                    next.push(step.to);
                }
            }
        }
        std::mem::swap(&mut layer, &mut next);
    }
    Found::Nothing { states: parents.len() }
}

/// What happened from the beginning to the state with this key.
fn trace<M: Model>(model: &M, parents: &Parents, end: u128) -> Vec<String> {
    let mut keys = vec![end];
    while let Some(parent) = keys.last().and_then(|key| parents.get(key)) {
        if keys.last() == Some(parent) {
            break;
        }
        keys.push(*parent);
    }
    let mut state = model.initial();
    let mut lines = Vec::new();
    for key in keys.into_iter().rev().skip(1) {
        let mut steps = Vec::new();
        model.steps(&state, &mut steps);
        let step = steps.into_iter().find(|step| model.key(&step.to) == key);
        let step = step.expect("a state is a step away from its parent");
        lines.push(format!("{:?}", step.action));
        state = step.to;
    }
    lines
}

type Parents = HashMap<u128, u128, BuildHasherDefault<Mix>>;

/// Mixes a key that is one number.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, value: u128) {
        let halves = value as u64 ^ ((value >> 64) as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let mixed = (self.0 ^ halves).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (mixed >> 32);
    }
}
