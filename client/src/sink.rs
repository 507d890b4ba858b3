//! Where the bytes of a GET go: into a file, in any order, or out on a stream, in order.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use dfs_proto::chunk::BLOCK_BYTES;
use dfs_proto::digest::{Md5Digest, Md5Hasher};
use dfs_proto::manifest::{Manifest, Version};
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::partial::{Partial, Prefix};

/// Blocks that may wait for a slow stream.
const QUEUE: usize = 2;

/// What has come of a file longer than this outlives the program, in bytes; a shorter one is
/// fetched again in no time.
const KEEP_BYTES: u64 = 64 << 20;

/// Up to so many bytes are written at once: to hand them to another thread takes longer.
const QUICK_BYTES: usize = 4 << 10;

/// A place for bytes.
pub(crate) enum Sink {
    /// A temporary file beside its target.
    File(PartFile),
    /// A stream.
    Stream(StreamSink),
}

/// A file that appears under its name only when it is whole.
pub(crate) struct PartFile {
    target: PathBuf,
    file: Hold,
    /// Length of the version that is being written.
    size: u64,
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

impl PartFile {
    /// Makes the file in the target's directory, or opens what another get of `size` bytes has
    /// left there. Where another get to the same target is under way each has its own.
    pub(crate) fn create(target: &Path, size: u64) -> Result<Self, Error> {
        let target = target.to_owned();
        if size > KEEP_BYTES {
            let partial = Partial::open(&target).map_err(Error::local("write to", &*target))?;
            if let Some(partial) = partial {
                let file = Hold::Partial(Arc::new(partial));
                return Ok(Self { target, file, size });
            }
        }
        let file = Self::temporary(&target)?;
        Ok(Self { target, file, size })
    }

    fn temporary(target: &Path) -> Result<Hold, Error> {
        let directory = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dfs-").suffix(".partial");
        // As any program would create it; the umask takes its share.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let made: NamedTempFile =
            builder.tempfile_in(directory).map_err(Error::local("write to", directory))?;
        let (file, path) = made.into_parts();
        Ok(Hold::Temporary(Arc::new(file), path))
    }

    /// Begins with a version; tells how much of each of its chunks has come before.
    pub(crate) async fn begin(
        &mut self,
        version: &Version,
        manifest: &Manifest,
    ) -> Result<[Prefix; 4], Error> {
        self.size = manifest.size();
        let Hold::Partial(partial) = &self.file else {
            return Ok(Default::default());
        };
        let (partial, version, manifest) = (partial.clone(), version.clone(), manifest.clone());
        let begun = tokio::task::spawn_blocking(move || partial.begin(&version, &manifest)).await;
        let begun = begun.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        begun.map_err(Error::local("write to", &*self.target))
    }

    /// Writes a block at its offset in the file.
    pub(crate) async fn write(&self, offset: u64, data: Bytes) -> Result<(), Error> {
        self.write_all(vec![(offset, data)]).await
    }

    /// Writes blocks at their offsets in the file.
    pub(crate) async fn write_all(&self, blocks: Vec<(u64, Bytes)>) -> Result<(), Error> {
        let size = self.size;
        let file = match &self.file {
            Hold::Temporary(file, _) => Held::Temporary(file.clone()),
            Hold::Partial(partial) => Held::Partial(partial.clone()),
        };
        let bytes: usize = blocks.iter().map(|(_, block)| block.len()).sum();
        let write = move || {
            blocks.iter().try_for_each(|(offset, data)| match &file {
                Held::Temporary(file) => file.write_all_at(data, *offset),
                Held::Partial(partial) => Partial::write(partial.file(), size, *offset, data),
            })
        };
        let written = if bytes <= QUICK_BYTES {
            write()
        } else {
            let written = tokio::task::spawn_blocking(write).await;
            written.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        };
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
            // A version may be shorter than one that was begun before it.
            file.set_len(manifest.size()).map_err(failed())?;
            if let Ok(modified) = manifest.modified().parse::<jiff::Timestamp>() {
                file.set_modified(SystemTime::from(modified)).map_err(failed())?;
            }
            Ok::<(), Error>(())
        };
        match file {
            Hold::Temporary(file, path) => {
                complete(&file)?;
                path.persist(&target).map_err(|error| failed()(error.error))
            }
            Hold::Partial(partial) => {
                complete(partial.file())?;
                partial.persist(&target).map_err(failed())
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

/// A stream, written to by a thread of its own.
pub(crate) struct StreamSink {
    queue: Option<mpsc::Sender<Bytes>>,
    writer: Option<JoinHandle<std::io::Result<Md5Digest>>>,
    began: bool,
}

impl StreamSink {
    pub(crate) fn new(mut stream: Box<dyn Write + Send>, verify: bool) -> Self {
        let (queue, mut blocks) = mpsc::channel::<Bytes>(QUEUE);
        let writer = tokio::task::spawn_blocking(move || {
            let mut md5 = Md5Hasher::new();
            while let Some(block) = blocks.blocking_recv() {
                stream.write_all(&block)?;
                if verify {
                    md5.update(&block);
                }
            }
            stream.flush()?;
            Ok(md5.finish())
        });
        Self { queue: Some(queue), writer: Some(writer), began: false }
    }

    /// Whether a byte may have left the process.
    pub(crate) fn began(&self) -> bool {
        self.began
    }

    /// Writes the next block.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.began = true;
        let sent = match &self.queue {
            Some(queue) => queue.send(data).await.is_ok(),
            None => false,
        };
        // The writer ends early only with an error, which closing reports.
        if sent { Ok(()) } else { self.close().await.map(|_| ()) }
    }

    async fn close(&mut self) -> Result<Option<Md5Digest>, Error> {
        self.queue = None;
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let written = writer.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map(Some).map_err(Error::local("write to", "-"))
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
    /// Into a digest, and nowhere else.
    Digest(&'a mut Md5Hasher),
}

impl Place<'_> {
    /// Writes the block that begins `offset` bytes into the chunk.
    pub(crate) async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Error> {
        match self {
            Self::File { file, start } => file.write(*start + offset, data).await,
            Self::Stream(stream) => stream.write(data).await,
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

    #[tokio::test]
    async fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::create(&folder.path().join("file"), 5).unwrap();
        part.write(0, "hello".into()).await.unwrap();
        drop(part);
        assert!(names(folder.path()).is_empty());
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

    #[tokio::test]
    async fn a_stream_that_breaks_is_an_error() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut sink = StreamSink::new(Box::new(Broken), false);
        let mut failed = false;
        for _ in 0..10 {
            failed |= sink.write("hello".into()).await.is_err();
        }
        assert!(failed || Sink::Stream(sink).check(&manifest(b"x"), false).await.is_err());
    }
}
