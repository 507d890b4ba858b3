//! Bringing a node with a new disk back: carries the messages of
//! [`dfs_proto::protocol::rejoin`]. When it is over the node may serve; its chunks are copied
//! by the next pass.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::rejoin::{Effect, Event, Peer, Rejoin};
use dfs_proto::wire::pb;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Healer;
use crate::node::NodeError;
use crate::node::known::Meeting;
use crate::peers::{PeerError, RecordPage, RecordsQuery};

/// How far one node has been read out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    fences: bool,
    after: Option<pb::RecordKey>,
}

/// Why another node was not met, or a page of it could not be taken over.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("{0}")]
    Peer(#[from] PeerError),
    #[error("its disk is not the one remembered ({0:?})")]
    Stale(Meeting),
    #[error("{0}")]
    Node(#[from] NodeError),
}

type Answer<'a> = Pin<Box<dyn Future<Output = (Event, Option<Place>)> + Send + 'a>>;

impl Healer {
    /// Waits and reads the others out until this node may serve. Never gives up: a node that
    /// is missing is waited for.
    pub(crate) async fn rejoin(&self, without: Option<NodeId>) {
        let own = self.node.identity();
        let started = Instant::now();
        let now = || started.elapsed();
        let (mut rejoin, mut effects) = Rejoin::start(own.node, own.incarnation, without, now());
        let mut places: PerNode<Place> = Default::default();
        let mut open: FuturesUnordered<Answer<'_>> = FuturesUnordered::new();
        let mut wake = now();
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Wake(after) => wake = now() + after,
                    Effect::Meet(id) => open.push(Box::pin(self.introduce(id))),
                    Effect::Read { from, first } => {
                        if first {
                            places[from.index()] = Place::default();
                        }
                        let place = places[from.index()].clone();
                        open.push(Box::pin(self.read_out(from, place)));
                    }
                    Effect::Serve => return,
                }
            }
            self.tell_waiting(&rejoin);
            let event = tokio::select! {
                Some((event, place)) = open.next() => {
                    if let (Event::Adopted { from, .. }, Some(place)) = (event, place) {
                        places[from.index()] = place;
                    }
                    event
                }
                () = tokio::time::sleep(wake.saturating_sub(now())) => {
                    // Until told otherwise: an answer that is due comes by itself.
                    wake = now() + dfs_proto::protocol::rejoin::PAUSE;
                    Event::Tick
                }
            };
            effects = rejoin.on(event, now());
        }
    }

    fn tell_waiting(&self, rejoin: &Rejoin) {
        let waiting = rejoin.waiting_for();
        let texts: Vec<String> =
            waiting.iter().map(|(node, why)| format!("node {node}: {why}")).collect();
        let text = texts.join("; ");
        if text != self.rejoin_state() {
            tracing::info!(waiting = text, "rejoining");
            self.set_rejoin_state(text);
        }
    }

    /// Has another node record this one's incarnation, and records its own.
    pub(crate) async fn introduce(&self, id: NodeId) -> (Event, Option<Place>) {
        let event = match self.meet(id).await {
            Ok(peer) => Event::Met(id, peer),
            Err(error) => {
                tracing::debug!(node = %id, %error, "not met");
                Event::Failed(id)
            }
        };
        (event, None)
    }

    async fn meet(&self, id: NodeId) -> Result<Peer, AdoptError> {
        let own = self.node.introduction();
        let met = self.peers.hello(id, &own).await?;
        let (incarnation, serving) = (met.identity.incarnation, !met.identity.rejoining);
        match self.node.meet(met).await?.0 {
            Meeting::Expected => {
                Ok(Peer { incarnation, serving, remembers: Some(own.identity.incarnation) })
            }
            other => Err(AdoptError::Stale(other)),
        }
    }

    async fn read_out(&self, from: NodeId, place: Place) -> (Event, Option<Place>) {
        match self.adopt_page(from, place).await {
            Ok((peer, Some(next))) => (Event::Adopted { from, peer, last: false }, Some(next)),
            Ok((peer, None)) => (Event::Adopted { from, peer, last: true }, None),
            Err(error) => {
                tracing::warn!(node = %from, %error, "its rows could not be taken over");
                (Event::Failed(from), None)
            }
        }
    }

    /// Takes over a page of versions or, after the last of them, of fences; returns where the
    /// next one begins, if there is one.
    async fn adopt_page(
        &self,
        from: NodeId,
        place: Place,
    ) -> Result<(Peer, Option<Place>), AdoptError> {
        let view = if place.fences { pb::RecordsView::Fences } else { pb::RecordsView::Full };
        let query = RecordsQuery { of: None, view, after: place.after };
        let page = self.peers.records(from, query).await?;
        let RecordPage { node, versions, fences, next, remembers, .. } = page;
        let peer = Peer { incarnation: node.incarnation, serving: !node.rejoining, remembers };
        if place.fences {
            self.node.adopt_fences(fences).await?;
        } else {
            self.node.adopt(versions).await?;
        }
        let next = match (next, place.fences) {
            (Some(after), fences) => Some(Place { fences, after: Some(after) }),
            (None, false) => Some(Place { fences: true, after: None }),
            (None, true) => None,
        };
        Ok((peer, next))
    }
}
