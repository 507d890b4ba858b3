//! The survey: what all four nodes say of all paths, merged in byte order of user and path.

use std::collections::VecDeque;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::name::{Prefix, UserName};
use dfs_proto::placement::{NodeId, PerNode, home_chunks};
use dfs_proto::protocol::listing::Entry;
use dfs_proto::wire::pb;
use futures_util::future::join_all;

use crate::peers::{PeerError, Peers, RecordsQuery, UserPath};

/// One path as the nodes list it.
#[derive(Debug, Clone)]
pub(crate) struct Surveyed {
    pub(crate) of: UserPath,
    /// What each node has; the outer `None` for a node that does not answer.
    pub(crate) entries: PerNode<Option<Option<Entry>>>,
}

enum Cursor {
    Up { page: VecDeque<(UserName, Entry)>, next: Next },
    Out,
}

enum Next {
    Page(Option<pb::RecordKey>),
    End,
}

/// A survey under way.
pub(crate) struct Survey<'a> {
    peers: &'a Peers,
    of: Option<(UserName, Prefix)>,
    cursors: PerNode<Cursor>,
    /// Why nodes take no part.
    pub(crate) problems: Vec<(NodeId, PeerError)>,
}

impl<'a> Survey<'a> {
    /// Starts a survey of one user's prefix or of everything, after a path if one is given.
    pub(crate) fn start(
        peers: &'a Peers,
        of: Option<(UserName, Prefix)>,
        after: Option<UserPath>,
    ) -> Self {
        let key = after.map(|after| pb::RecordKey {
            user: after.user.as_str().to_owned(),
            path: after.path.as_str().to_owned(),
            upload_id: Vec::new(),
        });
        let cursors = NodeId::ALL
            .map(|_| Cursor::Up { page: VecDeque::new(), next: Next::Page(key.clone()) });
        Self { peers, of, cursors, problems: Vec::new() }
    }

    /// The next path; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Surveyed> {
        self.fill().await;
        let heads = self.cursors.iter().filter_map(|cursor| match cursor {
            Cursor::Up { page, .. } => page.front().map(|(user, entry)| (user, &entry.path)),
            Cursor::Out => None,
        });
        let of =
            heads.min().map(|(user, path)| UserPath { user: user.clone(), path: path.clone() })?;
        let entries = NodeId::ALL.map(|id| match &mut self.cursors[id.index()] {
            Cursor::Up { page, .. } => Some(
                page.pop_front_if(|(user, entry)| *user == of.user && entry.path == of.path)
                    .map(|(_, entry)| entry),
            ),
            Cursor::Out => None,
        });
        Some(Surveyed { of, entries })
    }

    /// How many nodes take part.
    pub(crate) fn taking_part(&self) -> usize {
        self.who_takes_part().into_iter().filter(|takes_part| *takes_part).count()
    }

    /// Which nodes take part.
    pub(crate) fn who_takes_part(&self) -> PerNode<bool> {
        NodeId::ALL.map(|id| matches!(self.cursors[id.index()], Cursor::Up { .. }))
    }

    /// Fetches the next page of every node whose last one is used up.
    async fn fill(&mut self) {
        let wanted: Vec<(NodeId, RecordsQuery)> = NodeId::ALL
            .into_iter()
            .filter_map(|id| match &self.cursors[id.index()] {
                Cursor::Up { page, next: Next::Page(after) } if page.is_empty() => {
                    let query = RecordsQuery {
                        of: self.of.clone(),
                        view: pb::RecordsView::Basic,
                        after: after.clone(),
                    };
                    Some((id, query))
                }
                Cursor::Up { .. } | Cursor::Out => None,
            })
            .collect();
        let peers = self.peers;
        let asked = wanted.into_iter().map(async |(id, query)| {
            let page = peers.records(id, query).await;
            (
                id,
                page.and_then(|page| {
                    if page.node.rejoining { Err(PeerError::Rejoining) } else { Ok(page) }
                }),
            )
        });
        for (id, answer) in join_all(asked).await {
            self.cursors[id.index()] = match answer {
                Ok(page) => Cursor::Up {
                    next: page.next.map_or(Next::End, |key| Next::Page(Some(key))),
                    page: page.entries.into(),
                },
                Err(error) => {
                    self.problems.push((id, error));
                    Cursor::Out
                }
            };
        }
    }
}

impl Surveyed {
    /// Whether all four nodes have the same confirmed version and each its own chunks of it.
    pub(crate) fn is_whole(&self) -> bool {
        let newest = self.entries.iter().flatten().flatten().map(|entry| entry.tag).max();
        NodeId::ALL.into_iter().all(|id| match &self.entries[id.index()] {
            Some(Some(entry)) => Some(entry.tag) == newest && is_settled(entry, id),
            Some(None) | None => false,
        })
    }

    /// Whether something is wrong with what `id` itself has.
    pub(crate) fn concerns(&self, id: NodeId) -> bool {
        let newest = self.entries.iter().flatten().flatten().map(|entry| entry.tag).max();
        match &self.entries[id.index()] {
            Some(Some(entry)) => Some(entry.tag) != newest || !is_settled(entry, id),
            Some(None) => true,
            None => false,
        }
    }
}

/// Whether a node has its chunks of its version, no others, and knows it to be on three nodes.
fn is_settled(entry: &Entry, id: NodeId) -> bool {
    let (have, home) = match &entry.file {
        Some(file) => (file.have, home_chunks(file.x, id)),
        None => (ChunkSet::EMPTY, ChunkSet::EMPTY),
    };
    entry.confirmed && have == home
}
