//! Where the bytes of a GET go: into a file, in any order, or out on a stream, in order.

mod memory;
mod stream;

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use dfs_proto::chunk::BLOCK_BYTES;
use dfs_proto::digest::{Md5Digest, Md5Hasher};
use dfs_proto::manifest::{Manifest, Version};
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::partial::{Partial, Prefix};
use crate::swap;
pub(crate) use memory::Memory;
pub(crate) use stream::StreamSink;

/// What has come of a file longer than this outlives the program, in bytes; a shorter one is
/// fetched again in no time.
const KEEP_BYTES: u64 = 64 << 20;

/// The pieces of a file up to so many bytes are copied together: one write takes less.
const JOINED_BYTES: u64 = 64 << 10;

/// A place for bytes.
pub(crate) enum Sink {
    /// A temporary file beside its target.
    File(PartFile),
    /// A stream.
    Stream(StreamSink),
}

/// A new file in the directory of `target`; it goes when it is dropped.
pub(crate) fn beside(target: &Path) -> Result<NamedTempFile, Error> {
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".dfs-").suffix(".partial");
    // As any program would create it; the umask takes its share.
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory).map_err(Error::local("write to", directory))
}

/// Gives a file that is whole the name `target`.
pub(crate) fn appear(file: TempPath, target: &Path) -> Result<(), Error> {
    let failed = || Error::local("write", target);
    // From here on it is not removed by itself: it has another name.
    let path = file.keep().map_err(|error| failed()(error.error))?;
    swap::replace(&path, target).map_err(|error| {
        let _ = std::fs::remove_file(&path);
        failed()(error)
    })
}

/// A file that appears under its name only when it is whole.
pub(crate) struct PartFile {
    target: PathBuf,
    file: Hold,
    /// Length of the version that is being written.
    size: u64,
    /// For one at a time: the system has them wait for each other on a core. A thread that writes
    /// has it to its end, also when nobody waits for that any more.
    turn: Arc<Semaphore>,
}

/// What holds the bytes until then.
enum Hold {
    /// Goes when it is dropped.
    Temporary(Arc<File>, TempPath),
    /// Stays when it is dropped.
    Partial(Arc<Partial>),
}

/// The same, for a thread that writes.
enum Held {
    Temporary(Arc<File>),
    Partial(Arc<Partial>),
}

impl Held {
    fn write(&self, size: u64, offset: u64, data: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Temporary(file) => file.write_all_at(data, offset),
            Self::Partial(partial) => Partial::write(partial.file(), size, offset, data),
        }
    }
}

impl PartFile {
    /// Makes the file in the target's directory, or opens what another get of `size` bytes has
    /// left there. Where another get to the same target is under way each has its own.
    pub(crate) fn create(target: &Path, size: u64) -> Result<Self, Error> {
        let target = target.to_owned();
        if size > KEEP_BYTES {
            // Known before it is fetched.
            if target.is_dir() {
                return Err(Error::local("write", target)(ErrorKind::IsADirectory.into()));
            }
            let partial = Partial::open(&target).map_err(Error::local("write to", &*target))?;
            if let Some(partial) = partial {
                let file = Hold::Partial(Arc::new(partial));
                return Ok(Self { target, file, size, turn: Arc::new(Semaphore::new(1)) });
            }
        }
        let file = Self::temporary(&target)?;
        Ok(Self { target, file, size, turn: Arc::new(Semaphore::new(1)) })
    }

    fn temporary(target: &Path) -> Result<Hold, Error> {
        let (file, path) = beside(target)?.into_parts();
        Ok(Hold::Temporary(Arc::new(file), path))
    }

    /// Begins with a version; tells how much of each of its chunks has come before.
    pub(crate) async fn begin(
        &mut self,
        version: &Version,
        manifest: &Manifest,
    ) -> Result<[Prefix; 4], Error> {
        // What was still being written of another version is, by now.
        drop(self.turn.acquire().await);
        self.size = manifest.size();
        let Hold::Partial(partial) = &self.file else {
            return Ok(Default::default());
        };
        let (partial, version, manifest) = (partial.clone(), version.clone(), manifest.clone());
        let begun = tokio::task::spawn_blocking(move || partial.begin(&version, &manifest)).await;
        let begun = begun.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        begun.map_err(Error::local("write to", &*self.target))
    }

    /// Writes a whole short file, on a thread that may block.
    pub(crate) fn write_whole(
        target: &Path,
        manifest: &Manifest,
        pieces: &[Bytes],
    ) -> Result<(), Error> {
        let size = manifest.size();
        let part = Self::create(target, size)?;
        let (held, mut offset) = (part.held(), 0);
        let mut write = |data: &[u8]| {
            let written = held.write(size, offset, data);
            offset += data.len() as u64;
            written.map_err(Error::local("write", target))
        };
        if size <= JOINED_BYTES {
            write(&pieces.concat())?;
        } else {
            pieces.iter().try_for_each(|piece| write(piece))?;
        }
        part.finish(manifest)
    }

    fn held(&self) -> Held {
        match &self.file {
            Hold::Temporary(file, _) => Held::Temporary(file.clone()),
            Hold::Partial(partial) => Held::Partial(partial.clone()),
        }
    }

    /// Writes a block at its offset in the file.
    pub(crate) async fn write(&self, offset: u64, data: Bytes) -> Result<(), Error> {
        self.write_all(vec![(offset, data)]).await
    }

    /// Writes blocks at their offsets in the file.
    pub(crate) async fn write_all(&self, blocks: Vec<(u64, Bytes)>) -> Result<(), Error> {
        let (held, size) = (self.held(), self.size);
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let write = move || {
            let _turn = turn;
            blocks.iter().try_for_each(|(at, data)| held.write(size, *at, data))
        };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(Error::local("write", &*self.target))
    }

    /// The MD5 of what has been written.
    async fn md5(&self) -> Result<Md5Digest, Error> {
        let size = self.size;
        let file = match &self.file {
            Hold::Temporary(file, _) => file.try_clone(),
            Hold::Partial(partial) => partial.file().try_clone(),
        };
        let read = move || {
            let file = file?;
            let mut md5 = Md5Hasher::new();
            let mut buffer = vec![0; BLOCK_BYTES as usize];
            let mut offset = 0;
            while offset < size {
                let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
                let wanted = left.min(buffer.len());
                match file.read_at(&mut buffer[..wanted], offset)? {
                    0 => break,
                    found => {
                        md5.update(&buffer[..found]);
                        offset += found as u64;
                    }
                }
            }
            Ok(md5.finish())
        };
        let digest = tokio::task::spawn_blocking(read).await;
        let digest = digest.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        digest.map_err(Error::local("read", &*self.target))
    }

    fn finish(self, manifest: &Manifest) -> Result<(), Error> {
        let Self { target, file, .. } = self;
        let failed = || Error::local("write", &*target);
        let complete = |file: &File| {
            // A version may be shorter than one that was begun before it, and the notes of a
            // partial file are behind the content.
            if file.metadata().map_err(failed())?.len() != manifest.size() {
                file.set_len(manifest.size()).map_err(failed())?;
            }
            if let Ok(modified) = manifest.modified().parse::<jiff::Timestamp>() {
                file.set_modified(SystemTime::from(modified)).map_err(failed())?;
            }
            Ok::<(), Error>(())
        };
        match file {
            Hold::Temporary(file, path) => {
                complete(&file)?;
                appear(path, &target)
            }
            Hold::Partial(partial) => {
                let whole = complete(partial.file());
                let there = whole.and_then(|()| partial.persist(&target).map_err(failed()));
                // Its notes are gone: no other get could go on with it.
                there.inspect_err(|_| drop(partial.remove()))
            }
        }
    }

    /// Gives up. With `keep` what has come of a large file stays, and where is told.
    pub(crate) fn give_up(self, keep: bool) -> Option<PathBuf> {
        let Hold::Partial(partial) = self.file else {
            return None;
        };
        if keep && partial.holds_any(self.size) {
            return Some(partial.path().to_owned());
        }
        // One that stays is found by the next get.
        let _ = partial.remove();
        None
    }
}

/// Where one chunk goes.
pub(crate) enum Place<'a> {
    /// At its offset in a file.
    File {
        /// The file.
        file: &'a PartFile,
        /// The chunk's first byte in it.
        start: u64,
    },
    /// Next on a stream.
    Stream(&'a mut StreamSink),
    /// Next on a stream, but only these bytes of the chunk.
    Part {
        /// The stream.
        stream: &'a mut StreamSink,
        /// Counted from the chunk's first byte.
        part: Range<u64>,
    },
    /// Into a digest, and nowhere else.
    Digest(&'a mut Md5Hasher),
}

impl Place<'_> {
    /// Whether somebody takes the bytes who may pause.
    pub(crate) fn may_pause(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Part { .. })
    }

    /// Writes the block that begins `offset` bytes into the chunk.
    pub(crate) async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Error> {
        match self {
            Self::File { file, start } => file.write(*start + offset, data).await,
            Self::Stream(stream) => stream.write(data).await,
            Self::Part { stream, part } => {
                let within = |end: u64| {
                    let end = end.saturating_sub(offset);
                    usize::try_from(end).unwrap_or(usize::MAX).min(data.len())
                };
                stream.write(data.slice(within(part.start)..within(part.end))).await
            }
            Self::Digest(md5) => {
                let mut moved = std::mem::take(*md5);
                let hashed = tokio::task::spawn_blocking(move || {
                    moved.update(&data);
                    moved
                });
                let failed = |error| Error::local("hash", "-")(std::io::Error::other(error));
                **md5 = hashed.await.map_err(failed)?;
                Ok(())
            }
        }
    }
}

/// What was written is not what was stored.
pub(crate) struct WrongDigest(pub(crate) Md5Digest);

impl Sink {
    /// Checks the MD5 if asked to; closes a stream.
    pub(crate) async fn check(
        &mut self,
        manifest: &Manifest,
        verify: bool,
    ) -> Result<Result<(), WrongDigest>, Error> {
        let found = match self {
            Self::File(file) if verify => Some(file.md5().await?),
            Self::File(_) => None,
            Self::Stream(stream) => stream.close().await?.filter(|_| verify),
        };
        Ok(match found.filter(|found| *found != manifest.md5()) {
            Some(found) => Err(WrongDigest(found)),
            None => Ok(()),
        })
    }

    /// Ends: a file appears.
    pub(crate) fn finish(self, manifest: &Manifest) -> Result<(), Error> {
        match self {
            Self::File(file) => file.finish(manifest),
            Self::Stream(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::chunk::ChunkId;
    use dfs_proto::digest::Crc32c;
    use dfs_proto::manifest::{Content, UploadId};
    use dfs_proto::tag::{Hlc, Tag};
    use futures_util::FutureExt;
    use std::collections::BTreeMap;

    fn manifest(content: &[u8]) -> Manifest {
        let size = content.len() as u64;
        let crcs = ChunkId::ALL.map(|chunk| {
            let range = chunk.range(size);
            Crc32c::of(&content[range.start as usize..range.end as usize])
        });
        let modified = "2001-02-03T04:05:06Z";
        Manifest::new(Md5Digest::of(content), size, crcs, modified, BTreeMap::new()).unwrap()
    }

    fn version(manifest: &Manifest) -> Version {
        let tag = Tag { hlc: Hlc::new(1), writer: [2; 16] };
        let content = Content::File(manifest.clone());
        Version { tag, upload: UploadId::new([3; 16]), content }
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names = std::fs::read_dir(folder).unwrap().map(name);
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_file_appears_whole_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        std::fs::write(&target, "old").unwrap();
        let part = PartFile::create(&target, 11).unwrap();
        part.write(6, "world".into()).await.unwrap();
        part.write(0, "hello ".into()).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let (mut sink, manifest) = (Sink::File(part), manifest(b"hello world"));
        assert!(sink.check(&manifest, true).await.unwrap().is_ok());
        sink.finish(&manifest).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"hello world");
        let modified = std::fs::metadata(&target).unwrap().modified().unwrap();
        let modified = jiff::Timestamp::try_from(modified).unwrap();
        assert_eq!(modified.to_string(), "2001-02-03T04:05:06Z");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_version_begins_when_nothing_is_written_of_another_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(1).build().unwrap().block_on(async {
            let (go, wait) = std::sync::mpsc::channel();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let target = folder.path().join("file");
            let mut part = PartFile::create(&target, 5).unwrap();
            // It waits for the thread, and its caller does not wait for it.
            assert!(part.write(0, "older".into()).now_or_never().is_none());
            let manifest = manifest(b"newer");
            let version = version(&manifest);
            let mut begun = Box::pin(part.begin(&version, &manifest));
            assert!((&mut begun).now_or_never().is_none(), "the old one is not written yet");
            go.send(()).unwrap();
            begun.await.unwrap();
            busy.await.unwrap().unwrap();
            part.write(0, "newer".into()).await.unwrap();
            part.finish(&manifest).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"newer");
        });
    }

    #[tokio::test]
    async fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::create(&folder.path().join("file"), 5).unwrap();
        part.write(0, "hello".into()).await.unwrap();
        drop(part);
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn where_a_folder_is_no_large_file_begins_and_none_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let mut part = PartFile::create(&target, KEEP_BYTES + 1).unwrap();
        // One of another length is short enough for a test, and is written over the same notes.
        let manifest = manifest(b"hello");
        let version = version(&manifest);
        part.begin(&version, &manifest).await.unwrap();
        part.write(0, "hello".into()).await.unwrap();
        std::fs::create_dir(&target).unwrap();
        part.finish(&manifest).unwrap_err();
        assert_eq!(names(folder.path()), ["target"], "nobody could go on with what had come");
        let refused = PartFile::create(&target, KEEP_BYTES + 1).map(drop).unwrap_err();
        assert!(refused.to_string().contains("directory"), "{refused}");
        assert_eq!(names(folder.path()), ["target"]);
    }

    #[tokio::test]
    async fn a_wrong_digest_keeps_the_file_from_appearing() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::create(&folder.path().join("file"), 5).unwrap();
        part.write(0, "hellO".into()).await.unwrap();
        let mut sink = Sink::File(part);
        assert!(sink.check(&manifest(b"hello"), true).await.unwrap().is_err());
        drop(sink);
        assert!(names(folder.path()).is_empty());
    }
}
