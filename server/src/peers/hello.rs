//! Meeting the other nodes: Hello just before a node serves, and then now and then. Nobody waits for
//! one that does not answer.
//!
//! Others remember this node's incarnation, its last start and how far its index was. What they
//! remember tells a node whose disk was lost or restored that it must not serve with it.

use std::sync::Arc;
use std::time::Duration;

use dfs_proto::identity::{Boot, Identity, Introduction};
use dfs_proto::placement::NodeId;
use dfs_proto::wire::pb::peer_service_client::PeerServiceClient;
use dfs_proto::wire::{convert, pb};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::{Ascii, MetadataValue};

use super::dial::{Dial, DialError};
use crate::jitter::jitter;
use crate::node::Node;
use crate::node::known::Meeting;

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// For the first exchange, before the node serves: one that is there answers in less.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after an exchange, and before the next try where there has been none yet.
const PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Why this node's disk must not be served from any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StaleDisk {
    #[error(
        "node {0} knows another disk of this node; this one was lost or emptied: run 'dfsd rejoin'"
    )]
    Replaced(NodeId),
    #[error(
        "node {0} remembers a later state or another start of this node; this disk was restored \
         from a copy: run 'dfsd rejoin'"
    )]
    Restored(NodeId),
}

#[derive(Debug, thiserror::Error)]
enum HelloError {
    #[error("{0}")]
    Connect(#[from] DialError),
    #[error("{}", super::dial::innermost(.0))]
    Status(#[from] tonic::Status),
    #[error("{0}")]
    Malformed(#[from] convert::Malformed),
    #[error("it is node {} of cluster {}, the configuration says node {expected}", .found.node, .found.cluster)]
    Foreign { found: Box<Identity>, expected: NodeId },
    #[error("its disk is not the one remembered ({0:?})")]
    Stale(Meeting),
    #[error("{0}")]
    Node(#[from] crate::node::NodeError),
}

/// Meets those of the others that are there, before the first answer to anybody: a disk that one of
/// them knows to be out of date must not give any.
pub(crate) async fn meet_first(
    node: &Arc<Node>,
    dial: &Dial,
    secret: &str,
) -> Result<(), StaleDisk> {
    let Some(secret) = super::credential(secret) else { return Ok(()) };
    let others = NodeId::ALL.into_iter().filter(|peer| *peer != node.position());
    let meetings = others.map(|peer| {
        let meeting = meet(node, peer, dial, &secret);
        tokio::time::timeout(FIRST_TIMEOUT, meeting)
    });
    // What else goes wrong is told when they are met again.
    let found = join_all(meetings).await.into_iter().find_map(|met| met.ok()?.ok()?);
    found.map_or(Ok(()), Err)
}

/// Keeps in touch with the other three; sets `stale` and cancels `stop` when one of them knows
/// this node's disk to be out of date.
pub(crate) fn keep_meeting(
    node: &Arc<Node>,
    dial: &Dial,
    secret: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    stale: &Arc<std::sync::OnceLock<StaleDisk>>,
) {
    let secret = super::credential(secret);
    let Some(secret) = secret else { return };
    let own = node.position();
    for peer in NodeId::ALL.into_iter().filter(|peer| *peer != own) {
        let (node, stop, stale) = (Arc::clone(node), stop.clone(), Arc::clone(stale));
        let (secret, dial) = (secret.clone(), dial.clone());
        tasks.spawn(async move {
            let meeting = meet_again(&node, peer, &dial, &secret);
            if let Some(found) = stop.run_until_cancelled(meeting).await {
                // Another peer may have said the same already.
                let _ = stale.set(found);
                stop.cancel();
            }
        });
    }
}

/// Meets one peer until it says that this node's disk is out of date.
async fn meet_again(
    node: &Arc<Node>,
    peer: NodeId,
    dial: &Dial,
    secret: &MetadataValue<Ascii>,
) -> StaleDisk {
    let address = dial.address(peer);
    let mut met = false;
    let mut last_error = String::new();
    loop {
        match meet(node, peer, dial, secret).await {
            Ok(Some(stale)) => return stale,
            Ok(None) => {
                if !met || !last_error.is_empty() {
                    tracing::info!(node = %peer, address, "met");
                }
                met = true;
                last_error.clear();
            }
            Err(error) => {
                let text = error.to_string();
                // Once per kind of failure: an absent peer is a normal thing.
                if text != last_error {
                    match error {
                        HelloError::Connect(_) | HelloError::Status(_) => {
                            tracing::info!(node = %peer, address, error = text, "not reached");
                        }
                        HelloError::Malformed(_)
                        | HelloError::Foreign { .. }
                        | HelloError::Stale(_)
                        | HelloError::Node(_) => {
                            tracing::error!(node = %peer, address, error = text, "not accepted");
                        }
                    }
                    last_error = text;
                }
            }
        }
        let pause = if met { PAUSE } else { FIRST_PAUSE };
        tokio::time::sleep(pause.mul_f64(jitter())).await;
    }
}

/// Says hello once.
async fn meet(
    node: &Arc<Node>,
    peer: NodeId,
    dial: &Dial,
    secret: &MetadataValue<Ascii>,
) -> Result<Option<StaleDisk>, HelloError> {
    let channel = dial.connect(peer).await?;
    let own = node.introduction();
    let mut request = tonic::Request::new(request(&own));
    request.metadata_mut().insert("authorization", secret.clone());
    request.set_timeout(HELLO_TIMEOUT);
    let answer = PeerServiceClient::new(channel).hello(request).await?;
    let answer = answer.into_inner();
    let met = convert::introduction(answer.node.as_ref(), answer.index.as_ref())?;
    if met.identity.cluster != own.identity.cluster || met.identity.node != peer {
        return Err(HelloError::Foreign { found: Box::new(met.identity), expected: peer });
    }
    if let Some(stale) = judge_own(&own, peer, &answer)? {
        return Ok(Some(stale));
    }
    match node.meet(met).await?.0 {
        Meeting::Expected => Ok(None),
        other => Err(HelloError::Stale(other)),
    }
}

/// How this node introduces itself to another.
pub(super) fn request(own: &Introduction) -> pb::HelloRequest {
    pb::HelloRequest { node: Some((&own.identity).into()), index: Some(own.index.into()) }
}

/// What a peer's memory says about this node's own disk.
fn judge_own(
    own: &Introduction,
    peer: NodeId,
    answer: &pb::HelloResponse,
) -> Result<Option<StaleDisk>, convert::Malformed> {
    if answer.remembered_incarnation.is_empty() {
        return Ok(None);
    }
    let field = "remembered_incarnation";
    let remembered = convert::incarnation(field, &answer.remembered_incarnation)?;
    let remembered_boot =
        Boot { count: answer.remembered_boot, nonce: answer.remembered_boot_nonce };
    Ok(if remembered != own.identity.incarnation {
        // A new disk that rejoins is what others have yet to hear of.
        (!own.identity.rejoining).then_some(StaleDisk::Replaced(peer))
    } else if !own.may_follow(remembered_boot, answer.remembered_group) {
        Some(StaleDisk::Restored(peer))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::identity::IndexAge;
    use dfs_proto::manifest::Incarnation;
    use dfs_proto::name::ClusterName;

    #[test]
    fn a_peers_memory_stops_a_lost_or_restored_disk() {
        let own = |count, rejoining| Introduction {
            identity: Identity {
                cluster: ClusterName::new("demo").unwrap(),
                node: NodeId::N1,
                incarnation: Incarnation::new([1; 16]),
                boot: Boot { count, nonce: 7 },
                rejoining,
            },
            index: IndexAge { at_start: 70, now: 900 },
        };
        let answer = |incarnation: &[u8], remembered_boot| pb::HelloResponse {
            node: None,
            remembered_incarnation: incarnation.to_vec(),
            remembered_boot,
            remembered_boot_nonce: 7,
            index: None,
            remembered_group: 70,
        };
        let judge = |own, answer| judge_own(&own, NodeId::N2, &answer);
        assert_eq!(judge(own(1, false), answer(&[], 0)), Ok(None));
        assert_eq!(judge(own(3, false), answer(&[1; 16], 3)), Ok(None));
        assert_eq!(
            judge(own(2, false), answer(&[1; 16], 3)),
            Ok(Some(StaleDisk::Restored(NodeId::N2)))
        );
        let other = pb::HelloResponse { remembered_boot_nonce: 8, ..answer(&[1; 16], 3) };
        assert_eq!(judge(own(3, false), other), Ok(Some(StaleDisk::Restored(NodeId::N2))));
        assert_eq!(
            judge(own(9, false), answer(&[2; 16], 3)),
            Ok(Some(StaleDisk::Replaced(NodeId::N2)))
        );
        assert_eq!(judge(own(1, true), answer(&[2; 16], 3)), Ok(None));
        assert_eq!(judge(own(4, true), answer(&[1; 16], 3)), Ok(None));
        assert_eq!(
            judge(own(1, true), answer(&[1; 16], 3)),
            Ok(Some(StaleDisk::Restored(NodeId::N2))),
            "a copy made while it was rejoining"
        );
        let later = pb::HelloResponse { remembered_group: 71, ..answer(&[1; 16], 3) };
        assert_eq!(judge(own(3, false), later.clone()), Ok(None), "heard since this start");
        assert_eq!(judge(own(4, false), later), Ok(Some(StaleDisk::Restored(NodeId::N2))));
        assert!(judge(own(1, false), answer(&[2; 3], 3)).is_err());
    }
}
