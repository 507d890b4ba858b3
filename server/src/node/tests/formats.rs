//! A data directory that was written before: `tests/fixtures/data-v1` of the repository. What a
//! change of the formats on disk must still be able to read.
//!
//! To make it anew, for formats that nobody has data in yet:
//! `cargo test -p dfs-server a_data_directory_is_written -- --ignored`

use super::*;
use crate::identity::DataDir;
use dfs_proto::protocol::row::UploadState;
use std::fs;
use std::path::Path;

/// Its chunks are files, and as short as those can be.
const JUST_LARGE: usize = 4 * ((64 << 10) + 1);

/// Its chunks are in the index, but not in its tables.
const SEPARATED: usize = 6000;

struct Files {
    small: File,
    large: File,
    replaced: File,
    removed: File,
    prepared: File,
    fenced: File,
}

fn files() -> Files {
    Files {
        small: File::new("small", 1, SEPARATED),
        large: File::new("folder/large", 2, JUST_LARGE),
        replaced: File::new("small", 3, SMALL),
        removed: File::new("removed", 4, 0),
        prepared: File::new("prepared", 5, SMALL),
        fenced: File::new("fenced", 6, SMALL),
    }
}

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data-v1")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn peer() -> Identity {
    Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N2,
        incarnation: Incarnation::new([9; 16]),
        boot: Boot { count: 3, nonce: 4 },
        rejoining: false,
    }
}

impl Fixture {
    /// Has the index write all its tables.
    async fn flushed(self) -> Self {
        self.node.close(Duration::from_secs(5)).await;
        let Self { dir, node } = self;
        drop(node);
        let database = fjall::Database::builder(dir.path().join("index")).open().unwrap();
        for name in ["paths", "uploads", "chunks", "meta"] {
            let space = database.keyspace(name, || unreachable!("it exists")).unwrap();
            space.rotate_memtable_and_wait().unwrap();
        }
        drop(database);
        let node = open(&dir, Duration::from_secs(900), Quotas::default(), None);
        Self { dir, node }
    }
}

#[tokio::test]
#[ignore = "writes into the repository"]
async fn a_data_directory_is_written() {
    let fixture = Fixture::new();
    let Files { small, large, replaced, removed, prepared, fenced } = files();
    let met = Introduction { identity: peer(), index: IndexAge { at_start: 5, now: 6 } };
    fixture.node.meet(met).await.unwrap();
    for (file, chunks, hlc) in
        [(&replaced, &[C1, C2][..], 1), (&small, &[C1, C2], 2), (&large, &[C2], 3)]
    {
        fixture.put(file, chunks).await.unwrap();
        fixture.commit(file, hlc).await.unwrap();
    }
    let mut tombstone = removed.order(4);
    tombstone.version.content = Content::Tombstone;
    let tag = tombstone.version.tag;
    let order = vec![(removed.path.clone(), tombstone)];
    fixture.node.commit(alice(), order).await.unwrap().remove(0).unwrap();
    fixture.node.confirm(alice(), vec![(removed.path.clone(), tag)]).await.unwrap();
    // So far everything comes from tables, what follows from the journal.
    let fixture = fixture.flushed().await;
    fixture.put(&prepared, &[C1]).await.unwrap();
    let fence = vec![(fenced.path.clone(), fenced.upload)];
    fixture.node.fence(alice(), fence).await.unwrap().remove(0).unwrap();
    // The second close leaves a journal without the zeros of a fresh one.
    let fixture = fixture.reopen().await.reopen().await;
    let identity = Identity { ..fixture.node.identity().clone() };
    fixture.node.close(Duration::from_secs(5)).await;
    let Fixture { dir, node } = fixture;
    drop(node);
    fs::write(dir.path().join("identity"), "").unwrap();
    DataDir::open(dir.path()).unwrap().write_identity(&identity).unwrap();
    fs::create_dir_all(stored()).unwrap();
    copy(dir.path(), &stored());
}

#[tokio::test]
async fn a_data_directory_of_the_first_format_is_read() {
    let dir = tempfile::tempdir().unwrap();
    copy(&stored(), dir.path());
    for empty in ["staging", "quarantine"] {
        fs::create_dir_all(dir.path().join(empty)).unwrap();
    }
    let identity = DataDir::open(dir.path()).unwrap();
    let identity = identity.identity(&ClusterName::new("demo").unwrap(), NodeId::N1).unwrap();
    assert_eq!(identity.incarnation, OWN);
    assert_eq!(identity.boot, Boot { count: 1, nonce: 1 });

    let node = open(&dir, Duration::from_secs(900), Quotas::default(), None);
    let fixture = Fixture { dir, node };
    let Files { small, large, replaced, removed, prepared, fenced } = files();
    for (file, chunk) in
        [(&small, C1), (&small, C2), (&large, C2), (&replaced, C1), (&prepared, C1)]
    {
        assert_eq!(fixture.read(file, chunk).await.unwrap(), file.chunk(chunk), "{}", file.path);
    }
    assert_eq!(fixture.files("quarantine").len(), 0);
    assert_eq!(fixture.check(&large).await.have.mask(), 2);
    let row = |file: &File| {
        let ids = [small.upload, replaced.upload, prepared.upload, fenced.upload];
        fixture.node.index.view().row(&alice(), &file.path, &ids).unwrap()
    };
    let current = |file: &File| row(file).current.unwrap();
    assert_eq!(current(&small).record.version, small.order(2).version);
    assert!(!current(&small).confirmed);
    assert_eq!(current(&large).record.version, large.order(3).version);
    assert!(current(&removed).confirmed);
    assert_eq!(current(&removed).record.version.content, Content::Tombstone);
    let state = |file: &File| row(file).uploads.remove(&file.upload).unwrap().state;
    assert_eq!(state(&replaced), UploadState::Superseded(replaced.order(1).version));
    assert_eq!(state(&prepared), UploadState::Prepared);
    assert_eq!(state(&fenced), UploadState::Fenced);
    let remembered = fixture.node.known().peer(NodeId::N2).unwrap();
    assert_eq!((remembered.incarnation, remembered.boot), (peer().incarnation, peer().boot));
    assert_eq!(remembered.group, 6);
}
