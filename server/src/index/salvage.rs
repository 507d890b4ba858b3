//! Reading what is left of an index of which no node will ever use anything again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use dfs_proto::manifest::Incarnation;

use super::opened::{Opened, mark_of};
use super::{OpenError, View};
use crate::poison::Poison;

/// A copy of an index that was where nothing can be written, which the database has to. It goes when
/// this is dropped; drop what was opened there first.
pub(crate) struct IndexCopy {
    dir: PathBuf,
}

impl IndexCopy {
    /// Copies the index at `path` to `dir`, which must not exist, where that is needed.
    pub(crate) fn where_needed(path: &Path, dir: PathBuf) -> io::Result<Option<Self>> {
        let opened = OpenOptions::new().write(true).open(mark_of(path));
        let refused = opened.err().map(|error| error.kind());
        let needed = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
        if !refused.is_some_and(|kind| needed.contains(&kind)) {
            return Ok(None);
        }
        fs::create_dir(&dir)?;
        let copy = Self { dir };
        copy_file(&mark_of(path), &mark_of(&copy.index()))?;
        copy_dir(path, &copy.index())?;
        Ok(Some(copy))
    }

    /// Where it is.
    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }
}

impl Drop for IndexCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(copy = %self.dir.display(), %error, "cannot be removed; remove it by hand");
        }
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies a file without its permissions: one that nobody may write would be of no use.
fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?)
}

impl View {
    /// Opens an index as [`super::Index::open`] does, but reads no row yet: one that is damaged does
    /// not keep the others from being read.
    pub(crate) fn salvage(path: &Path, incarnation: Incarnation) -> Result<Self, OpenError> {
        let Opened { database, .. } = Opened::open(path, incarnation)?;
        Ok(Self::of(&database, &Poison::default()))
    }
}

#[cfg(test)]
pub(crate) mod damage {
    use dfs_proto::name::UserName;

    use super::super::{Index, Space, codec, txn::Changes};

    /// Makes a row of a path of these bytes.
    pub(crate) fn put_path(index: &Index, user: &UserName, path: &str, row: &[u8]) {
        let mut changes = Changes::default();
        let key = codec::path_key(user, path);
        changes[Space::Paths as usize].insert(key, Some(row.to_vec().into()));
        index.database.write(changes, true).unwrap();
        index.database.sync().unwrap();
    }
}
