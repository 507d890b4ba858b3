//! Opening the database, and every check that shows that it is the one that was closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfs_proto::manifest::Incarnation;

use super::mark::Mark;
use super::txn::Lookup;
use super::{Database, OpenError, Space, codec, journal};

/// A database that is what it should be, with its mark and its last group of changes.
pub(super) struct Opened {
    pub(super) database: Arc<Database>,
    pub(super) mark: Mark,
    pub(super) group: u64,
}

impl Opened {
    /// Opens the database at `path`, of this `incarnation`. Never makes one.
    pub(super) fn open(path: &Path, incarnation: Incarnation) -> Result<Self, OpenError> {
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        if is_missing(path).map_err(|error| damaged(error.to_string()))? {
            return Err(OpenError::Missing(path.to_owned()));
        }
        let (mark, durable) = Mark::open(&mark_of(path))
            .map_err(|error| damaged(format!("its mark cannot be read: {error}")))?;
        let durable = durable.ok_or_else(|| damaged("its mark is damaged".into()))?;
        journal::check(path, durable).map_err(|error| damaged(error.to_string()))?;
        let fjall =
            fjall::Database::recover(Database::builder(path).into_config()).map_err(|error| {
                match error {
                    fjall::Error::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                        OpenError::Missing(path.to_owned())
                    }
                    other => damaged(other.to_string()),
                }
            })?;
        let open = |space: Space| {
            if !fjall.keyspace_exists(space.name()) {
                return Err(damaged(format!("it has no {}", space.name())));
            }
            let opened = fjall.keyspace(space.name(), || space.options());
            opened.map_err(|error| damaged(error.to_string()))
        };
        let [paths, uploads, chunks, meta] = Space::ALL.map(open);
        let spaces = [paths?, uploads?, chunks?, meta?];
        let database = Arc::new(Database { fjall, spaces });
        let sentinel = database.get(Space::Meta, codec::NODE_KEY);
        let sentinel = sentinel.map_err(|error| damaged(error.to_string()))?;
        let bytes = sentinel.ok_or_else(|| damaged("its first row is missing".into()))?;
        let found = codec::read_node(&bytes).map_err(|error| damaged(error.to_string()))?;
        if found != incarnation {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        let group = database.group().map_err(|error| damaged(error.to_string()))?;
        let group =
            group.ok_or_else(|| damaged("it does not say which change is its last".into()))?;
        if group < durable {
            return Err(OpenError::Lost { path: path.to_owned(), found: group, expected: durable });
        }
        Ok(Self { database, mark, group })
    }
}

/// Whether there is nothing at all where the index should be. Of anything less the database
/// would make a new one, and what was acknowledged would be gone without a word.
fn is_missing(path: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        entries => Ok(entries?.next().is_none()),
    }
}

/// The file with the mark of the index at `path`. It is not in it: it has to be there still
/// when the index was replaced by an older one.
pub(super) fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("mark")
}
