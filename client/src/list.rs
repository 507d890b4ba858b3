//! LIST: pages of four nodes, merged by [`protocol::listing::Listing`]. Also the state of one
//! path, which is a listing of one. Nothing is ever written.

use std::sync::Arc;

use dfs_proto::name::{FilePath, Prefix};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::decide::{Verdict, View, decide};
use dfs_proto::protocol::listing::{Entry, FileEntry, Listed, Listing};
use dfs_proto::wire::convert::Malformed;
use dfs_proto::wire::{convert, pb};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::trace;

/// Entries asked for at once.
const PAGE: i32 = 2000;

/// Where a node's next page starts.
#[derive(Clone)]
enum Next {
    /// At the beginning, or where the page before ended.
    Token(String),
    /// After all paths with this prefix.
    After(String),
}

impl Default for Next {
    fn default() -> Self {
        Self::Token(String::new())
    }
}

struct Page {
    entries: Vec<Entry>,
    next: String,
}

/// A listing under way: files come out in byte order, pages are fetched as they are needed.
pub struct Lister {
    nodes: Arc<Nodes>,
    prefix: Prefix,
    view: pb::ListView,
    merge: Listing,
    open: FuturesUnordered<BoxFuture<'static, (NodeId, Result<Page, NodeError>)>>,
    asked: Vec<NodeId>,
    next_page: PerNode<Next>,
    errors: Vec<NodeError>,
    name: trace::Name,
}

impl Lister {
    pub(crate) fn start(nodes: Arc<Nodes>, prefix: Prefix, full: bool) -> Self {
        Self {
            nodes,
            prefix,
            view: if full { pb::ListView::Full } else { pb::ListView::Basic },
            merge: Listing::start(),
            open: FuturesUnordered::new(),
            asked: Vec::new(),
            next_page: Default::default(),
            errors: Vec::new(),
            name: trace::current().unwrap_or_else(trace::Name::new),
        }
    }

    /// The next file; `None` at the end. Fails when no node takes part any more.
    pub async fn next(&mut self) -> Result<Option<Listed>, Error> {
        loop {
            if let Some(file) = self.merge.next_file() {
                return Ok(Some(file));
            }
            for id in self.merge.wants() {
                if !self.asked.contains(&id) {
                    self.asked.push(id);
                    self.open.push(Box::pin(trace::under(self.name.clone(), self.ask(id))));
                }
            }
            let Some((id, page)) = self.open.next().await else {
                return self.end();
            };
            self.asked.retain(|other| *other != id);
            match page {
                Ok(page) => {
                    let more = !page.next.is_empty();
                    self.next_page[id.index()] = Next::Token(page.next);
                    self.merge.page(id, page.entries, more);
                }
                Err(error) => {
                    self.merge.fail(id);
                    self.errors.push(error);
                }
            }
        }
    }

    /// Leaves out the paths that start with `prefix`, as far as that saves pages: some of them may
    /// still come.
    pub(crate) fn pass_over(&mut self, prefix: &str) {
        for id in self.merge.pass_over(prefix) {
            self.next_page[id.index()] = Next::After(prefix.to_owned());
        }
    }

    fn end(&mut self) -> Result<Option<Listed>, Error> {
        if self.merge.taking_part() > 0 {
            return Ok(None);
        }
        let nodes = std::mem::take(&mut self.errors);
        Err(Error::unavailable(Operation::List, None, nodes))
    }

    /// How many nodes take part so far; with fewer than two every state is unknown.
    pub fn taking_part(&self) -> usize {
        self.merge.taking_part()
    }

    /// Why nodes were left out.
    pub fn errors(&self) -> &[NodeError] {
        &self.errors
    }

    fn ask(&self, id: NodeId) -> BoxFuture<'static, (NodeId, Result<Page, NodeError>)> {
        let member = self.nodes.get(id).clone();
        let (page_token, start_after) = match self.next_page[id.index()].clone() {
            Next::Token(token) => (token, String::new()),
            // Nearly the last path with that prefix there can be.
            Next::After(prefix) => (String::new(), format!("{prefix}{}", char::MAX)),
        };
        let request = pb::ListRequest {
            prefix: self.prefix.as_str().to_owned(),
            page_size: PAGE,
            page_token,
            start_after,
            view: self.view.into(),
        };
        Box::pin(async move {
            let answer = member.node().unary("List", request, |mut client, request| async move {
                client.list(request).await
            });
            let page = answer.await.and_then(|answer| {
                read_page(answer)
                    .map_err(|malformed| member.nonsense(&malformed))?
                    .ok_or_else(|| member.node().error(Cause::Rejoining))
            });
            (id, page)
        })
    }
}

/// Reads a page; `None` where the node is rejoining and does not count.
fn read_page(answer: pb::ListResponse) -> Result<Option<Page>, Malformed> {
    if convert::identity(answer.node.as_ref())?.rejoining {
        return Ok(None);
    }
    let entries = answer.entries.iter().map(Entry::try_from).collect::<Result<_, _>>()?;
    Ok(Some(Page { entries, next: answer.next_page_token }))
}

/// What all reachable nodes say of one path.
#[derive(Debug, Clone)]
pub struct PathState {
    /// The file, as in a full listing.
    pub file: Listed,
    /// Why nodes were left out.
    pub errors: Vec<NodeError>,
}

pub(crate) async fn stat(nodes: &Arc<Nodes>, path: &FilePath) -> Result<PathState, Error> {
    let mut merge = Listing::start();
    let answers = join_all(NodeId::ALL.map(|id| {
        let member = nodes.get(id).clone();
        async move { (id, member.stat(path).await) }
    }));
    let mut errors = Vec::new();
    let mut views = [View::Out; 4];
    for (id, answer) in answers.await {
        match answer {
            Err(error) => {
                merge.fail(id);
                errors.push(error);
            }
            Ok(reply) => {
                let tag = reply.current.as_ref().map(|record| record.version.tag);
                views[id.index()] = View::Here { tag, confirmed: reply.confirmed };
                let entry = reply.current.map(|record| Entry {
                    path: path.clone(),
                    tag: record.version.tag,
                    confirmed: reply.confirmed,
                    file: record.version.manifest().map(|manifest| FileEntry {
                        upload: record.version.upload,
                        size: manifest.size(),
                        x: manifest.x(),
                        have: record.have,
                        manifest: Some(manifest.clone()),
                    }),
                });
                merge.page(id, Vec::from_iter(entry), false);
            }
        }
    }
    let taking_part = merge.taking_part();
    match merge.next_file() {
        Some(file) => Ok(PathState { file, errors }),
        None if taking_part < 2 => {
            Err(Error::unavailable(Operation::Stat, Some(path.clone()), errors))
        }
        None => {
            let certain = matches!(decide(&views), Verdict::Decided { unconfirmed: false, .. });
            Err(Error::NotFound { path: path.clone(), unconfirmed: !certain })
        }
    }
}
