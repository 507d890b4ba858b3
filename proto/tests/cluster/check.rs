//! What must hold after every step and for every answer that a client gets.

use std::collections::{BTreeMap, BTreeSet};

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, UploadId};
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::protocol::row::Row;
use dfs_proto::protocol::{put, read, remove};
use dfs_proto::tag::Tag;

use crate::client::{Client, Outcome};

/// Failures that a file survives: none, any node, any opposite pair; as masks of nodes.
const ALLOWED_FAILURES: [usize; 7] = [0b0000, 0b0001, 0b0010, 0b0100, 0b1000, 0b0101, 0b1010];

/// What was promised so far.
#[derive(Default)]
pub(crate) struct Checks {
    completed: Option<Tag>,
    current: PerNode<Option<Tag>>,
    /// Uploads that ended with "nothing happened".
    never: BTreeSet<UploadId>,
    /// Every version that was current somewhere, and whether it is a file.
    seen: BTreeMap<Tag, bool>,
    broken: Option<String>,
}

impl Checks {
    /// The largest tag of all completed operations.
    pub(crate) fn completed(&self) -> Option<Tag> {
        self.completed
    }

    fn expect(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(promise());
        }
    }

    /// Takes the end of an operation, and returns whether its outcome is unknown.
    pub(crate) fn ended(
        &mut self,
        client: &Client,
        outcome: &Outcome,
        rows: &PerNode<Row>,
    ) -> bool {
        let floor = client.floor;
        match outcome {
            Outcome::Put(put::Outcome::Stored(tag)) => self.written(Some(*tag), floor, rows),
            Outcome::Put(put::Outcome::Unknown) | Outcome::Remove(remove::Outcome::Unknown) => {
                return true;
            }
            Outcome::Put(_) => drop(self.never.insert(client.upload)),
            Outcome::Remove(remove::Outcome::Removed) => {
                let tag = rows.iter().filter_map(|row| tag_of(row, client.upload)).max();
                let overtaken = count(rows, self.completed) >= 3;
                if tag.is_some() || !overtaken {
                    self.written(tag, floor, rows);
                }
            }
            Outcome::Remove(remove::Outcome::NotFound) => {
                self.never.insert(client.upload);
                let later_tombstone =
                    self.seen.iter().any(|(tag, file)| Some(*tag) >= floor && !file);
                self.expect(floor.is_none() || later_tombstone, || {
                    format!("not found, but {floor:?} was completed")
                });
            }
            Outcome::Remove(_) => drop(self.never.insert(client.upload)),
            Outcome::Read(read::Outcome::Unavailable) => {}
            Outcome::Read(read::Outcome::Decided { version, unconfirmed }) => {
                let tag = version.as_ref().map(|version| version.tag);
                self.expect(tag >= floor, || {
                    format!("read {tag:?}, but {floor:?} was completed before")
                });
                if !unconfirmed {
                    self.expect(tag.is_none() || count(rows, tag) >= 3, || {
                        format!("read {tag:?} without a flag, but it is not on three nodes")
                    });
                    self.completed = self.completed.max(tag);
                }
            }
        }
        false
    }

    fn written(&mut self, tag: Option<Tag>, floor: Option<Tag>, rows: &PerNode<Row>) {
        self.expect(tag > floor, || format!("wrote {tag:?} after {floor:?}"));
        self.expect(count(rows, tag) >= 3, || {
            format!("{tag:?} was acknowledged, but is not on three nodes")
        });
        self.completed = self.completed.max(tag);
    }

    pub(crate) fn after_step(&mut self, rows: &PerNode<Row>) -> Result<(), String> {
        for (index, row) in rows.iter().enumerate() {
            let tag = row.tag();
            self.expect(tag >= self.current[index], || format!("node {} went back", index + 1));
            self.current[index] = tag;
            if let Some(current) = &row.current {
                let version = &current.record.version;
                let file = version.content != Content::Tombstone;
                self.seen.insert(version.tag, file);
                let safe = !current.confirmed || count(rows, tag) >= 3;
                self.expect(safe, || format!("{tag:?} is confirmed, but not on three nodes"));
            }
            let appeared = self.never.iter().find(|upload| row.committed(**upload).is_some());
            if let Some(upload) = appeared.copied() {
                self.expect(false, || format!("{upload} did not happen, it was said, but has"));
            }
        }
        let completed = self.completed;
        self.expect(completed.is_none() || count(rows, completed) >= 3, || {
            format!("{completed:?} was completed, but is not on three nodes")
        });
        for failed in ALLOWED_FAILURES {
            let readable = newest_is_whole(rows, failed);
            self.expect(readable, || {
                format!("the newest version cannot be rebuilt without the nodes {failed:04b}")
            });
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// The read at the end, when all is well.
    pub(crate) fn last_read(&self, outcome: Option<&Outcome>) -> Result<(), String> {
        match outcome {
            Some(Outcome::Read(read::Outcome::Decided { unconfirmed: false, .. })) => Ok(()),
            other => Err(format!("with four nodes up a read gave {other:?}")),
        }
    }
}

fn tag_of(row: &Row, upload: UploadId) -> Option<Tag> {
    row.committed(upload).map(|record| record.version.tag)
}

fn count(rows: &PerNode<Row>, tag: Option<Tag>) -> usize {
    rows.iter().filter(|row| row.tag() >= tag).count()
}

/// Whether the nodes not in `failed` have all chunks of the newest version among them.
fn newest_is_whole(rows: &PerNode<Row>, failed: usize) -> bool {
    let left = || {
        let up = |id: &NodeId| failed & (1 << id.index()) == 0;
        NodeId::ALL.into_iter().filter(up).map(|id| &rows[id.index()])
    };
    let newest = left()
        .filter_map(|row| row.current.as_ref())
        .max_by_key(|current| current.record.version.tag);
    let Some(version) = newest.map(|current| &current.record.version) else {
        return true;
    };
    let have = left().fold(ChunkSet::EMPTY, |all, row| all.union(row.have(version.upload)));
    version.content == Content::Tombstone || have == ChunkSet::ALL
}
