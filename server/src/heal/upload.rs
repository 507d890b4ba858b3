//! Seeing to an abandoned upload: carries the messages of [`dfs_proto::protocol::janitor`].

use dfs_proto::placement::NodeId;
use dfs_proto::protocol::NodeRef;
use dfs_proto::protocol::janitor::{Effect, Event, Janitor, Outcome};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Healer;
use crate::node::heal::Abandoned;
use crate::peers::{PeerError, UserPath};

impl Healer {
    /// Drops an abandoned upload everywhere, or finishes it if it was committed anywhere.
    pub(crate) async fn clear(&self, abandoned: &Abandoned) -> Outcome {
        let (mut janitor, mut effects) = Janitor::start();
        let mut open = FuturesUnordered::new();
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Finish(outcome) => return outcome,
                    effect => open.push(self.carry_out(abandoned, effect)),
                }
            }
            match open.next().await {
                Some(event) => effects = janitor.on(event),
                None => return Outcome::Unfinished,
            }
        }
    }

    fn carry_out<'a>(&'a self, of: &'a Abandoned, effect: Effect) -> BoxFuture<'a, Event> {
        let upload = of.upload;
        let path = UserPath { user: of.user.clone(), path: of.path.clone() };
        Box::pin(async move {
            match effect {
                Effect::Fence(id) => match self.peers.fence(id, &path, upload).await {
                    Ok((node, answer)) => Event::Fence(id, node.incarnation, answer),
                    Err(_) => Event::Failed(id),
                },
                Effect::WriteBack { to, version, source } => {
                    match self.write_back(to, &path, &version, source).await {
                        Ok(answer) => Event::WriteBack(to, answer),
                        Err(_) => Event::Failed(to),
                    }
                }
                Effect::Drop(id, incarnations) => {
                    let fenced_by = NodeId::ALL
                        .map(|node| NodeRef { node, incarnation: incarnations[node.index()] });
                    match self.peers.drop_upload(id, &path, upload, &fenced_by).await {
                        Ok(()) => Event::Drop(id, true),
                        Err(PeerError::Refused(_)) => Event::Drop(id, false),
                        Err(_) => Event::Failed(id),
                    }
                }
                Effect::Finish(_) => Event::Failed(self.node.position()),
            }
        })
    }
}
