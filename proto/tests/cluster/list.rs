//! What a listing says of a path, given the answers that a read of it has had: the same nodes,
//! the same moments, and no write-back.

use dfs_proto::manifest::Content;
use dfs_proto::name::FilePath;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::listing::{Entry, FileEntry, Listing};
use dfs_proto::protocol::read::{Read, Reply};
use dfs_proto::tag::Tag;

/// A listing of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// The file that it shows, and whether that is flagged.
    pub(crate) file: Option<(Tag, bool)>,
    /// The newest version among the answers, and whether that is a file.
    pub(crate) newest: Option<(Tag, bool)>,
}

/// Lists the path of a read; `None` where fewer than two nodes have answered.
pub(crate) fn list(read: &Read) -> Option<Shown> {
    let mut listing = Listing::start();
    let replies = read.replies();
    for (id, reply) in NodeId::ALL.into_iter().zip(&replies) {
        match reply {
            Some(reply) => listing.page(id, Vec::from_iter(entry(reply)), false),
            None => listing.fail(id),
        }
    }
    if listing.taking_part() < 2 {
        return None;
    }
    let file = listing.next_file().map(|listed| (listed.tag, listed.unconfirmed));
    let versions = replies.iter().flatten().filter_map(|reply| reply.current.as_ref());
    let newest = versions.map(|record| &record.version).max_by_key(|version| version.tag);
    let newest = newest.map(|version| (version.tag, version.content != Content::Tombstone));
    Some(Shown { file, newest })
}

fn entry(reply: &Reply) -> Option<Entry> {
    let record = reply.current.as_ref()?;
    let file = record.version.manifest().map(|manifest| FileEntry {
        upload: record.version.upload,
        size: manifest.size(),
        x: manifest.x(),
        have: record.have,
        manifest: None,
    });
    let path = FilePath::new("path").expect("a valid one");
    Some(Entry { path, tag: record.version.tag, confirmed: reply.confirmed, file })
}
