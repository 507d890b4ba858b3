//! The commit round: one tag to four nodes, done at three acknowledgements.
//!
//! A second tag is never chosen. A message that may or may not have arrived is sent again,
//! the same; where the round cannot reach three nodes, what happened is unknown unless every
//! node refused. Once it is over only a round that is done goes on, for its fourth node.

use std::time::Duration;

use crate::placement::{NodeId, PerNode};
use crate::protocol::decide::QUORUM;
use crate::protocol::{NodeRef, Refused, T_OP};

/// How often one node is sent the same Commit before it counts as failed.
const ATTEMPTS: u8 = 3;

/// How a Commit ended on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It is durable there.
    Acked,
    /// It was refused and did not happen.
    Refused(Refused),
    /// No answer: it may have happened or not.
    NoAnswer,
    /// It was certainly not sent, or certainly not received.
    NotSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent { attempt: u8, maybe: bool },
    Waiting { attempt: u8, maybe: bool },
    Acked,
    Refused,
    Failed { maybe: bool },
}

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for more answers.
    Wait,
    /// Send the same Commit to this node again.
    Again(NodeId),
    /// This node's prepared data is gone: prepare there again, then [`CommitRound::resend`].
    Lost(NodeRef),
    /// The round is over.
    Ended(End),
}

/// How the round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Three nodes have it.
    Done,
    /// Every node refused: it did not and will not happen.
    Refused,
    /// It may take effect or not.
    Unknown,
}

/// The state of one round.
#[derive(Debug, Clone)]
pub struct CommitRound {
    nodes: PerNode<State>,
    started: Duration,
    end: Option<End>,
}

impl CommitRound {
    /// Starts a round that sends to all four nodes; `now` is any monotonic clock.
    pub fn start(now: Duration) -> Self {
        let sent = State::Sent { attempt: 1, maybe: false };
        Self { nodes: [sent; 4], started: now, end: None }
    }

    /// Takes a node's answer.
    pub fn answer(&mut self, node: NodeId, answer: CommitAnswer, now: Duration) -> Next {
        let (attempt, maybe) = match self.nodes[node.index()] {
            State::Sent { attempt, maybe } => (attempt, maybe),
            _ => return Next::Wait,
        };
        let state = &mut self.nodes[node.index()];
        let again = attempt < ATTEMPTS && self.end.is_none_or(|end| end == End::Done);
        match answer {
            CommitAnswer::Acked => *state = State::Acked,
            CommitAnswer::Refused(Refused::PrepareLost(other)) if again && self.end.is_none() => {
                *state = State::Waiting { attempt, maybe };
                return Next::Lost(other);
            }
            CommitAnswer::Refused(_) if maybe => *state = State::Failed { maybe },
            CommitAnswer::Refused(_) => *state = State::Refused,
            CommitAnswer::NoAnswer if again => {
                *state = State::Sent { attempt: attempt + 1, maybe: true };
                return Next::Again(node);
            }
            CommitAnswer::NoAnswer => *state = State::Failed { maybe: true },
            CommitAnswer::NotSent => *state = State::Failed { maybe },
        }
        self.look(now)
    }

    /// Gives up waiting: whatever is not acknowledged now is unknown.
    pub fn give_up(&mut self) -> End {
        *self.end.get_or_insert(End::Unknown)
    }

    /// Nodes that refused because of lost prepared data and must be sent the Commit again.
    /// They are taken to have been sent it.
    pub fn resend(&mut self) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for node in NodeId::ALL {
            if let State::Waiting { attempt, maybe } = self.nodes[node.index()] {
                let attempt = attempt + 1;
                self.nodes[node.index()] = State::Sent { attempt, maybe };
                nodes.push(node);
            }
        }
        nodes
    }

    /// Gives up on the nodes that wait for [`Self::resend`]: what they ask for cannot be done.
    pub fn abandon_waiting(&mut self, now: Duration) -> Next {
        for state in &mut self.nodes {
            if let State::Waiting { maybe, .. } = *state {
                *state = if maybe { State::Failed { maybe } } else { State::Refused };
            }
        }
        self.look(now)
    }

    /// Whether `node` has acknowledged.
    pub fn acked(&self, node: NodeId) -> bool {
        self.nodes[node.index()] == State::Acked
    }

    /// Whether the round ended with three acknowledgements in time.
    pub fn done(&self) -> bool {
        self.end == Some(End::Done)
    }

    fn count(&self, wanted: fn(&State) -> bool) -> usize {
        self.nodes.iter().filter(|state| wanted(state)).count()
    }

    fn look(&mut self, now: Duration) -> Next {
        if self.end.is_some() {
            return Next::Wait;
        }
        let acked = self.count(|state| *state == State::Acked);
        let open = self.count(|state| matches!(state, State::Sent { .. } | State::Waiting { .. }));
        let maybe = self.count(|state| matches!(state, State::Failed { maybe: true }));
        let late = now.saturating_sub(self.started) > T_OP;
        let end = match () {
            () if acked >= QUORUM && !late => End::Done,
            () if acked >= QUORUM || acked + open < QUORUM && acked + maybe > 0 => End::Unknown,
            () if open > 0 => return Next::Wait,
            () => End::Refused,
        };
        self.end = Some(end);
        Next::Ended(end)
    }
}

#[cfg(test)]
mod tests;
