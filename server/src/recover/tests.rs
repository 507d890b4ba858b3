use super::*;
use crate::index::{Index, codec, salvage::damage};
use crate::poison::Poison;
use crate::store::ChunkStore;
use dfs_proto::chunk::ChunkSet;
use dfs_proto::digest::Md5Digest;
use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::{Content, Incarnation, Record};
use dfs_proto::name::ClusterName;
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::Current;
use dfs_proto::tag::{Hlc, Tag};

const LIFE: Incarnation = Incarnation::new([7; 16]);

fn user() -> UserName {
    UserName::new("alice").unwrap()
}

/// A data directory whose index has these rows of paths.
fn data_dir(at: &Path, rows: &[(&str, &[u8])]) {
    let dir = DataDir::create(at).unwrap();
    ChunkStore::create(at).unwrap();
    Index::create(&dir.index(), LIFE).unwrap();
    dir.write_identity(&Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N1,
        incarnation: LIFE,
        boot: Boot { count: 1, nonce: 1 },
        rejoining: false,
    })
    .unwrap();
    let index = Index::open(&dir.index(), LIFE, Poison::default()).unwrap();
    for (path, row) in rows {
        damage::put_path(&index, &user(), path, row);
    }
}

/// The row of a file that needs no chunk.
fn empty_file() -> Vec<u8> {
    let sums = [Crc32c::default(); 4];
    let modified = "2026-11-22T10:00:00Z";
    let manifest = Manifest::new(Md5Digest::of(b""), 0, sums, modified, Default::default());
    let version = Version {
        tag: Tag { hlc: Hlc::new(1), writer: [0; 16] },
        upload: UploadId::new([1; 16]),
        content: Content::File(manifest.unwrap()),
    };
    let record = Record { version, have: ChunkSet::EMPTY };
    codec::put_current(&Current { record, confirmed: true })
}

#[test]
fn a_damaged_row_costs_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let [bad, good, out] = ["bad", "good", "out"].map(|name| dir.path().join(name));
    data_dir(&bad, &[("a", b"noise"), ("b", &empty_file())]);
    data_dir(&good, &[("c", &empty_file())]);
    let mut told = Vec::new();
    let from = [bad.clone(), good];
    let recovered = recover(&from, &out, &mut |line| told.push(line)).unwrap();
    assert_eq!(recovered.files, 2, "{told:?}");
    assert_eq!(recovered.without_index, [bad], "{told:?}");
    assert!(told[0].contains("bad: not all of its index can be read"), "{told:?}");
    assert!(recovered.warning().unwrap().contains("nobody can tell"));
    assert!(out.join("alice/b").is_file() && out.join("alice/c").is_file());
    let opened = Index::open(&from[0].join("index"), LIFE, Poison::default());
    assert!(opened.is_err(), "no node would start with it");
}
