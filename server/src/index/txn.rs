//! Looking things up in the index, and changing them in a transaction.
//!
//! A transaction sees the database, over it what earlier transactions of the same group
//! changed, and over that its own changes.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::{Row, Upload};

use super::codec::{self, ChunkEntry, Peer, ScrubPlace};
use super::usage::{SetAside, Tally};
use super::{Database, IndexError, Space};
use crate::chunk_key::ChunkKey;

/// Point reads of the index, whatever they are answered from.
pub(crate) trait Lookup {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// The row of a path, with those of the named uploads that are in it.
    fn row(
        &self,
        user: &UserName,
        path: &FilePath,
        uploads: &[UploadId],
    ) -> Result<Row, IndexError> {
        let mut row = Row::default();
        if let Some(bytes) = self.get(Space::Paths, &codec::path_key(user, path.as_str()))? {
            row.current = Some(codec::read_current(&bytes)?);
        }
        for id in uploads {
            if let Some(upload) = self.upload(user, path, *id)? {
                row.uploads.insert(*id, upload);
            }
        }
        Ok(row)
    }

    /// An upload of a path that is not its current version.
    fn upload(
        &self,
        user: &UserName,
        path: &FilePath,
        upload: UploadId,
    ) -> Result<Option<Upload>, IndexError> {
        let bytes = self.get(Space::Uploads, &codec::upload_key(user, path, upload))?;
        Ok(bytes.as_deref().map(codec::read_upload).transpose()?)
    }

    /// What is held of a chunk.
    fn chunk(&self, key: &ChunkKey) -> Result<Option<ChunkEntry>, IndexError> {
        let bytes = self.get(Space::Chunks, &codec::chunk_key(key))?;
        Ok(bytes.as_ref().map(codec::read_chunk).transpose()?)
    }

    /// Where the scrub is.
    fn scrub(&self) -> Result<ScrubPlace, IndexError> {
        let bytes = self.get(Space::Meta, codec::SCRUB_KEY)?;
        Ok(bytes.as_deref().map(codec::read_scrub).transpose()?.unwrap_or_default())
    }

    /// What is remembered of a node.
    fn peer(&self, node: NodeId) -> Result<Option<Peer>, IndexError> {
        let bytes = self.get(Space::Meta, &codec::peer_key(node))?;
        Ok(bytes.as_deref().map(codec::read_peer).transpose()?)
    }
}

/// Keys of each space and what becomes of their values; `None` removes.
pub(super) type Changes = [HashMap<Vec<u8>, Option<Bytes>>; Space::ALL.len()];

/// Changes not yet in the database.
#[derive(Default)]
pub(super) struct Overlay {
    changes: Changes,
    bytes: usize,
}

impl Overlay {
    fn get(&self, space: Space, key: &[u8]) -> Option<&Option<Bytes>> {
        self.changes[space as usize].get(key)
    }

    fn set(&mut self, space: Space, key: Vec<u8>, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.changes[space as usize].insert(key, value);
    }

    /// Puts `later` over this.
    pub(super) fn absorb(&mut self, later: Self) {
        self.bytes += later.bytes;
        for (changes, later) in self.changes.iter_mut().zip(later.changes) {
            changes.extend(later);
        }
    }

    /// About how many bytes the changes have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All changes, to be written.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }
}

/// One transaction. Its changes take effect together or, where its closure fails, not at all.
pub(crate) struct Txn<'a> {
    database: &'a Database,
    group: &'a Overlay,
    own: Overlay,
    tally: Tally,
    /// The path that was looked up last in the database, and what it has: the chunks of a file come
    /// one after the other.
    last_path: RefCell<Option<(Vec<u8>, Option<Bytes>)>>,
}

impl<'a> Txn<'a> {
    pub(super) fn new(database: &'a Database, group: &'a Overlay) -> Self {
        let (own, tally) = (Overlay::default(), Tally::default());
        Self { database, group, own, tally, last_path: RefCell::default() }
    }

    pub(super) fn into_changes(self) -> (Overlay, Tally) {
        (self.own, self.tally)
    }

    /// Writes back what changed in a row since it was loaded.
    pub(crate) fn put_row(&mut self, user: &UserName, path: &FilePath, before: &Row, after: &Row) {
        self.tally.row(user, path, before, after);
        if before.current != after.current {
            let value = after.current.as_ref().map(codec::put_current);
            let key = codec::path_key(user, path.as_str());
            self.own.set(Space::Paths, key, value.map(Bytes::from));
        }
        let added = after.uploads.keys().filter(|id| !before.uploads.contains_key(id));
        for id in before.uploads.keys().chain(added) {
            let upload = after.uploads.get(id);
            if upload != before.uploads.get(id) {
                let value = upload.map(codec::put_upload);
                let key = codec::upload_key(user, path, *id);
                self.own.set(Space::Uploads, key, value.map(Bytes::from));
            }
        }
    }

    /// Puts in a chunk that is not there.
    pub(crate) fn put_chunk(&mut self, key: &ChunkKey, entry: &ChunkEntry) {
        self.tally.chunk_came(key, entry);
        let value = codec::put_chunk(entry).into();
        self.own.set(Space::Chunks, codec::chunk_key(key), Some(value));
    }

    /// Removes a chunk that is there as `entry`.
    pub(crate) fn remove_chunk(&mut self, key: &ChunkKey, entry: &ChunkEntry) {
        self.tally.chunk_went(key, entry);
        self.own.set(Space::Chunks, codec::chunk_key(key), None);
    }

    /// A chunk that was put in is the one for which this was set aside.
    pub(crate) fn arrived(&mut self, room: SetAside) {
        self.tally.arrived(room);
    }

    pub(crate) fn put_scrub(&mut self, place: &ScrubPlace) {
        let value = codec::put_scrub(place).into();
        self.own.set(Space::Meta, codec::SCRUB_KEY.to_vec(), Some(value));
    }

    pub(crate) fn put_peer(&mut self, node: NodeId, peer: &Peer) {
        let value = codec::put_peer(peer).into();
        self.own.set(Space::Meta, codec::peer_key(node), Some(value));
    }
}

impl Lookup for Txn<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        for overlay in [&self.own, self.group] {
            if let Some(value) = overlay.get(space, key) {
                return Ok(value.clone());
            }
        }
        if space != Space::Paths {
            return self.database.get(space, key);
        }
        let mut last = self.last_path.borrow_mut();
        match &*last {
            Some((path, value)) if path == key => Ok(value.clone()),
            _ => {
                let value = self.database.get(space, key)?;
                *last = Some((key.to_vec(), value.clone()));
                Ok(value)
            }
        }
    }
}
