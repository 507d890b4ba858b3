//! What `benches/` measures of this crate's private parts.

use std::path::Path;

use bytes::Bytes;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{ChunkSum, Incarnation, UploadId};
use dfs_proto::name::{FilePath, UserName};
use tokio::runtime::Runtime;

use crate::chunk_key::ChunkKey;
use crate::index::Index;
use crate::index::codec::ChunkEntry;
use crate::poison::Poison;

const LIFE: Incarnation = Incarnation::new([7; 16]);

/// An index that small chunks are written to.
pub struct Chunks {
    index: Index,
    runtime: Runtime,
    user: UserName,
    path: FilePath,
}

impl Chunks {
    /// Makes an index in `dir`. Panics where that cannot be done.
    pub fn new(dir: &Path) -> Self {
        let place = dir.join("index");
        Index::create(&place, LIFE).expect("an index in an empty folder");
        let index = Index::open(&place, LIFE, Poison::default()).expect("it was just made");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let user = UserName::new("alice").expect("a name");
        let path = FilePath::new("folder/file").expect("a path");
        Self { index, runtime, user, path }
    }

    /// Writes `at_once` chunks of `length` bytes, each in a transaction of its own, and waits
    /// until all are durable. `first` is the number of the first; no number may come twice.
    pub fn write(&self, first: u64, at_once: u64, length: usize) {
        let data = Bytes::from(vec![1; length]);
        let sum = ChunkSum { length: length as u64, crc: Crc32c::of(&data) };
        self.runtime.block_on(async {
            let mut waiting = Vec::new();
            for number in first..first + at_once {
                let mut upload = [0; 16];
                upload[..8].copy_from_slice(&number.to_be_bytes());
                let upload = UploadId::new(upload);
                let key = ChunkKey { user: self.user.clone(), upload, chunk: ChunkId::C1 };
                let (path, inline) = (self.path.clone(), Some(data.clone()));
                let entry = ChunkEntry { path, sum, inline };
                let change = self.index.submit(move |txn| {
                    txn.put_chunk(&key, &entry);
                    Ok(())
                });
                waiting.push(change.await);
            }
            for pending in waiting {
                pending.done().await.expect("a disk that works");
            }
        });
    }
}
