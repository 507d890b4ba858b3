//! A note about a PUT that may be gone on with: which upload it was, of what content.
//!
//! It is there from before the first byte is sent until just before the first Commit is, and
//! never after: an upload that may have been committed must not be used again. A note that is
//! torn or does not fit is no note.
//!
//! It is YAML; its last line, a comment, has the CRC32C of all that is in front of it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::{Manifest, UploadId};
use dfs_proto::name::{ClusterName, FilePath, UserName};
use serde::{Deserialize, Serialize};

use crate::locked;

/// A note is a few lines; more than this is none, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What the last line begins with.
const CHECKSUM: &str = "# checksum ";

/// What is put where.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Subject {
    cluster: String,
    user: String,
    remote: String,
    /// As ASCII: a path may have any bytes.
    local: String,
}

impl Subject {
    /// Names a PUT; the local path is made absolute.
    pub(crate) fn new(
        cluster: &ClusterName,
        user: &UserName,
        remote: &FilePath,
        local: &Path,
    ) -> io::Result<Self> {
        Ok(Self {
            cluster: cluster.to_string(),
            user: user.to_string(),
            remote: remote.to_string(),
            local: std::path::absolute(local)?.as_os_str().as_bytes().escape_ascii().to_string(),
        })
    }

    fn file_name(&self) -> String {
        // None of them has a NUL in it.
        let text = [&*self.cluster, &self.user, &self.remote, &self.local].join("\0");
        format!("put-{}.yaml", Md5Digest::of(text.as_bytes()))
    }
}

/// Which content.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Fingerprint {
    size: u64,
    md5: String,
    crcs: [u32; 4],
    modified: String,
    metadata: BTreeMap<String, String>,
}

impl From<&Manifest> for Fingerprint {
    fn from(manifest: &Manifest) -> Self {
        Self {
            size: manifest.size(),
            md5: manifest.md5().to_string(),
            crcs: ChunkId::ALL.map(|chunk| manifest.chunk(chunk).crc.get()),
            modified: manifest.modified().to_owned(),
            metadata: manifest.metadata().clone(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Entry {
    subject: Subject,
    content: Fingerprint,
    upload_id: [u8; 16],
}

/// What an earlier run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing.
    Nothing,
    /// This upload, of the same content.
    Same(UploadId),
    /// This upload, of another content.
    Other(UploadId),
}

/// The open and locked note of one PUT.
#[derive(Debug)]
pub(crate) struct Note {
    subject: Subject,
    path: PathBuf,
    file: File,
}

impl Note {
    /// Opens the note about `subject` in `folder`, which is made if it is not there. `None`
    /// where another PUT of the same is under way.
    pub(crate) fn open(folder: &Path, subject: Subject) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(subject.file_name());
        let file = locked::open(&path, 0o600)?;
        Ok(file.map(|file| Self { subject, path, file }))
    }

    /// Reads what an earlier run has left.
    pub(crate) fn read(&mut self, manifest: &Manifest) -> io::Result<Before> {
        let mut text = String::new();
        self.file.rewind()?;
        // What is no text is no note.
        if (&self.file).take(MAX_BYTES).read_to_string(&mut text).is_err() {
            return Ok(Before::Nothing);
        }
        let Some(entry) = decode(&text).filter(|entry| entry.subject == self.subject) else {
            return Ok(Before::Nothing);
        };
        let upload = UploadId::new(entry.upload_id);
        let same = entry.content == Fingerprint::from(manifest);
        Ok(if same { Before::Same(upload) } else { Before::Other(upload) })
    }

    /// Notes an upload, durably.
    pub(crate) fn write(&mut self, upload: UploadId, manifest: &Manifest) -> io::Result<()> {
        let (subject, content) = (self.subject.clone(), manifest.into());
        let entry = Entry { subject, content, upload_id: *upload.bytes() };
        let text = encode(&entry).map_err(io::Error::other)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        self.sync_folder()
    }

    /// Removes the note, durably: emptied first, so that not even a removal that is undone by a
    /// crash brings it back.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()?;
        std::fs::remove_file(&self.path)
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn encode(entry: &Entry) -> Result<String, serde_yaml::Error> {
    Ok(sealed(&serde_yaml::to_string(entry)?))
}

fn sealed(front: &str) -> String {
    format!("{front}{CHECKSUM}{:08x}\n", Crc32c::of(front.as_bytes()).get())
}

fn decode(text: &str) -> Option<Entry> {
    let (front, _) = text.rsplit_once(CHECKSUM)?;
    (sealed(front) == text).then(|| serde_yaml::from_str(front).ok())?
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::PermissionsExt;

    fn subject(local: &str) -> Subject {
        let cluster = ClusterName::new("demo").unwrap();
        let (user, remote) = (UserName::new("alice").unwrap(), FilePath::new("a/b").unwrap());
        Subject::new(&cluster, &user, &remote, Path::new(local)).unwrap()
    }

    fn manifest(content: &[u8], modified: &str) -> Manifest {
        let crcs = [Crc32c::new(0), Crc32c::new(1), Crc32c::new(2), Crc32c::new(3)];
        let crcs = if content.len() < 4 { [Crc32c::default(); 4] } else { crcs };
        Manifest::new(Md5Digest::of(content), content.len() as u64, crcs, modified, BTreeMap::new())
            .unwrap()
    }

    #[test]
    fn a_note_is_found_again_and_only_for_the_same_content() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state/dfs");
        let (time, upload) = ("2026-11-22T10:00:00Z", UploadId::new([7; 16]));
        let content = manifest(b"content", time);
        let mut note = Note::open(&state, subject("f")).unwrap().unwrap();
        assert_eq!(note.read(&content).unwrap(), Before::Nothing);
        note.write(upload, &content).unwrap();
        assert!(Note::open(&state, subject("f")).unwrap().is_none(), "it is in use");
        assert!(Note::open(&state, subject("g")).unwrap().is_some(), "another file");
        let mode = std::fs::metadata(&note.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(note);

        let mut note = Note::open(&state, subject("f")).unwrap().unwrap();
        assert_eq!(note.read(&content).unwrap(), Before::Same(upload));
        let changed = manifest(b"contents", time);
        assert_eq!(note.read(&changed).unwrap(), Before::Other(upload));
        let touched = manifest(b"content", "2026-11-22T10:00:01Z");
        assert_eq!(note.read(&touched).unwrap(), Before::Other(upload));
        note.remove().unwrap();
        drop(note);
        let mut note = Note::open(&state, subject("f")).unwrap().unwrap();
        assert_eq!(note.read(&content).unwrap(), Before::Nothing);
    }

    #[test]
    fn a_local_file_may_have_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let content = manifest(b"content", "2026-11-22T10:00:00Z");
        let name = OsStr::from_bytes(b"/\xff\n\xc2\x85 #");
        let cluster = ClusterName::new("demo").unwrap();
        let (user, remote) = (UserName::new("alice").unwrap(), FilePath::new("a/b").unwrap());
        let subject = Subject::new(&cluster, &user, &remote, Path::new(name)).unwrap();
        let mut note = Note::open(folder.path(), subject).unwrap().unwrap();
        note.write(UploadId::new([7; 16]), &content).unwrap();
        let same = Before::Same(UploadId::new([7; 16]));
        assert_eq!(note.read(&content).unwrap(), same);
    }

    #[test]
    fn a_torn_note_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let content = manifest(b"content", "2026-11-22T10:00:00Z");
        let mut note = Note::open(folder.path(), subject("f")).unwrap().unwrap();
        note.write(UploadId::new([123; 16]), &content).unwrap();
        let whole = std::fs::read(&note.path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&note.path, &whole[..length]).unwrap();
            assert_eq!(note.read(&content).unwrap(), Before::Nothing, "{length}");
        }
        std::fs::write(&note.path, [0xff, 0xfe]).unwrap();
        assert_eq!(note.read(&content).unwrap(), Before::Nothing);
    }
}
