//! A node that removes a version whose time is over: it asks all four and commits what follows.

use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::expire::due;
use dfs_proto::protocol::read::Reply;
use dfs_proto::tag::{Tag, choose_hlc};

use crate::message::Answer;

/// Whether a version is over.
#[derive(Default)]
pub(crate) struct Expire {
    version: Option<Version>,
    replies: PerNode<Option<Reply>>,
    heard: usize,
    /// It takes the next tag of all instead of the version's successor.
    greedy: bool,
}

impl Expire {
    pub(crate) fn of(version: Option<Version>, greedy: bool) -> Self {
        Self { version, greedy, ..Self::default() }
    }

    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Takes the answer of a node; with the last one it is decided.
    pub(crate) fn take(&mut self, id: NodeId, answer: Answer) -> Option<Option<Version>> {
        if let Answer::Reply(reply) = answer {
            self.replies[id.index()] = Some(*reply);
        }
        self.heard += 1;
        (self.heard == 4).then(|| self.decide())
    }

    fn decide(&self) -> Option<Version> {
        let version = self.version()?;
        let end = due(version, &self.replies)?;
        if !self.greedy {
            return Some(end);
        }
        let answers: Vec<_> = self.replies.iter().flatten().map(Reply::tag_answer).collect();
        let tag = Tag { hlc: choose_hlc(&answers)?, ..end.tag };
        let upload = UploadId::new(version.upload.bytes().map(|byte| !byte));
        Some(Version { tag, upload, ..end })
    }
}
