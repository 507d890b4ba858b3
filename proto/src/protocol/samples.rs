//! Values that the tests of the machines share.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::digest::{Crc32c, Md5Digest};
use crate::manifest::{Content, Incarnation, Manifest, UploadId, Version};
use crate::placement::{NodeId, PerNode};
use crate::protocol::NodeRef;
use crate::tag::{Hlc, Tag};

pub(crate) use NodeId::{N1, N2, N3, N4};

/// Beginning of the monotonic clock.
pub(crate) const START: Duration = Duration::ZERO;

/// All orders in which four nodes can answer.
pub(crate) fn orders() -> Vec<[NodeId; 4]> {
    all_of(&NodeId::ALL).filter(|order| NodeId::ALL.iter().all(|id| order.contains(id))).collect()
}

/// Every way to give each node one of `values`.
pub(crate) fn all_of<T: Copy>(values: &[T]) -> impl Iterator<Item = PerNode<T>> {
    let n = values.len();
    (0..n.pow(4))
        .map(move |code| [code % n, code / n % n, code / n.pow(2) % n, code / n.pow(3)])
        .map(|places| places.map(|place| values[place]))
}

/// The `number`th life of some disk.
pub(crate) fn life(number: u8) -> Incarnation {
    Incarnation::new([number; 16])
}

pub(crate) fn node_ref(node: NodeId, life_number: u8) -> NodeRef {
    NodeRef { node, incarnation: life(life_number) }
}

pub(crate) fn tag(number: u64) -> Tag {
    Tag { hlc: Hlc::new(number), writer: [1; 16] }
}

pub(crate) fn upload(number: u8) -> UploadId {
    UploadId::new([number; 16])
}

/// A file version of an upload, under a tag.
pub(crate) fn file(tag_number: u64, upload_number: u8) -> Version {
    Version {
        tag: tag(tag_number),
        upload: upload(upload_number),
        content: Content::File(MANIFESTS[usize::from(upload_number)].clone()),
    }
}

static MANIFESTS: LazyLock<[Manifest; 10]> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let content = number.to_string();
        let crcs = [Crc32c::of(content.as_bytes()); 4];
        let time = "2026-11-22T10:00:00Z";
        let md5 = Md5Digest::of(content.as_bytes());
        Manifest::new(md5, 4, crcs, time, BTreeMap::new()).expect("a sample manifest is valid")
    })
});

pub(crate) fn tombstone(tag_number: u64, upload_number: u8) -> Version {
    Version { content: Content::Tombstone, ..file(tag_number, upload_number) }
}
