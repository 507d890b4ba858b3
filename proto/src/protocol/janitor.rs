//! An abandoned upload: chunks were prepared and nobody came back for them.
//!
//! Its client may still be alive and about to commit, so age alone decides nothing: all four
//! nodes fence the upload first. If one of them has it committed, it is finished by writing the
//! version back to the others; if all four fenced it, nobody committed it nor can, and its data
//! goes. Where a node does not answer everything stays as it is.

use crate::manifest::{Incarnation, Version};
use crate::placement::{NodeId, PerNode};
use crate::protocol::NodeRef;
use crate::protocol::commit::CommitAnswer;
use crate::protocol::row::FenceAnswer;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node, at this incarnation, answered a fence.
    Fence(NodeId, Incarnation, FenceAnswer),
    /// A write-back was answered.
    WriteBack(NodeId, CommitAnswer),
    /// A node has dropped the upload, or has refused to.
    Drop(NodeId, bool),
    /// A node did not answer, or refused.
    Failed(NodeId),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask this node to fence the upload.
    Fence(NodeId),
    /// Send this node the version that the upload is.
    WriteBack {
        /// Whom to send it to.
        to: NodeId,
        /// The version.
        version: Version,
        /// Who has it.
        source: NodeRef,
    },
    /// Have this node drop the upload: all four fenced it, under these incarnations.
    Drop(NodeId, PerNode<Incarnation>),
    /// It is over.
    Finish(Outcome),
}

/// What became of the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its data is gone.
    Dropped,
    /// It had been committed, and all nodes know the version now.
    Committed,
    /// Some node did not answer: try again later.
    Unfinished,
    /// All answered, and one would not do its part: everything else is done.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fencing,
    Spreading,
    Dropping,
    Over,
}

/// One abandoned upload.
#[derive(Debug, Clone)]
pub struct Janitor {
    step: Step,
    due: PerNode<bool>,
    fenced: PerNode<Option<Incarnation>>,
    committed: Option<(Version, NodeRef)>,
    failed: bool,
    refused: bool,
}

impl Janitor {
    /// Starts by fencing the upload on all four nodes.
    pub fn start() -> (Self, Vec<Effect>) {
        let janitor = Self {
            step: Step::Fencing,
            due: [true; 4],
            fenced: [None; 4],
            committed: None,
            failed: false,
            refused: false,
        };
        (janitor, NodeId::ALL.map(Effect::Fence).to_vec())
    }

    /// Takes an event. An answer that is not due is ignored.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let (Event::Fence(id, ..)
        | Event::WriteBack(id, _)
        | Event::Drop(id, _)
        | Event::Failed(id)) = event;
        if !self.due[id.index()] || self.step == Step::Over {
            return Vec::new();
        }
        match (self.step, event) {
            (_, Event::Failed(_)) => self.failed = true,
            (Step::Fencing, Event::Fence(_, incarnation, answer)) => match answer {
                FenceAnswer::Fenced => self.fenced[id.index()] = Some(incarnation),
                FenceAnswer::Committed(record) => {
                    let source = NodeRef { node: id, incarnation };
                    self.committed.get_or_insert((record.version, source));
                }
            },
            (Step::Spreading, Event::WriteBack(_, answer)) => match answer {
                CommitAnswer::Acked => {}
                CommitAnswer::Refused(_) => self.refused = true,
                CommitAnswer::NoAnswer | CommitAnswer::NotSent => self.failed = true,
            },
            (Step::Dropping, Event::Drop(_, dropped)) => self.refused |= !dropped,
            _ => return Vec::new(),
        }
        self.due[id.index()] = false;
        if self.due.contains(&true) { Vec::new() } else { self.advance() }
    }

    fn advance(&mut self) -> Vec<Effect> {
        match (self.step, self.committed.clone()) {
            (Step::Fencing, Some((version, source))) => self.spread(&version, source),
            (Step::Fencing, None) => match self.fenced {
                [Some(n1), Some(n2), Some(n3), Some(n4)] => {
                    self.step = Step::Dropping;
                    self.due = [true; 4];
                    NodeId::ALL.map(|id| Effect::Drop(id, [n1, n2, n3, n4])).to_vec()
                }
                _ => self.finish(Outcome::Unfinished),
            },
            (_, Some(_)) => self.finish(Outcome::Committed),
            (_, None) => self.finish(Outcome::Dropped),
        }
    }

    /// Tells those who fenced the upload that it is a version: that ends their fence.
    fn spread(&mut self, version: &Version, source: NodeRef) -> Vec<Effect> {
        self.step = Step::Spreading;
        self.due = self.fenced.map(|fenced| fenced.is_some());
        let to = NodeId::ALL.into_iter().filter(|id| self.due[id.index()]);
        let effects: Vec<Effect> =
            to.map(|to| Effect::WriteBack { to, version: version.clone(), source }).collect();
        if effects.is_empty() { self.finish(Outcome::Committed) } else { effects }
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.step = Step::Over;
        let outcome = match (self.failed, self.refused) {
            (true, _) => Outcome::Unfinished,
            (false, true) => Outcome::Refused,
            (false, false) => outcome,
        };
        vec![Effect::Finish(outcome)]
    }
}

#[cfg(test)]
mod tests;
