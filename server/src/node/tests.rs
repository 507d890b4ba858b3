//! A node on a disk of its own, and files that a client puts there.

use super::put::{Announced, Outcome};
use super::*;
use crate::config::quota::Quotas;
use crate::store::writer::WriteError;
use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, ChunkSet};
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::identity::{Boot, IndexAge};
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

fn open(dir: &TempDir, grace: Duration, quotas: Quotas, disk_reserve: Option<u64>) -> Arc<Node> {
    let identity = Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N1,
        incarnation: OWN,
        boot: Boot { count: 1, nonce: 1 },
        rejoining: false,
    };
    let poison = Poison::default();
    let index = Index::open(&dir.path().join("index"), OWN, poison.clone()).unwrap();
    let store = ChunkStore::open(dir.path(), Duration::from_secs(3600)).unwrap();
    let store = store.keeping(disk_reserve);
    Node::new(identity, index, store, poison, (grace, quotas), false).unwrap()
}

impl Fixture {
    fn new() -> Self {
        Self::with_grace(Duration::from_secs(900))
    }

    fn with_grace(grace: Duration) -> Self {
        Self::with(grace, Quotas::default())
    }

    fn with(grace: Duration, quotas: Quotas) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ChunkStore::create(dir.path()).unwrap();
        Index::create(&dir.path().join("index"), OWN).unwrap();
        let node = open(&dir, grace, quotas, None);
        Self { dir, node }
    }

    async fn reopen(self) -> Self {
        self.reopen_keeping(None).await
    }

    /// Starts the node again; from then on it keeps so many bytes of the disk free.
    async fn reopen_keeping(self, disk_reserve: Option<u64>) -> Self {
        self.node.close(Duration::from_secs(5)).await;
        let Self { dir, node } = self;
        drop(node);
        let node = open(&dir, Duration::from_secs(900), Quotas::default(), disk_reserve);
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

/// Another node introduces itself; nothing is said of its index.
fn says(identity: Identity) -> Introduction {
    Introduction { identity, index: IndexAge::default() }
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
            first_block: 0,
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

mod damage;
mod formats;
mod putting;
mod resuming;
mod usage;
mod versions;

const C1: ChunkId = ChunkId::C1;
const C2: ChunkId = ChunkId::C2;
const SMALL: usize = 1000;
/// Chunks of this file are larger than what the index takes, and have more than one block.
const LARGE: usize = 4 * (1 << 20) + 4 * 77;
