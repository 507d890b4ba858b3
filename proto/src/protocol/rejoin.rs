//! When a node whose disk was replaced may serve again.
//!
//! Its old disk had answered: it had acknowledged Commits and prepared data that are gone. So
//! it first waits until no running operation can rest on those answers. Then it reads out each
//! of the others: the largest version of every path and every fence, which
//! [`crate::protocol::row::Row::adopt`] and `adopt_fence` take. A peer records the new
//! incarnation durably before it reads out its rows, so that whatever it takes later cannot
//! rest on the old disk unnoticed.
//!
//! This node in turn records the peers' incarnations.
//!
//! A reading counts only as a whole, from one life of a peer that was serving all the while.
//! Nothing is remembered over a restart of the node: it begins again, which is safe.

use std::time::Duration;

use crate::manifest::Incarnation;
use crate::placement::{NodeId, PerNode};
use crate::protocol::T_OP;

/// How long a node waits before it reads: longer than any operation can rest on an answer of
/// its old disk, with a margin for clocks that run at different speeds.
pub const QUIET: Duration = T_OP.saturating_add(Duration::from_secs(5));

/// Pause before a peer is asked again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// What a peer says of itself with every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The life of its disk.
    pub incarnation: Incarnation,
    /// Whether it serves, and is not rejoining itself.
    pub serving: bool,
    /// The incarnation of this node that it has durably recorded.
    pub remembers: Option<Incarnation>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A peer was met.
    Met(NodeId, Peer),
    /// A page of a peer's rows was adopted and is durable here.
    Adopted {
        /// Whose.
        from: NodeId,
        /// What it said of itself with this page.
        peer: Peer,
        /// Whether it was the last page.
        last: bool,
    },
    /// A peer did not answer, or what it gave could not be adopted.
    Failed(NodeId),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Come back with [`Event::Tick`] after this long. The latest one counts.
    Wake(Duration),
    /// Tell this peer the new incarnation, for it to record, and record its own: what rests on
    /// a former disk of a peer must be refused here as well.
    Meet(NodeId),
    /// Read a page of this peer's rows and adopt it: the first, or the one after the last read.
    Read {
        /// Whose.
        from: NodeId,
        /// Whether to begin at the beginning.
        first: bool,
    },
    /// All is adopted: record that this node serves, then serve.
    Serve,
}

/// Why a peer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It has not been asked yet, or has not answered yet.
    #[error("it has not answered yet")]
    Pending,
    /// It could not be reached, or failed.
    #[error("it does not answer")]
    Failed,
    /// Its disk was replaced as well.
    #[error("it is rejoining itself")]
    Rejoining,
    /// It has not recorded this node's new incarnation.
    #[error("it does not know this node's new disk")]
    NotRemembered,
    /// Its disk was replaced while it was read.
    #[error("its disk was replaced meanwhile")]
    Replaced,
    /// It is being read.
    #[error("it is being read")]
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Itself, or declared lost.
    NotNeeded,
    /// To be asked at this time.
    Resting {
        until: Duration,
        why: Obstacle,
    },
    Meeting,
    Reading {
        incarnation: Incarnation,
    },
    Done {
        incarnation: Incarnation,
    },
}

/// One return of a node.
#[derive(Debug, Clone)]
pub struct Rejoin {
    incarnation: Incarnation,
    peers: PerNode<State>,
    serving: bool,
}

impl Rejoin {
    /// Starts for the node at `own` with its new incarnation; `without` is a peer whose disk
    /// was declared lost for good as well. `now` is the monotonic clock of this process.
    pub fn start(
        own: NodeId,
        incarnation: Incarnation,
        without: Option<NodeId>,
        now: Duration,
    ) -> (Self, Vec<Effect>) {
        let quiet = State::Resting { until: now.saturating_add(QUIET), why: Obstacle::Pending };
        let peers = NodeId::ALL.map(|id| match id == own || Some(id) == without {
            true => State::NotNeeded,
            false => quiet,
        });
        (Self { incarnation, peers, serving: false }, vec![Effect::Wake(QUIET)])
    }

    /// Takes an event. Each peer has one request under way at most.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.serving {
            return effects;
        }
        match event {
            Event::Tick => {}
            Event::Met(id, peer) => self.met(id, peer, now, &mut effects),
            Event::Adopted { from, peer, last } => {
                self.adopted(from, peer, last, now, &mut effects);
            }
            Event::Failed(id) => {
                if matches!(self.peers[id.index()], State::Meeting | State::Reading { .. }) {
                    self.rest(id, Obstacle::Failed, now);
                }
            }
        }
        self.look(now, &mut effects);
        effects
    }

    /// The peers that are waited for, and why.
    pub fn waiting_for(&self) -> Vec<(NodeId, Obstacle)> {
        let obstacle = |id: NodeId| match self.peers[id.index()] {
            State::NotNeeded | State::Done { .. } => None,
            State::Resting { why, .. } => Some((id, why)),
            State::Meeting => Some((id, Obstacle::Pending)),
            State::Reading { .. } => Some((id, Obstacle::Reading)),
        };
        NodeId::ALL.into_iter().filter_map(obstacle).collect()
    }

    /// Whether all is adopted.
    pub fn serving(&self) -> bool {
        self.serving
    }

    fn met(&mut self, id: NodeId, peer: Peer, now: Duration, effects: &mut Vec<Effect>) {
        match self.peers[id.index()] {
            State::Meeting => match self.obstacle(peer) {
                Some(why) => self.rest(id, why, now),
                None => {
                    let incarnation = peer.incarnation;
                    self.peers[id.index()] = State::Reading { incarnation };
                    effects.push(Effect::Read { from: id, first: true });
                }
            },
            // Heard of by chance: what was read from its former disk does not count.
            State::Done { incarnation } if incarnation != peer.incarnation => {
                self.rest(id, Obstacle::Replaced, now);
            }
            _ => {}
        }
    }

    fn adopted(
        &mut self,
        id: NodeId,
        peer: Peer,
        last: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let State::Reading { incarnation } = self.peers[id.index()] else {
            return;
        };
        match self.obstacle(peer) {
            _ if peer.incarnation != incarnation => self.rest(id, Obstacle::Replaced, now),
            Some(why) => self.rest(id, why, now),
            None if last => self.peers[id.index()] = State::Done { incarnation },
            None => effects.push(Effect::Read { from: id, first: false }),
        }
    }

    fn obstacle(&self, peer: Peer) -> Option<Obstacle> {
        match () {
            () if !peer.serving => Some(Obstacle::Rejoining),
            () if peer.remembers != Some(self.incarnation) => Some(Obstacle::NotRemembered),
            () => None,
        }
    }

    fn rest(&mut self, id: NodeId, why: Obstacle, now: Duration) {
        self.peers[id.index()] = State::Resting { until: now.saturating_add(PAUSE), why };
    }

    /// Asks whose time has come, and serves when nobody is missing.
    fn look(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let mut next = None;
        for id in NodeId::ALL {
            let State::Resting { until, .. } = self.peers[id.index()] else {
                continue;
            };
            if until > now {
                next = Some(next.map_or(until, |next: Duration| next.min(until)));
            } else {
                self.peers[id.index()] = State::Meeting;
                effects.push(Effect::Meet(id));
            }
        }
        effects.extend(next.map(|next| Effect::Wake(next.saturating_sub(now))));
        let over = |state: &State| matches!(state, State::NotNeeded | State::Done { .. });
        if self.peers.iter().all(over) {
            self.serving = true;
            effects.push(Effect::Serve);
        }
    }
}

#[cfg(test)]
mod tests;
