//! Answering for several paths at once: the record of each, and of its chunks what is in the
//! index anyway.

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::placement::{NodeId, first_home_chunk, home_chunks};
use dfs_proto::protocol::row::Current;

use super::fetch::Block;
use super::look::{INLINE_QUERIES, Stat};
use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::index::txn::Lookup;
use crate::index::{IndexError, View};
use crate::telemetry::blocks_sent;

/// Which of its two home chunks a node shall send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Homes {
    None,
    First,
    Both,
}

/// A path that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: FilePath,
    pub(crate) homes: Homes,
    /// A longer chunk is not sent.
    pub(crate) max_chunk_bytes: u64,
}

/// What is told of a path.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) stat: Stat,
    /// Whole chunks.
    pub(crate) blocks: Vec<Block>,
    /// Chunks that are to be sent too, and have to be read from files.
    pub(crate) files: Vec<ChunkId>,
    /// Length of all these chunks, in bytes.
    pub(crate) bytes: u64,
}

impl Node {
    /// Tells of paths, all at one moment, with at most `max_bytes` of data.
    pub(crate) async fn tell(
        &self,
        user: UserName,
        asked: Vec<Asked>,
        max_bytes: u64,
    ) -> Result<Vec<Told>, NodeError> {
        let telling = Telling { view: self.index.view(), user, position: self.position() };
        let few = asked.len() <= INLINE_QUERIES;
        let answer = move || {
            let mut left = max_bytes;
            let each = asked.into_iter().map(|asked| telling.one(asked, &mut left));
            each.collect::<Result<Vec<Told>, IndexError>>()
        };
        let told = if few { answer() } else { self.blocking(answer).await? }?;
        blocks_sent(told.iter().map(|told| told.blocks.len()).sum());
        Ok(told)
    }
}

struct Telling {
    view: View,
    user: UserName,
    position: NodeId,
}

impl Telling {
    /// Tells of one path, with at most `left` bytes of data.
    fn one(&self, asked: Asked, left: &mut u64) -> Result<Told, IndexError> {
        let current = self.view.row(&self.user, &asked.path, &[])?.current;
        let (mut blocks, mut files, before) = (Vec::new(), Vec::new(), *left);
        for (chunk, length) in current.iter().flat_map(|current| self.wanted(&asked, current)) {
            let Some(rest) = left.checked_sub(length) else { continue };
            *left = rest;
            let upload = current.as_ref().map(|current| current.record.version.upload);
            let Some(upload) = upload.filter(|_| length > 0) else { continue };
            let key = ChunkKey { user: self.user.clone(), upload, chunk };
            let entry = self.view.chunk(&key)?.filter(|entry| entry.path == asked.path);
            match entry.map(|entry| (entry.sum.crc, entry.inline)) {
                Some((crc, Some(data))) => blocks.push(Block { chunk, index: 0, crc, data }),
                Some((_, None)) => files.push(chunk),
                // The record is the answer; who misses the data asks for it by upload.
                None => tracing::warn!(path = %asked.path, %chunk, "not there, left out"),
            }
        }
        let stat = Stat { path: asked.path, current, superseded: Vec::new(), upload_have: None };
        Ok(Told { stat, blocks, files, bytes: before - *left })
    }

    /// Chunks of the current version that are to be sent, and their lengths in bytes.
    fn wanted(&self, asked: &Asked, current: &Current) -> Vec<(ChunkId, u64)> {
        let Some(manifest) = current.record.version.manifest() else {
            return Vec::new();
        };
        let homes = match asked.homes {
            Homes::None => ChunkSet::EMPTY,
            Homes::First => ChunkSet::EMPTY.with(first_home_chunk(manifest.x(), self.position)),
            Homes::Both => home_chunks(manifest.x(), self.position),
        };
        let held = homes.iter().filter(|chunk| current.record.have.contains(*chunk));
        let each = held.map(|chunk| (chunk, manifest.chunk(chunk).length));
        each.filter(|(_, length)| *length <= asked.max_chunk_bytes).collect()
    }
}
