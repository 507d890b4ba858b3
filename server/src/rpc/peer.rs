//! `PeerService`: what the other nodes ask.

use std::sync::Arc;

use dfs_proto::identity::Identity;
use dfs_proto::wire::convert;
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::peer_service_server::PeerService;
use dfs_proto::wire::status::Reason;
use tonic::{Request, Response, Status};

use super::{Answer, status};
use crate::node::Node;
use crate::node::known::Meeting;

/// `PeerService` on one node.
#[derive(Clone)]
pub(crate) struct PeerApi {
    pub(crate) node: Arc<Node>,
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Answer<pb::HelloResponse> {
        let caller = convert::identity(request.into_inner().node.as_ref())?;
        let own = self.node.identity();
        check_place(own, &caller)?;
        let (meeting, before) = self.node.meet(caller.clone()).await.map_err(status::node)?;
        if meeting != Meeting::Expected {
            tracing::error!(
                node = %caller.node, ?meeting,
                "a node introduced itself with a disk that is not the one remembered"
            );
        }
        Ok(Response::new(pb::HelloResponse {
            node: Some(own.into()),
            remembered_incarnation: before
                .map(|peer| peer.incarnation.bytes().to_vec())
                .unwrap_or_default(),
            remembered_boot: before.map_or(0, |peer| peer.boot),
        }))
    }
}

/// Refuses a caller that cannot be another node of this cluster.
fn check_place(own: &Identity, caller: &Identity) -> Result<(), Status> {
    if caller.cluster != own.cluster {
        let text = format!("this node belongs to cluster {}", own.cluster);
        return Err(Reason::WrongNode.status(text));
    }
    if caller.node == own.node {
        let text = format!("this node is node {} itself", own.node);
        return Err(Reason::WrongNode.status(text));
    }
    Ok(())
}
