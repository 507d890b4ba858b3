//! Files whose time is over, as this node's clock has it.

use dfs_proto::manifest::{Manifest, Version};
use dfs_proto::name::{FilePath, UserName};

use super::{Node, NodeError, now_ms};
use crate::index::IndexError;

/// Files that are looked for at a time; what else is over is found the next time.
const MAX_OVER: usize = 10_000;

impl Node {
    /// The newest versions here that are to go.
    pub(crate) async fn over(&self) -> Result<Vec<(UserName, FilePath, Version)>, NodeError> {
        let view = self.index.view();
        let list = move || {
            let now_ms = now_ms();
            let mut found = Vec::new();
            for row in view.records(None, None) {
                let (user, path, current) = row?;
                let version = current.record.version;
                let end = version.manifest().and_then(Manifest::expires_ms);
                if end.is_some_and(|end| end <= now_ms) {
                    found.push((user, path, version));
                }
                if found.len() >= MAX_OVER {
                    break;
                }
            }
            Ok::<_, IndexError>(found)
        };
        Ok(self.blocking(list).await??)
    }
}
