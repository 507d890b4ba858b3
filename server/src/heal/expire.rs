//! Removing files whose time is over, by the rule of [`dfs_proto::protocol::expire`].

use dfs_proto::manifest::Version;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::expire::due;
use dfs_proto::protocol::row::CommitOrder;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use super::{Healer, PARALLEL};
use crate::node::NodeError;
use crate::peers::UserPath;

impl Healer {
    /// Removes what is over here. Whatever fails is tried again with the next pass.
    pub(crate) async fn expire(&self) -> Result<(), NodeError> {
        let over = stream::iter(self.node.over().await?);
        let removals = over.map(|(user, path, version)| async move {
            self.remove_expired(&UserPath { user, path }, version).await
        });
        let mut removals = removals.buffer_unordered(PARALLEL);
        while let Some(removed) = removals.next().await {
            removed?;
        }
        Ok(())
    }

    /// Commits the tombstone here and has it spread as what any node missed.
    async fn remove_expired(&self, of: &UserPath, version: Version) -> Result<(), NodeError> {
        let replies = join_all(NodeId::ALL.map(|id| self.peers.ask(id, of))).await;
        let mut replies = replies.into_iter().map(Result::ok);
        let Some(end) = due(&version, &NodeId::ALL.map(|_| replies.next().flatten())) else {
            return Ok(());
        };
        let order = CommitOrder { version: end, write_back: false, sources: Vec::new() };
        let orders = vec![(of.path.clone(), order)];
        for result in self.node.commit(of.user.clone(), orders).await? {
            match result {
                Ok(_) => tracing::info!(user = %of.user, path = %of.path, "expired"),
                Err(refused) => {
                    tracing::warn!(
                        user = %of.user, path = %of.path, %refused,
                        "cannot expire now; the next pass of healing tries again"
                    );
                    return Ok(());
                }
            }
        }
        self.heal(of).await;
        Ok(())
    }
}
