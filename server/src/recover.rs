//! Getting files out of data directories with no node running: those of dead machines, for
//! instance. Nothing is decided by a quorum here: of all that the directories know, the newest
//! version of each path is taken.
//!
//! Where an index can be opened it says which versions are current and which are removed, and
//! has the small chunks. Where none can, or not all of it can be read, the chunk files speak for
//! themselves: every upload of which all four chunks are there is written as `PATH~TIME`, and nobody
//! knows which of them was current, whether the file had been removed, nor what small files there
//! were. The database writes where it opens an index: of one that may only be read a copy is opened.

mod name;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{ChunkSum, Manifest, UploadId, Version};
use dfs_proto::name::{FilePath, UserName};

use crate::chunk_key::ChunkKey;
use crate::identity::{DataDir, IdentityError};
use crate::index::salvage::IndexCopy;
use crate::index::txn::Lookup;
use crate::index::{IndexError, View};
use crate::store::reader::ChunkReader;
use crate::store::salvage;

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("{0} is not empty; name a new directory for what is recovered")]
    NotEmpty(PathBuf),
    #[error("{0} is no data directory of a node: it has no 'chunks'")]
    NoData(PathBuf),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Current versions that were written.
    pub(crate) files: u64,
    /// Uploads that were written under a name with a time, because no index spoke of them.
    pub(crate) guessed: u64,
    /// Current versions of which a chunk is in none of the directories.
    pub(crate) incomplete: u64,
    /// Files and directories inside the data directories that could not be read.
    pub(crate) unreadable: u64,
    /// Data directories whose index could not be opened, or not be read as a whole.
    pub(crate) without_index: Vec<PathBuf>,
}

impl Recovered {
    /// What nobody can know of what was recovered, if there is such a thing.
    pub(crate) fn warning(&self) -> Option<String> {
        let guessed = self.guessed;
        (!self.without_index.is_empty()).then(|| {
            format!(
                "{guessed} uploads of directories without an index are written as PATH~TIME: nobody can \
                 tell which of them was current or removed, and files whose chunks are up to 64 KiB \
                 are not among them"
            )
        })
    }
}

/// One data directory.
struct Source {
    dir: PathBuf,
    /// Keeps nodes away while it is read.
    _lock: Option<DataDir>,
    view: Option<View>,
    /// Goes after the view of it.
    _copy: Option<IndexCopy>,
}

/// All data directories together.
struct Sources {
    each: Vec<Source>,
    files: HashMap<ChunkKey, Vec<PathBuf>>,
}

/// Uploads by what they were for.
type Uploads = BTreeMap<(UserName, FilePath, UploadId), (Manifest, u64)>;

/// The newest version of each path.
type Newest = BTreeMap<(UserName, FilePath), Version>;

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RecoverError {
    let path = path.to_owned();
    move |source| RecoverError::Io { path, source }
}

/// Writes what can be read from `from` to `OUT/USER/PATH`; `tell` hears of what cannot.
pub(crate) fn recover(
    from: &[PathBuf],
    out: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<Recovered, RecoverError> {
    match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(out).map_err(io_error(out))?;
        }
        entries => {
            if entries.map_err(io_error(out))?.next().is_some() {
                return Err(RecoverError::NotEmpty(out.to_owned()));
            }
        }
    }
    let mut recovered = Recovered::default();
    let mut sources = Sources { each: Vec::new(), files: HashMap::new() };
    let mut uploads = Uploads::new();
    for (number, dir) in from.iter().enumerate() {
        if !salvage::looks_like_data(dir).map_err(io_error(dir))? {
            return Err(RecoverError::NoData(dir.clone()));
        }
        // No user's name begins like that.
        let copy = out.join(format!(".index-{number}"));
        let source = Source::open(dir, copy, tell)?;
        if source.view.is_none() {
            recovered.without_index.push(dir.clone());
        }
        let mut pass_over = |path: &Path, why: &dyn Display| {
            recovered.unreadable += 1;
            tell(format!("{}: {why}; it is passed over", path.display()));
        };
        for found in salvage::find(dir, &mut pass_over) {
            let header = found.header;
            let key = header.key.clone();
            let upload = (key.user.clone(), header.path, key.upload);
            let written = uploads.entry(upload).or_insert((header.manifest, 0));
            written.1 = written.1.max(header.written_ms);
            sources.files.entry(key).or_default().push(found.file);
        }
        sources.each.push(source);
    }
    let newest = sources.newest(&mut |dir, why| {
        tell(format!(
            "{}: not all of its index can be read: {why}; large files that no other index knows are \
             written as PATH~TIME",
            dir.display()
        ));
        recovered.without_index.push(dir.to_owned());
    });
    for ((user, path), version) in &newest {
        let Some(manifest) = version.manifest() else { continue };
        let target = out.join(user.as_str()).join(path.as_str());
        match sources.write(user, version.upload, manifest, &target)? {
            Ok(()) => recovered.files += 1,
            Err(chunk) => {
                recovered.incomplete += 1;
                tell(format!("{user}/{path}: chunk {chunk} is in none of the directories"));
            }
        }
    }
    if !recovered.without_index.is_empty() {
        recovered.guessed = sources.guess(&uploads, &newest, out)?;
    }
    Ok(recovered)
}

impl Source {
    /// Opens what there is; `copy` is a name for a copy of the index, if one is needed.
    fn open(dir: &Path, copy: PathBuf, tell: &mut dyn FnMut(String)) -> Result<Self, RecoverError> {
        let data_dir = match DataDir::open(dir) {
            Err(error @ IdentityError::Locked(_)) => return Err(error.into()),
            opened => opened,
        };
        let opened = data_dir.map_err(|error| error.to_string()).and_then(|data_dir| {
            let identity = data_dir.any_identity().map_err(|error| error.to_string())?;
            let copy = IndexCopy::where_needed(&data_dir.index(), copy.clone()).map_err(|error| {
                format!(
                    "it is where nothing may be written, and cannot be copied to {}: {error}; make \
                     room there, or name a copy of the data directory",
                    copy.display()
                )
            })?;
            let index = copy.as_ref().map_or_else(|| data_dir.index(), IndexCopy::index);
            let view = View::salvage(&index, identity.incarnation);
            Ok((data_dir, view.map_err(|error| error.to_string())?, copy))
        });
        let dir = dir.to_owned();
        Ok(match opened {
            Ok((lock, view, copy)) => {
                Self { dir, _lock: Some(lock), view: Some(view), _copy: copy }
            }
            Err(why) => {
                tell(format!("{}: no index: {why}", dir.display()));
                Self { dir, _lock: None, view: None, _copy: None }
            }
        })
    }
}

impl Sources {
    /// The newest version of every path that any index knows, removals included. `in_part` hears of
    /// each index of which something cannot be read, and why.
    fn newest(&self, in_part: &mut dyn FnMut(&Path, IndexError)) -> Newest {
        let mut newest = Newest::new();
        for source in &self.each {
            let mut problem = None;
            for row in source.view.iter().flat_map(|view| view.records(None, None)) {
                match row {
                    Ok((user, path, current)) => {
                        let version = current.record.version;
                        let known = newest.entry((user, path)).or_insert_with(|| version.clone());
                        if known.tag < version.tag {
                            *known = version;
                        }
                    }
                    // Those behind it are read all the same.
                    Err(error @ IndexError::Damaged(_)) => _ = problem.get_or_insert(error),
                    Err(error) => {
                        problem = Some(error);
                        break;
                    }
                }
            }
            if let Some(problem) = problem {
                in_part(&source.dir, problem);
            }
        }
        newest
    }

    /// Writes whole uploads that no index speaks of, under names with a time.
    fn guess(&self, uploads: &Uploads, newest: &Newest, out: &Path) -> Result<u64, RecoverError> {
        let mut written = 0;
        for ((user, path, upload), (manifest, written_ms)) in uploads {
            let known = newest.get(&(user.clone(), path.clone()));
            if known.is_some_and(|version| version.upload == *upload) {
                continue;
            }
            let name = format!("{path}~{}", name::time(*written_ms));
            let target = out.join(user.as_str()).join(name);
            written += u64::from(self.write(user, *upload, manifest, &target)?.is_ok());
        }
        Ok(written)
    }

    /// Writes one upload; or says which chunk cannot be had.
    fn write(
        &self,
        user: &UserName,
        upload: UploadId,
        manifest: &Manifest,
        target: &Path,
    ) -> Result<Result<(), ChunkId>, RecoverError> {
        let target = name::free(target, upload);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".recovering");
        let temporary = target.with_file_name(name);
        let mut file = File::create(&temporary).map_err(io_error(&temporary))?;
        for chunk in ChunkId::ALL {
            let key = ChunkKey { user: user.clone(), upload, chunk };
            let copied = self.copy(&key, manifest.chunk(chunk), &mut file);
            if !copied.map_err(io_error(&temporary))? {
                fs::remove_file(&temporary).map_err(io_error(&temporary))?;
                return Ok(Err(chunk));
            }
        }
        file.sync_all().map_err(io_error(&temporary))?;
        fs::rename(&temporary, &target).map_err(io_error(&target))?;
        Ok(Ok(()))
    }

    /// Appends a chunk from the first directory that has a good copy of it.
    fn copy(&self, key: &ChunkKey, sum: ChunkSum, out: &mut File) -> io::Result<bool> {
        let start = out.metadata()?.len();
        for view in self.each.iter().filter_map(|source| source.view.as_ref()) {
            let entry = view.chunk(key).ok().flatten();
            let inline = entry.filter(|entry| entry.sum == sum).and_then(|entry| entry.inline);
            if let Some(data) = inline.filter(|data| Crc32c::of(data) == sum.crc) {
                out.write_all(&data)?;
                return Ok(true);
            }
        }
        for file in self.files.get(key).into_iter().flatten() {
            if copy_file(file, key, sum, out)? {
                return Ok(true);
            }
            // What was written of a bad copy goes.
            out.set_len(start)?;
            io::Seek::seek(out, io::SeekFrom::Start(start))?;
        }
        // An empty chunk needs no copy.
        Ok(sum.length == 0)
    }
}

/// Appends a chunk file; false where it is not what it should be.
fn copy_file(file: &Path, key: &ChunkKey, sum: ChunkSum, out: &mut File) -> io::Result<bool> {
    let Ok((header, reader)) = ChunkReader::open(file) else { return Ok(false) };
    if header.key != *key || header.sum() != sum {
        return Ok(false);
    }
    let mut whole = Crc32c::default();
    for index in 0..dfs_proto::chunk::block_count(sum.length) {
        match reader.read_block(index) {
            Ok((data, crc)) if Crc32c::of(&data) == crc => {
                whole = whole.then(crc, u64::try_from(data.len()).unwrap_or(0));
                out.write_all(&data)?;
            }
            _ => return Ok(false),
        }
    }
    Ok(whole == sum.crc)
}

#[cfg(test)]
mod tests;
