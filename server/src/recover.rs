//! Getting files out of data directories with no node running: those of dead machines, for
//! instance. Nothing is decided by a quorum here: of all that the directories know, the newest
//! version of each path is taken.
//!
//! Where an index can be opened it says which versions are current and which are removed, and
//! has the small chunks. Where none can, the chunk files speak for themselves: every upload of
//! which all four chunks are there is written as `PATH~TIME`, and nobody knows which of them
//! was current, whether the file had been removed, nor what small files there were.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{ChunkSum, Manifest, UploadId, Version};
use dfs_proto::name::{FilePath, UserName};

use crate::chunk_key::ChunkKey;
use crate::identity::{DataDir, IdentityError};
use crate::index::txn::Lookup;
use crate::index::{Index, IndexError, View};
use crate::poison::Poison;
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
    #[error("{0}")]
    Index(#[from] IndexError),
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
    /// Directories whose index could not be opened.
    pub(crate) without_index: u64,
}

/// One data directory.
struct Source {
    /// Keeps nodes away while it is read.
    _lock: Option<DataDir>,
    view: Option<View>,
    /// Held open as long as its view is used.
    _index: Option<Index>,
}

/// All data directories together.
struct Sources {
    each: Vec<Source>,
    files: HashMap<ChunkKey, Vec<PathBuf>>,
}

/// Uploads by what they were for.
type Uploads = BTreeMap<(UserName, FilePath, UploadId), (Manifest, u64)>;

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
    for dir in from {
        if !salvage::looks_like_data(dir).map_err(io_error(dir))? {
            return Err(RecoverError::NoData(dir.clone()));
        }
        let source = Source::open(dir, tell)?;
        recovered.without_index += u64::from(source.view.is_none());
        for found in salvage::find(dir) {
            let header = found.header;
            let key = header.key.clone();
            let upload = (key.user.clone(), header.path, key.upload);
            let written = uploads.entry(upload).or_insert((header.manifest, 0));
            written.1 = written.1.max(header.written_ms);
            sources.files.entry(key).or_default().push(found.file);
        }
        sources.each.push(source);
    }
    let newest = sources.newest()?;
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
    if recovered.without_index > 0 {
        recovered.guessed = sources.guess(&uploads, &newest, out)?;
    }
    Ok(recovered)
}

impl Source {
    fn open(dir: &Path, tell: &mut dyn FnMut(String)) -> Result<Self, RecoverError> {
        let data_dir = match DataDir::open(dir) {
            Err(error @ IdentityError::Locked(_)) => return Err(error.into()),
            opened => opened,
        };
        let opened = data_dir.map_err(|error| error.to_string()).and_then(|data_dir| {
            let identity = data_dir.any_identity().map_err(|error| error.to_string())?;
            let index = Index::open(&data_dir.index(), identity.incarnation, Poison::default());
            Ok((data_dir, index.map_err(|error| error.to_string())?))
        });
        match opened {
            Ok((data_dir, index)) => {
                let view = Some(index.view());
                Ok(Self { _lock: Some(data_dir), view, _index: Some(index) })
            }
            Err(why) => {
                tell(format!("{}: no index: {why}", dir.display()));
                Ok(Self { _lock: None, view: None, _index: None })
            }
        }
    }
}

impl Sources {
    /// The newest version of every path that any index knows, removals included.
    fn newest(&self) -> Result<BTreeMap<(UserName, FilePath), Version>, RecoverError> {
        let mut newest = BTreeMap::<(UserName, FilePath), Version>::new();
        for view in self.each.iter().filter_map(|source| source.view.as_ref()) {
            for row in view.records(None, None) {
                let (user, path, current) = row?;
                let version = current.record.version;
                let known = newest.entry((user, path)).or_insert_with(|| version.clone());
                if known.tag < version.tag {
                    *known = version;
                }
            }
        }
        Ok(newest)
    }

    /// Writes whole uploads that no index speaks of, under names with a time.
    fn guess(
        &self,
        uploads: &Uploads,
        newest: &BTreeMap<(UserName, FilePath), Version>,
        out: &Path,
    ) -> Result<u64, RecoverError> {
        let mut written = 0;
        for ((user, path, upload), (manifest, written_ms)) in uploads {
            let known = newest.get(&(user.clone(), path.clone()));
            if known.is_some_and(|version| version.upload == *upload) {
                continue;
            }
            let name = format!("{path}~{}", time(*written_ms));
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
        let target = free(target, upload);
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

/// `target`, or a name beside it where one of its folders is a file, or it is a folder: in dfs
/// both `a` and `a/b` may exist.
fn free(target: &Path, upload: UploadId) -> PathBuf {
    let is_file = |dir: &Path| dir.is_file();
    let blocked = target.exists() || target.ancestors().skip(1).any(is_file);
    if !blocked {
        return target.to_owned();
    }
    let mut path = PathBuf::new();
    for part in target.components() {
        if path.is_file() {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push("~");
            path.set_file_name(name);
        }
        path.push(part);
    }
    if path.exists() {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!("~{upload}"));
        path.set_file_name(name);
    }
    path
}

/// A time as `20261122T235959Z`, which sorts and is a file name everywhere.
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years: the year begins with March, so that the leap
    // day is its last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "19700101T000000Z"),
            (951_782_399_000, "20000228T235959Z"),
            (951_782_400_000, "20000229T000000Z"),
            (951_868_800_000, "20000301T000000Z"),
            (1_795_391_999_999, "20261122T235959Z"),
            (4_107_542_400_000, "21000301T000000Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }

    #[test]
    fn a_file_that_is_also_a_folder_gets_a_name_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let upload = UploadId::new([1; 16]);
        let (file, inside) = (dir.path().join("a"), dir.path().join("a/b"));
        assert_eq!(free(&file, upload), file);
        fs::write(&file, "x").unwrap();
        assert_eq!(free(&inside, upload), dir.path().join("a~/b"));
        let again = free(&file, upload);
        assert_eq!(again, dir.path().join(format!("a~{upload}")));
    }
}
