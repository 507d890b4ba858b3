use super::put::{Announced, Outcome};
use super::*;
use crate::store::writer::WriteError;
use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, ChunkSet};
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::{Content, Incarnation, Manifest, UploadId, Version};
use dfs_proto::name::{ClusterName, FilePath, Prefix, UserName};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::{Ack, CommitOrder, DropEvidence, FenceAnswer};
use dfs_proto::protocol::{NodeRef, Refused};
use dfs_proto::tag::{Hlc, Tag};
use std::path::PathBuf;
use tempfile::TempDir;

const OWN: Incarnation = Incarnation::new([1; 16]);

struct Fixture {
    dir: TempDir,
    node: Arc<Node>,
}

fn open(dir: &TempDir, grace: Duration) -> Arc<Node> {
    let identity = Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N1,
        incarnation: OWN,
        boot: 1,
        rejoining: false,
    };
    let poison = Poison::default();
    let index = Index::open(&dir.path().join("index"), OWN, poison.clone()).unwrap();
    let store = ChunkStore::open(dir.path()).unwrap();
    Node::new(identity, index, store, poison, grace).unwrap()
}

impl Fixture {
    fn new() -> Self {
        Self::with_grace(Duration::from_secs(900))
    }

    fn with_grace(grace: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ChunkStore::create(dir.path()).unwrap();
        Index::create(&dir.path().join("index"), OWN).unwrap();
        let node = open(&dir, grace);
        Self { dir, node }
    }

    async fn reopen(self) -> Self {
        self.node.close(Duration::from_secs(5)).await;
        let Self { dir, node } = self;
        drop(node);
        let node = open(&dir, Duration::from_secs(900));
        Self { dir, node }
    }

    fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join(name)];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { found.push(path) }
            }
        }
        found
    }

    async fn put(&self, file: &File, chunks: &[ChunkId]) -> Result<Vec<Outcome>, NodeError> {
        let mut putting = self.node.start_put(alice());
        for chunk in chunks {
            putting.header(file.announced(*chunk)).await?;
            let data = file.chunk(*chunk);
            for (index, at) in (0..data.len()).step_by(BLOCK_BYTES as usize).enumerate() {
                let block = data.slice(at..data.len().min(at + BLOCK_BYTES as usize));
                let crc = Crc32c::of(&block);
                putting.block(*chunk, index as u64, block, crc).await?;
            }
        }
        Ok(putting.finish().await?.0)
    }

    async fn commit(&self, file: &File, hlc: u64) -> Result<Ack, Refused> {
        let order = (file.path.clone(), file.order(hlc));
        self.node.commit(alice(), vec![order]).await.unwrap().remove(0)
    }

    async fn read(&self, file: &File, chunk: ChunkId) -> Result<Bytes, fetch::FetchError> {
        let mut fetching =
            self.node.fetch(&alice(), &file.path, file.upload, chunk, (0, 0)).await?;
        let mut data = Vec::new();
        loop {
            let blocks = fetching.next_blocks().await?;
            if blocks.is_empty() {
                return Ok(data.into());
            }
            for block in blocks {
                assert_eq!(Crc32c::of(&block.data), block.crc);
                data.extend(block.data);
            }
        }
    }

    async fn check(&self, file: &File) -> check::Checked {
        let (path, upload) = (file.path.clone(), file.upload);
        self.node.check_chunks(alice(), path, upload, ChunkSet::ALL).await.unwrap()
    }
}

fn alice() -> UserName {
    UserName::new("alice").unwrap()
}

/// A file that a client puts.
struct File {
    path: FilePath,
    upload: UploadId,
    content: Bytes,
    manifest: Manifest,
}

impl File {
    fn new(path: &str, upload: u8, size: usize) -> Self {
        let content: Bytes = (0..size).map(|i| (i * 31 % 251) as u8 ^ upload).collect();
        let crcs = ChunkId::ALL.map(|chunk| Crc32c::of(&slice(&content, chunk)));
        let manifest = Manifest::new(
            Md5Digest::of(&content),
            size as u64,
            crcs,
            "2026-11-22T10:00:00Z",
            Default::default(),
        );
        Self {
            path: FilePath::new(path).unwrap(),
            upload: UploadId::new([upload; 16]),
            content,
            manifest: manifest.unwrap(),
        }
    }

    fn chunk(&self, chunk: ChunkId) -> Bytes {
        slice(&self.content, chunk)
    }

    fn announced(&self, chunk: ChunkId) -> Announced {
        Announced {
            path: self.path.clone(),
            upload: self.upload,
            chunk,
            manifest: self.manifest.clone(),
        }
    }

    fn order(&self, hlc: u64) -> CommitOrder {
        let source = |node, incarnation| NodeRef { node, incarnation };
        let other = Incarnation::new([9; 16]);
        CommitOrder {
            version: Version {
                tag: Tag { hlc: Hlc::new(hlc), writer: [0; 16] },
                upload: self.upload,
                content: Content::File(self.manifest.clone()),
            },
            write_back: false,
            sources: vec![
                source(NodeId::N1, OWN),
                source(NodeId::N2, other),
                source(NodeId::N3, other),
            ],
        }
    }
}

fn slice(content: &Bytes, chunk: ChunkId) -> Bytes {
    let range = chunk.range(content.len() as u64);
    content.slice(range.start as usize..range.end as usize)
}

const C1: ChunkId = ChunkId::C1;
const C2: ChunkId = ChunkId::C2;
const SMALL: usize = 1000;
/// Chunks of this file are larger than what the index takes, and have more than one block.
const LARGE: usize = 4 * (1 << 20) + 4 * 77;

#[tokio::test]
async fn what_is_put_and_committed_is_read_back_after_a_restart() {
    for size in [0, 1, 3, SMALL, 4 * 65536, 4 * 65536 + 4, LARGE] {
        let fixture = Fixture::new();
        let file = File::new("a/b", 1, size);
        let outcomes = fixture.put(&file, &[C1, C2]).await.unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.result == Ok(())), "{size}");
        let on_disk = fixture.files("chunks").len();
        assert_eq!(on_disk, if size > 4 * 65536 { 2 } else { 0 }, "{size}");
        assert_eq!(fixture.commit(&file, 5).await, Ok(Ack { superseded: false }));

        let fixture = fixture.reopen().await;
        let stats = fixture.node.stat(alice(), vec![(file.path.clone(), None)], true).await;
        let current = stats.unwrap().remove(0).current.unwrap();
        assert_eq!(current.record.version.manifest(), Some(&file.manifest));
        assert_eq!(current.record.have.mask(), 0b11);
        for chunk in [C1, C2] {
            assert_eq!(fixture.read(&file, chunk).await.unwrap(), file.chunk(chunk), "{size}");
        }
        let missing = fixture.read(&file, ChunkId::C3).await;
        assert!(matches!(missing, Err(fetch::FetchError::NotFound(ChunkId::C3))));
    }
}

#[tokio::test]
async fn users_and_paths_do_not_see_each_others_uploads() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    fixture.put(&file, &[C1]).await.unwrap();
    let node = &fixture.node;
    let bob = UserName::new("bob").unwrap();
    let other = FilePath::new("b").unwrap();
    assert!(node.fetch(&bob, &file.path, file.upload, C1, (0, 0)).await.is_err());
    assert!(node.fetch(&alice(), &other, file.upload, C1, (0, 0)).await.is_err());
    let status = node.upload_status(&bob, &file.path, file.upload).unwrap();
    assert!(status.have.is_empty());
}

#[tokio::test]
async fn putting_again_is_harmless_and_putting_other_content_is_refused() {
    for size in [SMALL, LARGE] {
        let fixture = Fixture::new();
        let file = File::new("a", 1, size);
        for _ in 0..2 {
            assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Ok(()));
        }
        let mut other = File::new("a", 2, size);
        other.upload = file.upload;
        assert_eq!(fixture.put(&other, &[C1]).await.unwrap()[0].result, Err(Refused::TagConflict));
        let mut elsewhere = File::new("b", 1, size);
        elsewhere.upload = file.upload;
        let refused = fixture.put(&elsewhere, &[C1]).await.unwrap().remove(0);
        assert_eq!(refused.result, Err(Refused::TagConflict));
        assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
        assert_eq!(fixture.files("staging").len(), 0);
    }
}

#[tokio::test]
async fn two_streams_with_different_content_for_one_chunk_do_not_mix() {
    let fixture = Fixture::new();
    let first = File::new("a", 1, LARGE);
    let mut second = File::new("a", 2, LARGE);
    second.upload = first.upload;
    let (a, b) = tokio::join!(fixture.put(&first, &[C1]), fixture.put(&second, &[C1]));
    let results = [a.unwrap().remove(0).result, b.unwrap().remove(0).result];
    let won = if results[0].is_ok() { &first } else { &second };
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(fixture.read(won, C1).await.unwrap(), won.chunk(C1));
    assert!(fixture.check(won).await.bad.is_empty());
}

#[tokio::test]
async fn bad_streams_fail_as_a_whole_and_leave_nothing() {
    let fixture = Fixture::new();
    for size in [SMALL, LARGE] {
        let file = File::new("a", 1, size);
        let block = file.chunk(C1).slice(..file.chunk(C1).len().min(BLOCK_BYTES as usize));
        let crc = Crc32c::of(&block);
        let start = || fixture.node.start_put(alice());

        let mut putting = start();
        assert!(putting.block(C1, 0, block.clone(), crc).await.is_err(), "no header");

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        assert!(putting.block(C2, 0, block.clone(), crc).await.is_err(), "another chunk");

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        let error = putting.finish().await.unwrap_err();
        let incomplete = WriteError::Incomplete { found: 0, expected: file.chunk(C1).len() as u64 };
        assert_eq!(error.to_string(), format!("chunk 1: {incomplete}"));

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        let wrong = Crc32c::new(crc.get() ^ 1);
        let taken = putting.block(C1, 0, block.clone(), wrong).await;
        assert!(taken.is_err() || putting.finish().await.is_err(), "wrong checksum");

        let mut dropped = start();
        dropped.header(file.announced(C1)).await.unwrap();
        let _ = dropped.block(C1, 0, block, crc).await;
        drop(dropped);
    }
    // What blocking threads still do ends before the node closes.
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.files("staging").len(), 0);
    assert_eq!(fixture.files("chunks").len(), 0);
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_refused_at_its_header() {
    let fixture = Fixture::new();
    let huge = Manifest::new(
        Md5Digest::of(b""),
        1 << 50,
        [Crc32c::new(1); 4],
        "2026-11-22T10:00:00Z",
        Default::default(),
    );
    let announced = Announced { manifest: huge.unwrap(), ..File::new("a", 1, SMALL).announced(C1) };
    let refused = fixture.node.start_put(alice()).header(announced).await;
    assert!(matches!(refused, Err(NodeError::Full { .. })));
}

#[tokio::test]
async fn many_small_chunks_go_in_one_stream() {
    let fixture = Fixture::new();
    let files: Vec<File> =
        (0..200).map(|i| File::new(&format!("f{i}"), i as u8, SMALL + i)).collect();
    let mut putting = fixture.node.start_put(alice());
    for file in &files {
        for chunk in [C1, C2] {
            putting.header(file.announced(chunk)).await.unwrap();
            let data = file.chunk(chunk);
            let crc = Crc32c::of(&data);
            putting.block(chunk, 0, data, crc).await.unwrap();
        }
    }
    let (outcomes, stats) = putting.finish().await.unwrap();
    assert_eq!((outcomes.len(), stats.len()), (400, 200));
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(fixture.node.pending_uploads().await.unwrap(), 200);
    let orders: Vec<_> = files.iter().map(|f| (f.path.clone(), f.order(7))).collect();
    let acks = fixture.node.commit(alice(), orders).await.unwrap();
    assert!(acks.iter().all(Result::is_ok));
    assert_eq!(fixture.node.pending_uploads().await.unwrap(), 0);

    let limit = look::PageLimit { entries: 150, bytes: 1 << 20, full: true };
    let list = |after| fixture.node.list(alice(), Prefix::default(), after, limit);
    let first = list(None).await.unwrap();
    assert!(first.more && first.entries.len() == 150);
    let last = first.entries[149].0.as_str().to_owned();
    let second = list(Some(last)).await.unwrap();
    assert!(!second.more && second.entries.len() == 50);
    let tight = look::PageLimit { bytes: 1000, ..limit };
    let short = fixture.node.list(alice(), Prefix::default(), None, tight).await.unwrap();
    assert!(short.more && short.entries.len() < 10);
}

#[tokio::test]
async fn a_commit_rests_on_what_is_prepared_and_on_incarnations_that_are_known() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::NotPrepared));
    fixture.put(&file, &[C1]).await.unwrap();
    let other = |byte, rejoining| Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N2,
        incarnation: Incarnation::new([byte; 16]),
        boot: 1,
        rejoining,
    };
    fixture.node.meet(other(8, false)).await.unwrap();
    let lost = NodeRef { node: NodeId::N2, incarnation: Incarnation::new([8; 16]) };
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::PrepareLost(lost)));
    // A serving node with another disk is not believed; one that rejoins is.
    let (meeting, before) = fixture.node.meet(other(9, false)).await.unwrap();
    assert_eq!(meeting, known::Meeting::Replaced);
    assert_eq!(before.unwrap().incarnation, Incarnation::new([8; 16]));
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::PrepareLost(lost)));
    fixture.node.meet(other(9, true)).await.unwrap();
    assert_eq!(fixture.commit(&file, 5).await, Ok(Ack { superseded: false }));

    let fixture = fixture.reopen().await;
    let remembered = fixture.node.known().peer(NodeId::N2).unwrap();
    assert_eq!(remembered.incarnation, Incarnation::new([9; 16]));
}

#[tokio::test]
async fn a_fenced_upload_is_dropped_with_its_files() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    let entry = || vec![(file.path.clone(), file.upload, DropEvidence::NeverCommitted)];
    let drop_it = || fixture.node.drop_uploads(alice(), entry());
    assert_eq!(drop_it().await.unwrap(), [Err(Refused::NotFenced)]);
    let fenced = fixture.node.fence(alice(), vec![(file.path.clone(), file.upload)]).await;
    assert_eq!(fenced.unwrap(), [Ok(FenceAnswer::Fenced)]);
    assert_eq!(fixture.files("chunks").len(), 2);
    assert_eq!(drop_it().await.unwrap(), [Ok(())]);
    assert_eq!(fixture.files("chunks").len(), 0);
    assert_eq!(fixture.node.pending_uploads().await.unwrap(), 0);
    assert_eq!(fixture.commit(&file, 5).await, Err(Refused::Fenced));
    assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Err(Refused::Fenced));
    let status = fixture.node.upload_status(&alice(), &file.path, file.upload).unwrap();
    assert!(status.fenced && !status.committed && status.have.is_empty());
}

#[tokio::test]
async fn superseded_data_is_pruned_when_the_newer_version_is_confirmed() {
    for size in [SMALL, LARGE] {
        let fixture = Fixture::with_grace(Duration::ZERO);
        let (old, new) = (File::new("a", 1, size), File::new("a", 2, size));
        for (file, hlc) in [(&old, 5), (&new, 6)] {
            fixture.put(file, &[C1, C2]).await.unwrap();
            fixture.commit(file, hlc).await.unwrap();
        }
        assert_eq!(fixture.node.prune().await.unwrap(), 0, "not confirmed");
        assert_eq!(fixture.read(&old, C1).await.unwrap(), old.chunk(C1));
        let tag = new.order(6).version.tag;
        fixture.node.confirm(alice(), vec![(new.path.clone(), tag)]).await.unwrap();
        assert_eq!(fixture.node.prune().await.unwrap(), 1);
        assert!(fixture.read(&old, C1).await.is_err());
        assert_eq!(fixture.read(&new, C1).await.unwrap(), new.chunk(C1));
        assert_eq!(fixture.files("chunks").len(), if size == LARGE { 2 } else { 0 });
        let stats = fixture.node.stat(alice(), vec![(new.path.clone(), None)], true).await;
        assert!(stats.unwrap()[0].superseded.is_empty());
    }
}

#[tokio::test]
async fn the_grace_is_kept() {
    let fixture = Fixture::new();
    let (old, new) = (File::new("a", 1, SMALL), File::new("a", 2, SMALL));
    for (file, hlc) in [(&old, 5), (&new, 6)] {
        fixture.put(file, &[C1]).await.unwrap();
        fixture.commit(file, hlc).await.unwrap();
    }
    let tag = new.order(6).version.tag;
    fixture.node.confirm(alice(), vec![(new.path.clone(), tag)]).await.unwrap();
    assert_eq!(fixture.node.prune().await.unwrap(), 0);
    let stats = fixture.node.stat(alice(), vec![(new.path.clone(), Some(old.upload))], true);
    let stat = stats.await.unwrap().remove(0);
    assert_eq!(stat.superseded.len(), 1);
    assert_eq!(stat.upload_have.unwrap().mask(), 1);
    assert!(stat.current.unwrap().confirmed);
}

#[tokio::test]
async fn a_bad_chunk_is_quarantined_and_may_be_put_again() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    fixture.commit(&file, 5).await.unwrap();
    let good = check::Checked { have: ChunkSet::from_mask(3).unwrap(), bad: ChunkSet::EMPTY };
    assert_eq!(fixture.check(&file).await, good);

    let path = fixture.files("chunks").into_iter().find(|p| p.extension().unwrap() == "1").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // A read sends it with the checksum that it does not match: who gets it finds out.
    let checked = fixture.check(&file).await;
    assert_eq!((checked.have.mask(), checked.bad.mask()), (0b10, 0b01));
    assert_eq!(fixture.files("quarantine").len(), 1);
    assert!(matches!(fixture.read(&file, C1).await, Err(fetch::FetchError::NotFound(_))));

    assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Ok(()));
    assert_eq!(fixture.check(&file).await, good);
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn a_missing_or_short_file_is_corrupt_for_readers_and_found_by_a_check() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1, C2]).await.unwrap();
    for path in fixture.files("chunks") {
        if path.extension().unwrap() == "1" {
            std::fs::remove_file(path).unwrap();
        } else {
            std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
        }
    }
    for chunk in [C1, C2] {
        let error = fixture.read(&file, chunk).await.unwrap_err();
        assert!(matches!(error, fetch::FetchError::Corrupt { .. }), "{error}");
    }
    let checked = fixture.check(&file).await;
    assert_eq!((checked.have.mask(), checked.bad.mask()), (0, 0b11));
}

#[tokio::test]
async fn a_start_sweeps_chunks_without_a_row() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LARGE);
    fixture.put(&file, &[C1]).await.unwrap();
    let known = fixture.files("chunks").remove(0);
    std::fs::copy(&known, known.with_extension("4")).unwrap();
    std::fs::write(fixture.dir.path().join("staging/half"), "x").unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.files("chunks"), [known]);
    assert_eq!(fixture.files("staging").len(), 0);
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn a_poisoned_node_acknowledges_nothing() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    fixture.put(&file, &[C1]).await.unwrap();
    fixture.node.poison.trip("on purpose");
    assert!(matches!(fixture.put(&file, &[C2]).await, Err(NodeError::Poisoned)));
    let order = vec![(file.path.clone(), file.order(5))];
    assert!(matches!(fixture.node.commit(alice(), order).await, Err(NodeError::Poisoned)));
    let fence = vec![(file.path.clone(), file.upload)];
    assert!(matches!(fixture.node.fence(alice(), fence).await, Err(NodeError::Poisoned)));
    assert!(fixture.node.confirm(alice(), vec![]).await.is_err());
    assert!(fixture.node.drop_uploads(alice(), vec![]).await.is_err());
}
