//! What a node does with one path: (row, message, now) to (row, answer).
//!
//! Rules that hold for every row:
//! - the current tag never decreases;
//! - an upload is committed under one tag ever;
//! - the data of the current version is never removed;
//! - data is removed only by [`Row::drop_upload`] (fenced), [`Row::prune`] (superseded by
//!   a confirmed version, grace over) and [`Row::release`] (both homes hold it).

use std::collections::BTreeMap;

use crate::chunk::{ChunkId, ChunkSet};
use crate::manifest::{Content, Incarnation, Record, UploadId, Version};
use crate::placement::{NodeId, PerNode, home_chunks, homes};
use crate::protocol::{NodeRef, Refused};
use crate::tag::Tag;

/// A plain commit must rest on data prepared on this many nodes.
pub const PREPARED_NODES: usize = 3;

/// What one node knows of one path.
///
/// A caller may load only those uploads that its message names; the rules touch no other,
/// and may add one (a version that stops being current).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The newest version; absent answers like a confirmed tombstone older than everything.
    pub current: Option<Current>,
    /// Uploads that are not current.
    pub uploads: BTreeMap<UploadId, Upload>,
}

/// The newest version of a path on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The version and which of its chunks are here.
    pub record: Record,
    /// Whether it is known to be on at least three nodes.
    pub confirmed: bool,
}

/// An upload that is not the current version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its chunks on this node.
    pub have: ChunkSet,
    /// How far it has come.
    pub state: UploadState,
    /// When it came into this state, in milliseconds since 1970.
    pub since_ms: u64,
}

/// How far an upload has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadState {
    /// Chunks are durable, no Commit has arrived.
    Prepared,
    /// A plain Commit will be refused for ever.
    Fenced,
    /// Was current once, or arrived when a larger tag was current already.
    Superseded(Version),
}

/// What the node knows beside the row.
#[derive(Debug, Clone, Copy)]
pub struct NodeView {
    /// Its clock, milliseconds since 1970.
    pub now_ms: u64,
    /// Its own position.
    pub position: NodeId,
    /// Whether its disk was replaced and it is still catching up.
    pub rejoining: bool,
    /// The incarnations it knows, its own included.
    pub incarnations: PerNode<Option<Incarnation>>,
}

/// A request to make a version current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOrder {
    /// The version.
    pub version: Version,
    /// A reader spreading an existing version, not its writer committing it.
    pub write_back: bool,
    /// Whose data, or whose record, the request rests on.
    pub sources: Vec<NodeRef>,
}

/// A commit was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// A larger tag is current.
    pub superseded: bool,
}

/// What a fence found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceAnswer {
    /// No plain Commit of the upload will be taken any more.
    Fenced,
    /// Too late: it is this version.
    Committed(Record),
}

/// Why an upload's data may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropEvidence {
    /// The putting client says that it never sent a Commit.
    NeverCommitted,
    /// All four nodes answered that it is fenced.
    FencedBy(PerNode<Incarnation>),
}

/// A request to give up chunks that a node took in for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseOrder {
    /// The version; it must be current and confirmed.
    pub tag: Tag,
    /// Its upload.
    pub upload: UploadId,
    /// The chunks.
    pub chunks: ChunkSet,
    /// Their home nodes, which have just been seen to hold them.
    pub homes: Vec<NodeRef>,
}

impl Row {
    /// The tag of the newest version; `None`, below all tags, where there is none.
    pub fn tag(&self) -> Option<Tag> {
        self.current.as_ref().map(|current| current.record.version.tag)
    }

    /// The chunks of `upload` that are here, whatever became of it.
    pub fn have(&self, upload: UploadId) -> ChunkSet {
        match (self.current_upload(upload), self.uploads.get(&upload)) {
            (Some(record), _) => record.have,
            (None, Some(upload)) => upload.have,
            (None, None) => ChunkSet::EMPTY,
        }
    }

    /// The committed version that `upload` is, if it is one.
    pub fn committed(&self, upload: UploadId) -> Option<Record> {
        if let Some(record) = self.current_upload(upload) {
            return Some(record.clone());
        }
        let upload = self.uploads.get(&upload)?;
        match &upload.state {
            UploadState::Superseded(version) => {
                Some(Record { version: version.clone(), have: upload.have })
            }
            UploadState::Prepared | UploadState::Fenced => None,
        }
    }

    fn current_upload(&self, upload: UploadId) -> Option<&Record> {
        let record = &self.current.as_ref()?.record;
        (record.version.upload == upload).then_some(record)
    }

    /// Whether chunks of `upload` may be stored now.
    pub fn may_prepare(&self, node: &NodeView, upload: UploadId) -> Result<(), Refused> {
        if node.rejoining {
            return Err(Refused::Rejoining);
        }
        match self.uploads.get(&upload) {
            Some(Upload { state: UploadState::Fenced, .. }) => Err(Refused::Fenced),
            _ => Ok(()),
        }
    }

    /// Records that `chunk` of `upload` is durable.
    pub fn prepare(
        &mut self,
        node: &NodeView,
        upload: UploadId,
        chunk: ChunkId,
    ) -> Result<(), Refused> {
        self.may_prepare(node, upload)?;
        if self.current_upload(upload).is_none() {
            self.uploads.entry(upload).or_insert(Upload {
                have: ChunkSet::EMPTY,
                state: UploadState::Prepared,
                since_ms: node.now_ms,
            });
        }
        self.hold(upload, chunk);
        Ok(())
    }

    /// Counts a chunk of an upload that the row knows as held.
    fn hold(&mut self, upload: UploadId, chunk: ChunkId) {
        match &mut self.current {
            Some(current) if current.record.version.upload == upload => {
                current.record.have = current.record.have.with(chunk);
            }
            _ => {
                if let Some(upload) = self.uploads.get_mut(&upload) {
                    upload.have = upload.have.with(chunk);
                }
            }
        }
    }

    /// Makes a version current if its tag is the largest; else keeps it as superseded.
    pub fn commit(&mut self, node: &NodeView, order: &CommitOrder) -> Result<Ack, Refused> {
        let Version { tag, upload, .. } = order.version;
        if node.rejoining && !order.write_back {
            return Err(Refused::Rejoining);
        }
        if tag.hlc.is_future(node.now_ms) {
            let ahead_ms = tag.hlc.ms().saturating_sub(node.now_ms);
            return Err(Refused::FutureTag { ahead_ms });
        }
        check_sources(node, &order.sources)?;
        if let Some(record) = self.committed(upload) {
            return if record.version.tag == tag {
                Ok(Ack { superseded: self.tag() > Some(tag) })
            } else {
                Err(Refused::TagConflict)
            };
        }
        if self.tag() == Some(tag) {
            return Err(Refused::TagConflict);
        }
        if !order.write_back {
            self.check_prepared(node, order)?;
        }
        Ok(self.take(node.now_ms, order.version.clone()))
    }

    /// Refuses a plain commit of a fenced upload, or of one that is not prepared as it claims.
    fn check_prepared(&self, node: &NodeView, order: &CommitOrder) -> Result<(), Refused> {
        let upload = self.uploads.get(&order.version.upload);
        if upload.is_some_and(|upload| upload.state == UploadState::Fenced) {
            return Err(Refused::Fenced);
        }
        if order.version.content == Content::Tombstone {
            return Ok(());
        }
        let mut nodes: Vec<NodeId> = order.sources.iter().map(|source| source.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let named = nodes.contains(&node.position);
        if nodes.len() < PREPARED_NODES || (named && upload.is_none_or(|u| u.have.is_empty())) {
            return Err(Refused::NotPrepared);
        }
        Ok(())
    }

    fn take(&mut self, now_ms: u64, version: Version) -> Ack {
        let staged = self.uploads.remove(&version.upload);
        let have = staged.map_or(ChunkSet::EMPTY, |upload| upload.have);
        let superseded = self.tag() > Some(version.tag);
        let record = Record { version, have };
        if superseded {
            self.supersede(now_ms, record);
        } else if let Some(old) = self.current.replace(Current { record, confirmed: false }) {
            self.supersede(now_ms, old.record);
        }
        Ack { superseded }
    }

    /// Remembers a version that is not current. A tombstone has no data to keep.
    fn supersede(&mut self, now_ms: u64, Record { version, have }: Record) {
        if version.content == Content::Tombstone {
            return;
        }
        let upload = version.upload;
        let state = UploadState::Superseded(version);
        self.uploads.insert(upload, Upload { have, state, since_ms: now_ms });
    }

    /// Records that the current version is on three nodes; nothing where `tag` is not current.
    pub fn confirm(&mut self, tag: Tag) {
        if let Some(current) = &mut self.current
            && current.record.version.tag == tag
        {
            current.confirmed = true;
        }
    }

    /// Forbids every plain Commit of `upload` from now on, unless it is committed.
    pub fn fence(&mut self, node: &NodeView, upload: UploadId) -> Result<FenceAnswer, Refused> {
        if node.rejoining {
            return Err(Refused::Rejoining);
        }
        if let Some(record) = self.committed(upload) {
            return Ok(FenceAnswer::Committed(record));
        }
        self.set_fence(node.now_ms, upload);
        Ok(FenceAnswer::Fenced)
    }

    fn set_fence(&mut self, now_ms: u64, upload: UploadId) {
        let fenced =
            Upload { have: self.have(upload), state: UploadState::Fenced, since_ms: now_ms };
        let upload = self.uploads.entry(upload).or_insert(fenced.clone());
        if upload.state != UploadState::Fenced {
            *upload = fenced;
        }
    }

    /// Takes what a peer holds current, for a node that is coming back: the larger tag stays,
    /// with the chunks that are here, and a mark that it is on three nodes is kept.
    pub fn adopt(&mut self, now_ms: u64, version: Version, confirmed: bool) {
        let tag = version.tag;
        if self.tag() < Some(tag) && self.committed(version.upload).is_none() {
            self.take(now_ms, version);
        }
        if confirmed {
            self.confirm(tag);
        }
    }

    /// Takes over a peer's fence, data or not, unless the upload is committed here.
    pub fn adopt_fence(&mut self, now_ms: u64, upload: UploadId) {
        if self.committed(upload).is_none() {
            self.set_fence(now_ms, upload);
        }
    }

    /// Gives up the data of a fenced upload and returns which chunks to remove. The fence stays.
    pub fn drop_upload(
        &mut self,
        node: &NodeView,
        upload: UploadId,
        evidence: &DropEvidence,
    ) -> Result<ChunkSet, Refused> {
        let fenced = match self.uploads.get_mut(&upload) {
            Some(upload) if upload.state == UploadState::Fenced => upload,
            _ => return Err(Refused::NotFenced),
        };
        if let DropEvidence::FencedBy(incarnations) = evidence {
            let refs =
                NodeId::ALL.map(|node| NodeRef { node, incarnation: incarnations[node.index()] });
            check_sources(node, &refs)?;
        }
        Ok(std::mem::take(&mut fenced.have))
    }

    /// Forgets a superseded version whose grace is over and returns which chunks to remove.
    /// `None` where it must stay: nothing newer is confirmed here, or the grace is not over.
    pub fn prune(&mut self, now_ms: u64, grace_ms: u64, upload: UploadId) -> Option<ChunkSet> {
        let current = self.current.as_ref().filter(|current| current.confirmed)?;
        let old = self.uploads.get(&upload)?;
        let UploadState::Superseded(version) = &old.state else {
            return None;
        };
        let over = now_ms.saturating_sub(old.since_ms) >= grace_ms;
        if !over || version.tag >= current.record.version.tag {
            return None;
        }
        self.uploads.remove(&upload).map(|old| old.have)
    }

    /// Whether `chunk` of a version, copied from another node, may be counted as held. Only
    /// data of a version is ever copied; an upload that is not committed here may be gone.
    pub fn may_restore(&self, node: &NodeView, upload: UploadId) -> Result<(), Refused> {
        if node.rejoining {
            return Err(Refused::Rejoining);
        }
        if self.committed(upload).is_some() { Ok(()) } else { Err(Refused::NotCommitted) }
    }

    /// Records that `chunk` of a version was copied here and is durable.
    pub fn restore(
        &mut self,
        node: &NodeView,
        upload: UploadId,
        chunk: ChunkId,
    ) -> Result<(), Refused> {
        self.may_restore(node, upload)?;
        self.hold(upload, chunk);
        Ok(())
    }

    /// Gives up chunks of the current version that live on other nodes and returns which to
    /// remove. Each of their homes must be named and be the node it was.
    pub fn release(&mut self, node: &NodeView, order: &ReleaseOrder) -> Result<ChunkSet, Refused> {
        check_sources(node, &order.homes)?;
        let current = self.current.as_mut().filter(|current| {
            let version = &current.record.version;
            current.confirmed && version.tag == order.tag && version.upload == order.upload
        });
        let Some(current) = current else {
            return Err(Refused::NotCurrent);
        };
        let Some(manifest) = current.record.version.manifest() else {
            return Err(Refused::NotCurrent);
        };
        let named = |home: NodeId| order.homes.iter().any(|named| named.node == home);
        let foreign = order.chunks.minus(home_chunks(manifest.x(), node.position));
        if foreign != order.chunks {
            return Err(Refused::AtHome);
        }
        let homes_named = |chunk: ChunkId| homes(manifest.x(), chunk).into_iter().all(named);
        if !order.chunks.iter().all(homes_named) {
            return Err(Refused::NotPrepared);
        }
        let kept = current.record.have.minus(order.chunks);
        let released = current.record.have.minus(kept);
        current.record.have = kept;
        Ok(released)
    }

    /// Records that chunks turned out to be unreadable. Never read as "deleted".
    pub fn lose_chunks(&mut self, upload: UploadId, lost: ChunkSet) {
        if let Some(current) = &mut self.current
            && current.record.version.upload == upload
        {
            current.record.have = current.record.have.minus(lost);
        }
        if let Some(upload) = self.uploads.get_mut(&upload) {
            upload.have = upload.have.minus(lost);
        }
    }
}

/// Refuses what rests on an incarnation that this node knows to be gone; of a new disk, which has yet
/// to hear which are gone, also what rests on a node that it has not met.
fn check_sources(node: &NodeView, sources: &[NodeRef]) -> Result<(), Refused> {
    for source in sources {
        match node.incarnations[source.node.index()] {
            Some(known) if known != source.incarnation => {
                return Err(Refused::PrepareLost(NodeRef {
                    node: source.node,
                    incarnation: known,
                }));
            }
            None if node.rejoining => return Err(Refused::Rejoining),
            Some(_) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
