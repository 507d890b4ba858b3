use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::placement::home_chunks;
use crate::protocol::samples::{N1, N2, N3, N4, tag, upload};

const X: Residue = Residue::R0;

/// A file of its tag's number, its home chunks where they belong.
fn entry(id: NodeId, path: &str, number: u64, confirmed: bool, file: bool) -> Entry {
    let file = file.then(|| FileEntry {
        upload: upload(number as u8),
        size: number,
        x: X,
        have: home_chunks(X, id),
        manifest: None,
    });
    Entry { path: FilePath::new(path).unwrap(), tag: tag(number), confirmed, file }
}

type Nodes = PerNode<Vec<Entry>>;

/// What shall be listed of `path` by the nodes in `up`: looked at on its own.
fn naive(nodes: &Nodes, path: &FilePath, up: [bool; 4]) -> Option<Listed> {
    let entries: Vec<(NodeId, &Entry)> = NodeId::ALL
        .into_iter()
        .filter(|id| up[id.index()])
        .flat_map(|id| nodes[id.index()].iter().map(move |entry| (id, entry)))
        .filter(|(_, entry)| entry.path == *path)
        .collect();
    let newest = entries.iter().map(|(_, entry)| entry.tag).max()?;
    let same = || entries.iter().filter(|(_, entry)| entry.tag == newest);
    let (_, first) = same().next()?;
    let confirmed = same().any(|(_, entry)| entry.confirmed);
    let have = NodeId::ALL.map(|id| {
        let has = same().any(|(holder, _)| *holder == id);
        let have = if has { home_chunks(X, id) } else { ChunkSet::EMPTY };
        up[id.index()].then_some(have)
    });
    let taking_part = up.iter().filter(|up| **up).count();
    Some(Listed {
        path: path.clone(),
        tag: newest,
        file: first.file.clone()?,
        nodes: have,
        health: assess(X, &have),
        unconfirmed: taking_part < 2 || !confirmed && same().count() < 3,
    })
}

/// A listing in progress and what it should give.
struct Run {
    listing: Listing,
    nodes: Nodes,
    left: Nodes,
    up: [bool; 4],
    /// Which nodes took part since the last path; one of these hid what is not listed.
    since: Vec<[bool; 4]>,
    passed: Option<FilePath>,
}

impl Run {
    fn start(nodes: Nodes) -> Self {
        Self {
            listing: Listing::start(),
            left: nodes.clone(),
            nodes,
            up: [true; 4],
            since: vec![[true; 4]],
            passed: None,
        }
    }

    fn fail(&mut self, id: NodeId) {
        self.listing.fail(id);
        self.up[id.index()] = false;
        self.since.push(self.up);
    }

    /// Serves a page of up to `size` entries if it is wanted.
    fn serve(&mut self, id: NodeId, size: usize) {
        if self.listing.wants().contains(&id) {
            let entries = &mut self.left[id.index()];
            let page: Vec<Entry> = entries.drain(..size.min(entries.len())).collect();
            self.listing.page(id, page, !entries.is_empty());
        }
    }

    /// Takes the next file and checks it, and what was passed over for it.
    fn next(&mut self) -> Option<()> {
        let listed = self.listing.next_file()?;
        assert_eq!(naive(&self.nodes, &listed.path, self.up), Some(listed.clone()));
        self.check_hidden(Some(&listed.path));
        self.passed = Some(listed.path);
        self.since = vec![self.up];
        Some(())
    }

    fn check_hidden(&self, end: Option<&FilePath>) {
        let paths: BTreeSet<&FilePath> =
            self.nodes.iter().flatten().map(|entry| &entry.path).collect();
        let after = |path: &&FilePath| self.passed.as_ref().is_none_or(|passed| *path > passed);
        let before = |path: &&FilePath| end.is_none_or(|end| *path < end);
        for path in paths.into_iter().filter(after).filter(before) {
            let hidden = |up: &[bool; 4]| naive(&self.nodes, path, *up).is_none();
            assert!(self.since.iter().any(hidden), "{path} is not listed");
        }
    }

    fn finish(&mut self) {
        while self.next().is_some() || !self.listing.wants().is_empty() {
            for id in self.listing.wants() {
                self.serve(id, 2);
            }
        }
        self.check_hidden(None);
    }
}

/// What four nodes have of a handful of paths: tag, confirmed, file or tombstone by tag.
fn some_nodes() -> impl Strategy<Value = Nodes> {
    let has = prop::option::of((1..5u64, any::<bool>()));
    prop::collection::vec([has.clone(), has.clone(), has.clone(), has], 0..12).prop_map(|paths| {
        NodeId::ALL.map(|id| {
            let entry = |(place, has): (usize, &PerNode<Option<(u64, bool)>>)| {
                let (number, confirmed) = has[id.index()]?;
                let path = format!("path-{place:02}");
                Some(entry(id, &path, number, confirmed, number % 3 != 0))
            };
            paths.iter().enumerate().filter_map(entry).collect()
        })
    })
}

proptest! {
    /// Pages of any size in any order, nodes failing anywhere: what is listed is what the nodes
    /// that take part have of each path, once and in order.
    #[test]
    fn lists_what_a_naive_merge_of_the_nodes_taking_part_gives(
        nodes in some_nodes(),
        steps in prop::collection::vec((0..4usize, 0..4usize, 0..40usize), 0..120),
    ) {
        let mut run = Run::start(nodes);
        for (node, size, luck) in steps {
            let id = NodeId::ALL[node];
            match luck {
                0 => run.fail(id),
                _ => run.serve(id, size),
            }
            run.next();
        }
        run.finish();
        prop_assert_eq!(run.listing.taking_part(), run.up.iter().filter(|up| **up).count());
    }
}

/// Lists what these nodes have, each in one page; `None` fails.
fn list(nodes: PerNode<Option<Vec<Entry>>>) -> Vec<Listed> {
    let mut listing = Listing::start();
    for (id, entries) in NodeId::ALL.into_iter().zip(nodes) {
        match entries {
            Some(entries) => listing.page(id, entries, false),
            None => listing.fail(id),
        }
    }
    std::iter::from_fn(|| listing.next_file()).collect()
}

#[test]
fn every_subset_of_nodes_lists_a_file_with_the_state_it_deserves() {
    for mask in 0..16u32 {
        let up = |id: NodeId| mask & (1 << id.index()) != 0;
        let nodes = NodeId::ALL.map(|id| up(id).then(|| vec![entry(id, "a", 1, true, true)]));
        let listed = list(nodes);
        let health = match mask.count_ones() {
            0 => {
                assert_eq!(listed, []);
                continue;
            }
            1 => Health::Unknown,
            2 if mask != 0b0101 && mask != 0b1010 => Health::Incomplete,
            2 | 3 => Health::Degraded,
            _ => Health::Complete,
        };
        assert_eq!(listed.len(), 1, "{mask:04b}");
        assert_eq!(listed[0].health, health, "{mask:04b}");
        assert_eq!(listed[0].unconfirmed, mask.count_ones() < 2, "{mask:04b}");
    }
}

/// Two nodes took a removal, two missed it.
#[test]
fn a_tombstone_hides_the_file_that_others_still_have() {
    for removed in NodeId::ALL {
        let node = |id| match id == removed {
            true => Some(vec![entry(id, "a", 2, false, false)]),
            false => Some(vec![entry(id, "a", 1, true, true)]),
        };
        assert_eq!(list(NodeId::ALL.map(node)), []);
    }
}

#[test]
fn what_a_read_would_write_back_is_shown_flagged() {
    let node = |id| match id {
        N1 | N2 => vec![entry(id, "a", 2, false, true)],
        _ => vec![entry(id, "a", 1, true, true)],
    };
    let listed = list(NodeId::ALL.map(|id| Some(node(id))));
    assert_eq!(listed[0].tag, tag(2));
    assert!(listed[0].unconfirmed);
    assert_eq!(listed[0].health, Health::Incomplete, "two neighbours do not have all of it");
}

#[test]
fn waits_for_every_node_that_takes_part() {
    let mut listing = Listing::start();
    assert_eq!(listing.wants(), NodeId::ALL);
    for id in [N1, N2, N3] {
        listing.page(id, vec![entry(id, "b", 1, true, true)], false);
    }
    assert_eq!(listing.next_file(), None, "node 4 may have an \"a\"");
    listing.page(N4, Vec::new(), true);
    assert_eq!(listing.wants(), [N4], "an empty page says nothing");
    listing.fail(N4);
    assert!(listing.next_file().is_some());
    listing.page(N4, vec![entry(N4, "c", 1, true, true)], false);
    assert_eq!(listing.next_file(), None, "too late");
}

#[test]
fn a_path_is_listed_once_whatever_a_node_sends() {
    let node = |id: NodeId| {
        let paths = match id {
            N1 => ["a", "b", "a", "b"],
            N2 => ["a", "a", "b", "b"],
            _ => ["a", "b", "b", "b"],
        };
        paths.map(|path| entry(id, path, 1, true, true)).to_vec()
    };
    let listed = list(NodeId::ALL.map(|id| Some(node(id))));
    let paths: Vec<String> = listed.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(paths, ["a", "b"]);
    let mut listing = Listing::start();
    for id in NodeId::ALL {
        listing.page(id, vec![entry(id, "a", 1, true, true)], true);
    }
    assert!(listing.next_file().is_some());
    for id in NodeId::ALL {
        listing.page(id, vec![entry(id, "a", 1, true, true)], false);
    }
    assert_eq!(listing.next_file(), None, "the same page again");
}

#[test]
fn what_is_passed_over_is_not_listed_and_the_next_page_starts_after_it() {
    let mut listing = Listing::start();
    let page = |id, paths: &[&str]| -> Vec<Entry> {
        paths.iter().map(|path| entry(id, path, 1, true, true)).collect()
    };
    for id in NodeId::ALL {
        listing.page(id, page(id, &["a", "b/1", "b/2"]), true);
    }
    assert_eq!(listing.next_file().unwrap().path.as_str(), "a");
    assert_eq!(listing.next_file().unwrap().path.as_str(), "b/1");
    assert_eq!(listing.pass_over("b/"), NodeId::ALL);
    for id in NodeId::ALL {
        listing.page(id, page(id, &["b0", "c"]), false);
    }
    assert_eq!(listing.pass_over("b/"), []);
    assert_eq!(listing.next_file().unwrap().path.as_str(), "b0");
    assert_eq!(listing.next_file().unwrap().path.as_str(), "c");
    assert_eq!(listing.next_file(), None);
}
