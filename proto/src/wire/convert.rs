//! Conversions between protobuf and the rules. From protobuf they can fail, and then name the
//! field; to protobuf they cannot.

use crate::chunk::{ChunkId, ChunkSet};
use crate::digest::{Crc32c, Md5Digest, Residue};
use crate::identity::{Boot, Identity, IndexAge, Introduction};
use crate::manifest::{Content, Incarnation, Manifest, Record, UploadId, Version};
use crate::name::{ClusterName, FilePath, NameError};
use crate::placement::{NodeId, PerNode};
use crate::protocol::NodeRef;
use crate::protocol::listing::{Entry, FileEntry};
use crate::protocol::read::Reply;
use crate::protocol::row::DropEvidence;
use crate::tag::{Hlc, Tag};
use crate::wire::pb;

/// A field of a message is missing or out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Malformed {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is a name that is not valid.
    pub is_name: bool,
}

impl Malformed {
    /// Says what is wrong with a field.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into(), is_name: false }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Reads a path.
pub fn path(field: &'static str, text: &str) -> Result<FilePath, Malformed> {
    FilePath::new(text).map_err(|error| bad_name(field, &error))
}

/// Says that a name is not valid.
pub fn bad_name(field: &'static str, error: &NameError) -> Malformed {
    Malformed { field, why: error.to_string(), is_name: true }
}

/// Reads an upload id.
pub fn upload_id(field: &'static str, bytes: &[u8]) -> Result<UploadId, Malformed> {
    Ok(UploadId::new(sixteen(field, bytes)?))
}

/// Reads an incarnation.
pub fn incarnation(field: &'static str, bytes: &[u8]) -> Result<Incarnation, Malformed> {
    Ok(Incarnation::new(sixteen(field, bytes)?))
}

/// Reads a chunk number.
pub fn chunk_id(field: &'static str, number: u32) -> Result<ChunkId, Malformed> {
    ChunkId::new(number).ok_or_else(|| Malformed::new(field, format!("is {number}, not 1..4")))
}

/// Reads a set of chunks.
pub fn chunk_set(field: &'static str, mask: u32) -> Result<ChunkSet, Malformed> {
    ChunkSet::from_mask(mask).ok_or_else(|| Malformed::new(field, format!("is {mask}, not 0..15")))
}

/// Reads a position.
pub fn node_id(field: &'static str, number: u32) -> Result<NodeId, Malformed> {
    NodeId::new(number).ok_or_else(|| Malformed::new(field, format!("is {number}, not 1..4")))
}

fn sixteen(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed::new(field, format!("has {} bytes, 16 are needed", bytes.len())))
}

fn residue(field: &'static str, x: u32) -> Result<Residue, Malformed> {
    Residue::new(x).ok_or_else(|| Malformed::new(field, format!("is {x}, not 0..3")))
}

impl TryFrom<&pb::Tag> for Tag {
    type Error = Malformed;

    fn try_from(tag: &pb::Tag) -> Result<Self, Malformed> {
        Ok(Self { hlc: Hlc::new(tag.hlc), writer: sixteen("tag.writer", &tag.writer)? })
    }
}

impl From<Tag> for pb::Tag {
    fn from(tag: Tag) -> Self {
        Self { hlc: tag.hlc.get(), writer: tag.writer.to_vec() }
    }
}

/// Reads a tag that must be there.
pub fn tag(field: &'static str, tag: Option<&pb::Tag>) -> Result<Tag, Malformed> {
    tag.ok_or_else(|| Malformed::missing(field))?.try_into()
}

impl TryFrom<&pb::Manifest> for Manifest {
    type Error = Malformed;

    fn try_from(manifest: &pb::Manifest) -> Result<Self, Malformed> {
        let field = "manifest.chunks";
        let [a, b, c, d] = &manifest.chunks[..] else {
            let found = manifest.chunks.len();
            return Err(Malformed::new(field, format!("has {found} entries, 4 are needed")));
        };
        let sums = [a, b, c, d];
        if manifest.layout() != pb::Layout::Pairs {
            return Err(Malformed::new("manifest.layout", "is not LAYOUT_PAIRS"));
        }
        let md5 = Md5Digest::new(sixteen("manifest.md5", &manifest.md5)?);
        let crcs = sums.map(|sum| Crc32c::new(sum.crc32c));
        let converted = Self::new(
            md5,
            manifest.size,
            crcs,
            &*manifest.modified,
            manifest.metadata.clone().into_iter().collect(),
        )
        .map_err(|error| Malformed::new("manifest", error.to_string()))?;
        for chunk in ChunkId::ALL {
            let (found, expected) = (sums[chunk.index()].length, converted.chunk(chunk).length);
            if found != expected {
                let why = format!("chunk {chunk} has {found} bytes, the size asks for {expected}");
                return Err(Malformed::new(field, why));
            }
        }
        if manifest.x != u32::from(converted.x().get()) {
            let why = format!("is {}, the MD5 gives {}", manifest.x, converted.x().get());
            return Err(Malformed::new("manifest.x", why));
        }
        Ok(converted)
    }
}

impl From<&Manifest> for pb::Manifest {
    fn from(manifest: &Manifest) -> Self {
        let chunks = ChunkId::ALL.map(|chunk| {
            let sum = manifest.chunk(chunk);
            pb::ChunkInfo { length: sum.length, crc32c: sum.crc.get() }
        });
        Self {
            size: manifest.size(),
            md5: manifest.md5().bytes().to_vec(),
            x: manifest.x().get().into(),
            layout: pb::Layout::Pairs.into(),
            chunks: chunks.to_vec(),
            modified: manifest.modified().to_owned(),
            metadata: manifest.metadata().clone().into_iter().collect(),
        }
    }
}

/// Reads a manifest that must be there.
pub fn manifest(
    field: &'static str,
    manifest: Option<&pb::Manifest>,
) -> Result<Manifest, Malformed> {
    manifest.ok_or_else(|| Malformed::missing(field))?.try_into()
}

impl TryFrom<&pb::Record> for Record {
    type Error = Malformed;

    fn try_from(record: &pb::Record) -> Result<Self, Malformed> {
        let content = match (record.kind(), &record.manifest) {
            (pb::Kind::File, manifest_) => {
                Content::File(manifest("record.manifest", manifest_.as_ref())?)
            }
            (pb::Kind::Tombstone, None) => Content::Tombstone,
            (pb::Kind::Tombstone, Some(_)) => {
                return Err(Malformed::new("record.manifest", "does not belong to a tombstone"));
            }
            (pb::Kind::Unspecified, _) => return Err(Malformed::missing("record.kind")),
        };
        let version = Version {
            tag: tag("record.tag", record.tag.as_ref())?,
            upload: upload_id("record.upload_id", &record.upload_id)?,
            content,
        };
        Ok(Self { version, have: chunk_set("record.have", record.have)? })
    }
}

impl From<&Version> for pb::Record {
    fn from(version: &Version) -> Self {
        let (kind, manifest) = match &version.content {
            Content::File(manifest) => (pb::Kind::File, Some(manifest.into())),
            Content::Tombstone => (pb::Kind::Tombstone, None),
        };
        Self {
            tag: Some(version.tag.into()),
            kind: kind.into(),
            upload_id: version.upload.bytes().to_vec(),
            manifest,
            have: 0,
        }
    }
}

impl From<&Record> for pb::Record {
    fn from(record: &Record) -> Self {
        Self { have: record.have.mask().into(), ..Self::from(&record.version) }
    }
}

impl TryFrom<&pb::NodeIdentity> for Identity {
    type Error = Malformed;

    fn try_from(node: &pb::NodeIdentity) -> Result<Self, Malformed> {
        let rejoining = match node.status() {
            pb::NodeStatus::Serving => false,
            pb::NodeStatus::Rejoining => true,
            pb::NodeStatus::Unspecified => return Err(Malformed::missing("node.status")),
        };
        Ok(Self {
            cluster: ClusterName::new(&*node.cluster)
                .map_err(|error| bad_name("node.cluster", &error))?,
            node: node_id("node.position", node.position)?,
            incarnation: incarnation("node.incarnation", &node.incarnation)?,
            boot: Boot { count: node.boot, nonce: node.boot_nonce },
            rejoining,
        })
    }
}

impl From<&Identity> for pb::NodeIdentity {
    fn from(node: &Identity) -> Self {
        let status =
            if node.rejoining { pb::NodeStatus::Rejoining } else { pb::NodeStatus::Serving };
        Self {
            cluster: node.cluster.as_str().to_owned(),
            position: node.node.get().into(),
            incarnation: node.incarnation.bytes().to_vec(),
            boot: node.boot.count,
            boot_nonce: node.boot.nonce,
            status: status.into(),
        }
    }
}

/// Reads a node identity that must be there.
pub fn identity(node: Option<&pb::NodeIdentity>) -> Result<Identity, Malformed> {
    node.ok_or_else(|| Malformed::missing("node"))?.try_into()
}

/// Reads how a node introduces itself.
pub fn introduction(
    node: Option<&pb::NodeIdentity>,
    index: Option<&pb::IndexAge>,
) -> Result<Introduction, Malformed> {
    let pb::IndexAge { at_start, now } = *index.ok_or_else(|| Malformed::missing("index"))?;
    Ok(Introduction { identity: identity(node)?, index: IndexAge { at_start, now } })
}

impl From<IndexAge> for pb::IndexAge {
    fn from(IndexAge { at_start, now }: IndexAge) -> Self {
        Self { at_start, now }
    }
}

impl TryFrom<&pb::NodeRef> for NodeRef {
    type Error = Malformed;

    fn try_from(node: &pb::NodeRef) -> Result<Self, Malformed> {
        Ok(Self {
            node: node_id("position", node.position)?,
            incarnation: incarnation("incarnation", &node.incarnation)?,
        })
    }
}

impl From<NodeRef> for pb::NodeRef {
    fn from(node: NodeRef) -> Self {
        Self { position: node.node.get().into(), incarnation: node.incarnation.bytes().to_vec() }
    }
}

/// Reads what a node said of a path.
pub fn reply(node: &Identity, stat: &pb::PathStat) -> Result<Reply, Malformed> {
    Ok(Reply {
        incarnation: node.incarnation,
        current: stat.current.as_ref().map(Record::try_from).transpose()?,
        confirmed: stat.confirmed,
        proposed: Hlc::new(stat.proposed_hlc),
    })
}

/// Reads why an upload may be dropped.
pub fn drop_evidence(entry: &pb::DropEntry) -> Result<DropEvidence, Malformed> {
    if entry.never_committed {
        return Ok(DropEvidence::NeverCommitted);
    }
    Ok(DropEvidence::FencedBy(fenced_by(&entry.fenced_by)?))
}

/// Reads under which incarnations all four nodes fenced an upload.
pub fn fenced_by(nodes: &[pb::NodeRef]) -> Result<PerNode<Incarnation>, Malformed> {
    let refs: Vec<NodeRef> = nodes.iter().map(NodeRef::try_from).collect::<Result<_, _>>()?;
    let find = |id: NodeId| refs.iter().find(|node| node.node == id).map(|node| node.incarnation);
    let found: Vec<Incarnation> = NodeId::ALL.into_iter().filter_map(find).collect();
    found.try_into().map_err(|_| Malformed::new("fenced_by", "does not name all four nodes"))
}

/// Reads the version that an entry of a full listing is, with its path and whether it is
/// confirmed.
pub fn listed_version(entry: &pb::ListEntry) -> Result<(FilePath, Version, bool), Malformed> {
    let content = match entry.kind() {
        pb::Kind::Unspecified => return Err(Malformed::missing("entry.kind")),
        pb::Kind::Tombstone => Content::Tombstone,
        pb::Kind::File => Content::File(manifest("entry.manifest", entry.manifest.as_ref())?),
    };
    let version = Version {
        tag: tag("entry.tag", entry.tag.as_ref())?,
        upload: upload_id("entry.upload_id", &entry.upload_id)?,
        content,
    };
    Ok((path("entry.path", &entry.path)?, version, entry.confirmed))
}

fn boxed(manifest: &pb::Manifest) -> Result<Box<Manifest>, Malformed> {
    manifest.try_into().map(Box::new)
}

impl TryFrom<&pb::ListEntry> for Entry {
    type Error = Malformed;

    fn try_from(entry: &pb::ListEntry) -> Result<Self, Malformed> {
        let file = match entry.kind() {
            pb::Kind::Unspecified => return Err(Malformed::missing("entry.kind")),
            pb::Kind::Tombstone => None,
            pb::Kind::File => Some(FileEntry {
                upload: upload_id("entry.upload_id", &entry.upload_id)?,
                size: entry.size,
                x: residue("entry.x", entry.x)?,
                have: chunk_set("entry.have", entry.have)?,
                manifest: entry.manifest.as_ref().map(boxed).transpose()?,
            }),
        };
        Ok(Self {
            path: path("entry.path", &entry.path)?,
            tag: tag("entry.tag", entry.tag.as_ref())?,
            confirmed: entry.confirmed,
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn manifests() -> impl Strategy<Value = Manifest> {
        let metadata = prop::collection::btree_map("[a-z]{1,64}", ".{0,99}", 0..4);
        (any::<[u8; 16]>(), 4..crate::chunk::MAX_FILE_BYTES, any::<[u32; 4]>(), metadata).prop_map(
            |(md5, size, crcs, metadata)| {
                let crcs = crcs.map(Crc32c::new);
                Manifest::new(Md5Digest::new(md5), size, crcs, "2026-11-22T10:00:00Z", metadata)
                    .unwrap()
            },
        )
    }

    proptest! {
        #[test]
        fn records_survive_the_wire(
            manifest in prop::option::of(manifests()),
            hlc: u64, writer: [u8; 16], upload: [u8; 16], have in 0u32..16,
        ) {
            let record = Record {
                version: Version {
                    tag: Tag { hlc: Hlc::new(hlc), writer },
                    upload: UploadId::new(upload),
                    content: manifest.map_or(Content::Tombstone, Content::File),
                },
                have: ChunkSet::from_mask(have).unwrap(),
            };
            prop_assert_eq!(Record::try_from(&pb::Record::from(&record)), Ok(record));
        }

        #[test]
        fn any_record_is_read_or_refused_without_panic(
            kind: i32, writer: Vec<u8>, upload_id: Vec<u8>, have: u32, x: u32, layout: i32,
            md5: Vec<u8>, size: u64, lengths: Vec<u64>, modified: String, some: bool,
        ) {
            let chunks = lengths.iter().map(|length| pb::ChunkInfo { length: *length, crc32c: 1 });
            let manifest = pb::Manifest {
                size, md5, x, layout, chunks: chunks.collect(), modified, metadata: Default::default(),
            };
            let record = pb::Record {
                tag: Some(pb::Tag { hlc: 1, writer }), kind, upload_id,
                manifest: some.then_some(manifest), have,
            };
            let _ = Record::try_from(&record);
        }
    }

    fn good() -> pb::Manifest {
        let crcs = [Crc32c::new(1); 4];
        let manifest =
            Manifest::new(Md5Digest::of(b"a"), 9, crcs, "2026-11-22T10:00:00Z", BTreeMap::new());
        pb::Manifest::from(&manifest.unwrap())
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused_by_field() {
        let refused = |change: fn(&mut pb::Manifest)| {
            let mut manifest = good();
            change(&mut manifest);
            Manifest::try_from(&manifest).unwrap_err().field
        };
        assert!(Manifest::try_from(&good()).is_ok());
        assert_eq!(refused(|m| m.x = 0), "manifest.x");
        assert_eq!(refused(|m| m.layout = 0), "manifest.layout");
        assert_eq!(refused(|m| m.chunks[0].length += 1), "manifest.chunks");
        assert_eq!(refused(|m| m.chunks.truncate(3)), "manifest.chunks");
        assert_eq!(refused(|m| m.md5.truncate(3)), "manifest.md5");
        assert_eq!(refused(|m| m.size = 1 << 60), "manifest");
        assert_eq!(refused(|m| m.modified.clear()), "manifest");
    }
}
