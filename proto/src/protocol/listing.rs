//! LIST: one cursor per node, merged by largest tag.
//!
//! A path is final when every node still taking part has passed it. Tombstones take part in
//! the merge until the end, so that a node that missed a removal cannot bring a file back. A
//! node that fails is left out from then on. Nothing is ever written. What a node sends out of
//! order, or twice, is passed over: no path is listed again.

use std::collections::VecDeque;

use crate::chunk::ChunkSet;
use crate::digest::Residue;
use crate::manifest::{Manifest, UploadId};
use crate::name::FilePath;
use crate::placement::{NodeId, PerNode};
use crate::protocol::decide::{Verdict, View, decide};
use crate::protocol::health::{Health, assess};
use crate::tag::Tag;

/// One path as one node lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path.
    pub path: FilePath,
    /// Its newest version there.
    pub tag: Tag,
    /// Whether three nodes are known there to have it.
    pub confirmed: bool,
    /// The file; `None` for a tombstone.
    pub file: Option<FileEntry>,
}

/// What a listing tells of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The upload.
    pub upload: UploadId,
    /// Length in bytes.
    pub size: u64,
    /// Turn of the placement table.
    pub x: Residue,
    /// Chunks of it on the node.
    pub have: ChunkSet,
    /// The manifest, where the full view was asked for.
    pub manifest: Option<Box<Manifest>>,
}

/// One file of the merged listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path.
    pub path: FilePath,
    /// The version's place in the order of versions.
    pub tag: Tag,
    /// The file; its `have` is that of one node only.
    pub file: FileEntry,
    /// The chunks each node holds of this version; `None` for a node that did not answer.
    pub nodes: PerNode<Option<ChunkSet>>,
    /// What they say about its redundancy.
    pub health: Health,
    /// Three nodes could not be shown to have this version.
    pub unconfirmed: bool,
}

#[derive(Debug)]
enum Cursor {
    Up { page: VecDeque<Entry>, more: bool },
    Out,
}

/// One listing in progress.
#[derive(Debug)]
pub struct Listing {
    cursors: PerNode<Cursor>,
    /// The last path that is final.
    passed: Option<FilePath>,
}

impl Listing {
    /// Starts with all four nodes taking part.
    pub fn start() -> Self {
        let cursors = NodeId::ALL.map(|_| Cursor::Up { page: VecDeque::new(), more: true });
        Self { cursors, passed: None }
    }

    /// The nodes whose next page is needed before anything more can be said.
    pub fn wants(&self) -> Vec<NodeId> {
        let empty = |id: &NodeId| match &self.cursors[id.index()] {
            Cursor::Up { page, more } => *more && page.is_empty(),
            Cursor::Out => false,
        };
        NodeId::ALL.into_iter().filter(empty).collect()
    }

    /// Takes a node's next page, in byte order; `more` tells whether others follow.
    pub fn page(&mut self, id: NodeId, entries: Vec<Entry>, more: bool) {
        if let Cursor::Up { page, more: expected } = &mut self.cursors[id.index()] {
            *expected = more;
            let before = page.back().map(|entry| &entry.path).or(self.passed.as_ref());
            let fits = |first: &Entry| before.is_none_or(|before| *before < first.path);
            if page.is_empty()
                && entries.first().is_none_or(fits)
                && entries.is_sorted_by(|one, next| one.path < next.path)
            {
                *page = entries.into();
                return;
            }
            for entry in entries {
                let before = page.back().map(|entry| &entry.path).or(self.passed.as_ref());
                if before.is_none_or(|before| *before < entry.path) {
                    page.push_back(entry);
                }
            }
        }
    }

    /// Drops what starts with `prefix` from the pages, and returns the nodes of which the next page
    /// is needed: that had better start after it.
    pub fn pass_over(&mut self, prefix: &str) -> Vec<NodeId> {
        for cursor in &mut self.cursors {
            if let Cursor::Up { page, .. } = cursor {
                page.retain(|entry| !entry.path.as_str().starts_with(prefix));
            }
        }
        self.wants()
    }

    /// Leaves a node out from now on.
    pub fn fail(&mut self, id: NodeId) {
        self.cursors[id.index()] = Cursor::Out;
    }

    /// How many nodes take part.
    pub fn taking_part(&self) -> usize {
        self.cursors.iter().filter(|cursor| matches!(cursor, Cursor::Up { .. })).count()
    }

    /// The next file in byte order. `None` when a page is wanted first, and at the end.
    pub fn next_file(&mut self) -> Option<Listed> {
        loop {
            let mut first: Option<&FilePath> = None;
            let mut holds = [false; 4];
            for (cursor, id) in self.cursors.iter().zip(NodeId::ALL) {
                match cursor {
                    Cursor::Out => {}
                    Cursor::Up { page, more } => match (page.front(), first) {
                        (None, _) if *more => return None,
                        (None, _) => {}
                        (Some(entry), Some(least)) if entry.path > *least => {}
                        (Some(entry), Some(least)) if entry.path == *least => {
                            holds[id.index()] = true;
                        }
                        (Some(entry), _) => {
                            first = Some(&entry.path);
                            holds = [false; 4];
                            holds[id.index()] = true;
                        }
                    },
                }
            }
            first?;
            if let Some(listed) = self.take(&holds) {
                return Some(listed);
            }
        }
    }

    /// Takes the first entry off the cursors that hold the path, and decides what it is; `None` for
    /// a removed file.
    fn take(&mut self, holds: &PerNode<bool>) -> Option<Listed> {
        let mut entries = NodeId::ALL.map(|id| match &mut self.cursors[id.index()] {
            Cursor::Up { page, .. } => {
                Some(if holds[id.index()] { page.pop_front() } else { None })
            }
            Cursor::Out => None,
        });
        let listed = judge_and_take(&mut entries);
        // What is left of the others will do.
        let left = entries.into_iter().flatten().flatten().next().map(|entry| entry.path);
        self.passed = left.or_else(|| listed.as_ref().map(|listed| listed.path.clone()));
        listed
    }
}

/// What of one path the nodes list. The outer `None` stands for a node that does not take part, the
/// inner one for a node that knows no such path.
type Answers = PerNode<Option<Option<Entry>>>;

/// Decides what one path is. The outer `None` stands for a node that does not take part, the
/// inner one for a node that knows no such path; `None` for a removed file.
pub fn judge(entries: &Answers) -> Option<Listed> {
    judge_and_take(&mut entries.clone())
}

/// As [`judge`]; the entry of a file that is listed is taken out.
fn judge_and_take(entries: &mut Answers) -> Option<Listed> {
    let views = NodeId::ALL.map(|id| match &entries[id.index()] {
        Some(entry) => View::Here {
            tag: entry.as_ref().map(|entry| entry.tag),
            confirmed: entry.as_ref().is_none_or(|entry| entry.confirmed),
        },
        None => View::Out,
    });
    let (tag, unconfirmed) = decide_for_listing(&views)?;
    let nodes = NodeId::ALL.map(|id| {
        let entry = entries[id.index()].as_ref()?.as_ref();
        let file = entry.filter(|entry| entry.tag == tag).and_then(|entry| entry.file.as_ref());
        Some(file.map_or(ChunkSet::EMPTY, |file| file.have))
    });
    let newest = |entry: &&mut Option<Entry>| entry.as_ref().is_some_and(|entry| entry.tag == tag);
    let newest = entries.iter_mut().flatten().find(newest)?;
    let Entry { path, file, .. } = newest.take_if(|entry| entry.file.is_some())?;
    let file = file?;
    let health = assess(file.x, &nodes);
    Some(Listed { path, tag, file, nodes, health, unconfirmed })
}

/// The tag to show, and whether to flag it. What a read would write back is shown flagged.
fn decide_for_listing(views: &PerNode<View>) -> Option<(Tag, bool)> {
    match decide(views) {
        Verdict::Decided { tag, unconfirmed, .. } => Some((tag?, unconfirmed)),
        Verdict::WriteBack { tag, .. } => Some((tag, true)),
        Verdict::Wait | Verdict::Unavailable => {
            let tags = views.iter().filter_map(|view| match view {
                View::Here { tag, .. } => *tag,
                View::Waiting | View::Out => None,
            });
            Some((tags.max()?, true))
        }
    }
}

#[cfg(test)]
mod tests;
