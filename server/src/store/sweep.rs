//! The sweep at a start: tidies up what a crash left behind.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use dfs_proto::name::UserName;

use super::{CHUNKS, ChunkStore, parse_file_name};
use crate::chunk_key::ChunkKey;

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Files that were being written and are of no use.
    pub(crate) staged: u64,
    /// Chunk files that no row speaks of; they are in quarantine now.
    pub(crate) unknown: u64,
    /// Files that are none of ours; they stay.
    pub(crate) foreign: u64,
}

impl ChunkStore {
    /// Tidies up staging and moves chunk files for which `is_known` is false into quarantine:
    /// they say what they are, and may be all that is left of an index that went back in time.
    /// Nothing may be written meanwhile: between its rename and its row a chunk is unknown.
    pub(crate) fn sweep<E: From<io::Error>>(
        &self,
        now_ms: u64,
        mut is_known: impl FnMut(&ChunkKey) -> Result<bool, E>,
    ) -> Result<Swept, E> {
        let staged = self.sweep_staging(now_ms, &mut is_known)?;
        let mut swept = Swept { staged, ..Swept::default() };
        for user_dir in fs::read_dir(self.root.join(CHUNKS))? {
            let user_dir = user_dir?;
            let user = text(&user_dir).and_then(|name| UserName::new(name).ok());
            let Some(user) = user.filter(|_| is_dir(&user_dir)) else {
                swept.foreign += 1;
                continue;
            };
            for shard in fs::read_dir(user_dir.path())? {
                let shard = shard?;
                if is_dir(&shard) {
                    self.sweep_shard(&user, &shard.path(), now_ms, &mut is_known, &mut swept)?;
                } else {
                    swept.foreign += 1;
                }
            }
        }
        Ok(swept)
    }

    fn sweep_shard<E: From<io::Error>>(
        &self,
        user: &UserName,
        shard: &Path,
        now_ms: u64,
        is_known: &mut impl FnMut(&ChunkKey) -> Result<bool, E>,
        swept: &mut Swept,
    ) -> Result<(), E> {
        for file in fs::read_dir(shard)? {
            let file = file?;
            let key = text(&file).and_then(|name| parse_file_name(user, &name));
            match key.filter(|key| self.path(key) == file.path()) {
                None => swept.foreign += 1,
                Some(key) if is_known(&key)? => {}
                Some(key) => {
                    self.quarantine(&key, now_ms)?;
                    swept.unknown += 1;
                }
            }
        }
        Ok(())
    }
}

fn is_dir(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn text(entry: &DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}
