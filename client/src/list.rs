//! LIST: pages of four nodes, merged by [`protocol::listing::Listing`]. Also the state of one
//! path, which is a listing of one. Nothing is ever written.

use std::sync::Arc;

use dfs_proto::name::{FilePath, Prefix};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::decide::{Verdict, View, decide};
use dfs_proto::protocol::listing::{Entry, FileEntry, Listed, Listing};
use dfs_proto::wire::convert::Malformed;
use dfs_proto::wire::page::Received;
use dfs_proto::wire::{convert, pb};
use futures_util::future::join_all;
use tokio::task::{JoinError, JoinSet};

use crate::error::{Cause, Error, NodeError, Operation};
use crate::nodes::Nodes;
use crate::trace;

/// Entries of a first page: with few of them the first file is soon there.
const FIRST_PAGE: i32 = 1000;

/// Entries of the others. Measured: with fewer the calls take longer than what is in them, with more
/// memory is touched that was not in use yet.
const PAGE: i32 = 4000;

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

type Answer = (NodeId, Result<Page, NodeError>);

/// A listing under way: files come out in byte order. While a node's page is merged its next one is
/// on its way, and no more than that.
pub struct Lister {
    nodes: Arc<Nodes>,
    prefix: Prefix,
    view: pb::ListView,
    /// Whether pages are asked for before they are needed.
    early: bool,
    merge: Listing,
    open: JoinSet<Answer>,
    asked: PerNode<bool>,
    next_page: PerNode<Next>,
    /// What a node has answered, until the merge wants it.
    ahead: PerNode<Option<Result<Page, NodeError>>>,
    errors: Vec<NodeError>,
    name: trace::Name,
}

impl Lister {
    pub(crate) fn start(nodes: Arc<Nodes>, prefix: Prefix, full: bool) -> Self {
        Self {
            nodes,
            prefix,
            view: if full { pb::ListView::Full } else { pb::ListView::Basic },
            early: true,
            merge: Listing::start(),
            open: JoinSet::new(),
            asked: Default::default(),
            next_page: Default::default(),
            ahead: Default::default(),
            errors: Vec::new(),
            name: trace::current().unwrap_or_else(trace::Name::new),
        }
    }

    /// Asks for each page when it is needed and not before, so that pages can be passed over.
    pub(crate) fn page_by_page(self) -> Self {
        Self { early: false, ..self }
    }

    /// The next file; `None` at the end. Fails when no node takes part any more.
    pub async fn next(&mut self) -> Result<Option<Listed>, Error> {
        loop {
            if let Some(file) = self.at_hand() {
                return Ok(Some(file));
            }
            match self.open.join_next().await {
                Some(answer) => self.answered(answer),
                None => return self.end(),
            }
        }
    }

    /// The next file, if it can be told without waiting for a node.
    pub(crate) fn at_hand(&mut self) -> Option<Listed> {
        loop {
            if let Some(file) = self.merge.next_file() {
                return Some(file);
            }
            let mut came = false;
            for id in self.merge.wants() {
                match self.ahead[id.index()].take() {
                    Some(page) => {
                        self.take(id, page);
                        came = true;
                    }
                    None => self.ask(id),
                }
            }
            if !came {
                return None;
            }
        }
    }

    fn answered(&mut self, answer: Result<Answer, JoinError>) {
        let (id, page) = match answer {
            Ok(answer) => answer,
            // Nothing is aborted before the whole is dropped.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.asked[id.index()] = false;
        self.ahead[id.index()] = Some(page);
    }

    /// Takes a page into the merge, or leaves a node out.
    fn take(&mut self, id: NodeId, page: Result<Page, NodeError>) {
        match page {
            Ok(Page { entries, next }) => {
                let more = !next.is_empty();
                self.merge.page(id, entries, more);
                self.next_page[id.index()] = Next::Token(next);
                if more && self.early {
                    self.ask(id);
                }
            }
            Err(error) => {
                self.merge.fail(id);
                self.errors.push(error);
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

    /// Asks a node for its next page, once.
    fn ask(&mut self, id: NodeId) {
        if std::mem::replace(&mut self.asked[id.index()], true) {
            return;
        }
        let (page_token, start_after) = match self.next_page[id.index()].clone() {
            Next::Token(token) => (token, String::new()),
            // Nearly the last path with that prefix there can be.
            Next::After(prefix) => (String::new(), format!("{prefix}{}", char::MAX)),
        };
        let first = page_token.is_empty();
        let request = pb::ListRequest {
            prefix: self.prefix.as_str().to_owned(),
            page_size: if first { FIRST_PAGE } else { PAGE },
            page_token,
            start_after,
            view: self.view.into(),
        };
        let member = self.nodes.get(id).clone();
        let answer = async move {
            let page = member.node().list(&request).await.and_then(|answer| {
                read_page(&answer)
                    .map_err(|malformed| member.nonsense(&malformed))?
                    .ok_or_else(|| member.node().error(Cause::Rejoining))
            });
            (id, page)
        };
        self.open.spawn(trace::under(self.name.clone(), answer));
    }
}

/// Reads a page; `None` where the node is rejoining and does not count.
fn read_page(answer: &Received) -> Result<Option<Page>, Malformed> {
    let (entries, rest) = answer.read()?;
    if convert::identity(rest.node.as_ref())?.rejoining {
        return Ok(None);
    }
    Ok(Some(Page { entries, next: rest.next_page_token }))
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
                        manifest: Some(Box::new(manifest.clone())),
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
