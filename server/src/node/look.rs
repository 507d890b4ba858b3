//! Answering questions: what is known of paths, listings, the state of an upload.

use std::collections::BTreeMap;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{Content, Manifest, Record, UploadId};
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::protocol::row::{Current, UploadState};

use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::codec::CodecError;
use crate::index::codec::{CurrentHead, read_current, read_current_head};
use crate::index::txn::Lookup;
use crate::index::usage::Held;
use crate::index::{IndexError, View};
use crate::telemetry::state::Uploads;

/// Most superseded versions that are told of.
const MAX_SUPERSEDED: usize = 64;
/// More questions than this are answered on a blocking thread.
pub(super) const INLINE_QUERIES: usize = 16;

/// What this node knows of one path.
#[derive(Debug, Clone)]
pub(crate) struct Stat {
    pub(crate) path: FilePath,
    pub(crate) current: Option<Current>,
    /// Newest first.
    pub(crate) superseded: Vec<Record>,
    /// Chunks held of the upload asked about.
    pub(crate) upload_have: Option<ChunkSet>,
}

/// What is durable of one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadStatus {
    pub(crate) have: ChunkSet,
    /// Durable bytes of chunks 1..4.
    pub(crate) durable_bytes: [u64; 4],
    pub(crate) fenced: bool,
    pub(crate) committed: bool,
}

/// A path in a listing.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) path: FilePath,
    pub(crate) head: CurrentHead,
    /// The manifest of a file, where it was asked for.
    pub(crate) manifest: Option<Box<Manifest>>,
}

/// A page of a listing.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// What its entries were put into.
    pub(crate) entries: T,
    /// The last path, where there may be more after it.
    pub(crate) more_after: Option<FilePath>,
}

/// How much a page may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimit {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    /// Whether manifests go into the page.
    pub(crate) full: bool,
}

impl Node {
    /// Tells what is known of paths, all at one moment.
    pub(crate) async fn stat(
        &self,
        user: UserName,
        queries: Vec<(FilePath, Option<UploadId>)>,
        superseded: bool,
    ) -> Result<Vec<Stat>, NodeError> {
        let view = self.index.view();
        let few = queries.len() <= INLINE_QUERIES && !superseded;
        let answer = move || {
            let each = queries
                .into_iter()
                .map(|(path, upload)| stat(&view, &user, path, upload, superseded));
            each.collect::<Result<Vec<Stat>, IndexError>>()
        };
        let stats = if few { answer() } else { self.blocking(answer).await? };
        Ok(stats?)
    }

    /// Lists paths in byte order: `put` puts each into `entries`.
    pub(crate) async fn list<T: Send + 'static>(
        &self,
        user: UserName,
        prefix: Prefix,
        start_after: Option<String>,
        limit: PageLimit,
        mut entries: T,
        put: impl Fn(&mut T, Listed) + Send + 'static,
    ) -> Result<Page<T>, NodeError> {
        let view = self.index.view();
        let list = move || {
            let put = |entry| put(&mut entries, entry);
            let more_after = page(&view, &user, &prefix, start_after.as_deref(), limit, put)?;
            Ok::<_, IndexError>(Page { entries, more_after })
        };
        Ok(self.blocking(list).await??)
    }

    /// Tells how much of an upload is durable.
    pub(crate) fn upload_status(
        &self,
        user: &UserName,
        path: &FilePath,
        upload: UploadId,
    ) -> Result<UploadStatus, NodeError> {
        let view = self.index.view();
        let row = view.row(user, path, &[upload])?;
        let have = row.have(upload);
        let mut durable_bytes = [0; 4];
        for key in ChunkKey::each(user, upload, have) {
            let entry = view.chunk(&key)?;
            durable_bytes[key.chunk.index()] = entry.map_or(0, |entry| entry.sum.length);
        }
        for key in ChunkKey::each(user, upload, ChunkSet::ALL.minus(have)) {
            durable_bytes[key.chunk.index()] = self.store.durable_bytes(&key, path);
        }
        let fenced =
            row.uploads.get(&upload).is_some_and(|upload| upload.state == UploadState::Fenced);
        Ok(UploadStatus { have, durable_bytes, fenced, committed: row.committed(upload).is_some() })
    }

    /// How many uploads are neither committed nor dropped, and superseded versions there are.
    pub(crate) fn pending_uploads(&self) -> u64 {
        self.index.usage().pending()
    }

    /// What a user holds.
    pub(crate) fn held_by(&self, user: &UserName) -> Held {
        self.index.usage().of(user)
    }

    /// Counts uploads that are neither committed nor dropped, and superseded versions.
    pub(crate) async fn uploads_by_state(&self) -> Result<Uploads, NodeError> {
        let view = self.index.view();
        let count = move || {
            let mut uploads = Uploads::default();
            for item in view.uploads() {
                let (.., upload) = item?;
                match upload.state {
                    UploadState::Prepared => uploads.prepared += 1,
                    UploadState::Superseded(_) => uploads.superseded += 1,
                    // Dropped.
                    UploadState::Fenced if upload.have.is_empty() => {}
                    UploadState::Fenced => uploads.fenced += 1,
                }
            }
            Ok::<Uploads, IndexError>(uploads)
        };
        Ok(self.blocking(count).await??)
    }

    /// Bytes that the index takes on the disk.
    pub(crate) async fn index_bytes(&self) -> Result<u64, NodeError> {
        let view = self.index.view();
        Ok(self.blocking(move || view.disk_bytes()).await??)
    }
}

fn stat(
    view: &View,
    user: &UserName,
    path: FilePath,
    upload: Option<UploadId>,
    superseded: bool,
) -> Result<Stat, IndexError> {
    let row = view.row(user, &path, upload.as_slice())?;
    let superseded = if superseded { newest_superseded(view, user, &path)? } else { Vec::new() };
    Ok(Stat {
        upload_have: upload.map(|upload| row.have(upload)),
        current: row.current,
        superseded,
        path,
    })
}

fn newest_superseded(
    view: &View,
    user: &UserName,
    path: &FilePath,
) -> Result<Vec<Record>, IndexError> {
    let mut newest = BTreeMap::new();
    for item in view.uploads_of(user, path) {
        let (_, upload) = item?;
        if let UploadState::Superseded(version) = upload.state {
            let have = upload.have;
            newest.insert(version.tag, Record { version, have });
            if newest.len() > MAX_SUPERSEDED {
                newest.pop_first();
            }
        }
    }
    Ok(newest.into_values().rev().collect())
}

/// Tells `put` of each entry of a page; returns the last path, where there may be more after it.
fn page(
    view: &View,
    user: &UserName,
    prefix: &Prefix,
    start_after: Option<&str>,
    limit: PageLimit,
    mut put: impl FnMut(Listed),
) -> Result<Option<FilePath>, IndexError> {
    let (mut entries, mut bytes, mut full_after) = (0, 0, None);
    for item in view.paths(user, prefix, start_after, |row| read(row, limit.full)) {
        if full_after.is_some() {
            return Ok(full_after);
        }
        let (path, (head, manifest)) = item?;
        entries += 1;
        bytes += wire_bytes(&path, manifest.as_deref());
        let full = entries >= limit.entries || bytes >= limit.bytes;
        full_after = full.then(|| path.clone());
        put(Listed { path, head, manifest });
    }
    Ok(None)
}

fn read(row: &[u8], full: bool) -> Result<(CurrentHead, Option<Box<Manifest>>), CodecError> {
    if !full {
        return Ok((read_current_head(row)?, None));
    }
    let current = read_current(row)?;
    let head = (&current).into();
    match current.record.version.content {
        Content::File(manifest) => Ok((head, Some(Box::new(manifest)))),
        Content::Tombstone => Ok((head, None)),
    }
}

/// About how many bytes an entry with its manifest takes on the wire.
pub(super) fn encoded_bytes(path: &FilePath, current: &Current) -> usize {
    wire_bytes(path, current.record.version.manifest())
}

/// About how many bytes an entry takes on the wire.
fn wire_bytes(path: &FilePath, manifest: Option<&Manifest>) -> usize {
    /// Tag, upload id and numbers of an entry, with their field numbers and lengths.
    const ENTRY_BYTES: usize = 96;
    /// Numbers, checksums and time of a manifest.
    const MANIFEST_BYTES: usize = 192;
    let manifest = manifest.map_or(0, |manifest| {
        let notes = manifest.metadata().iter();
        MANIFEST_BYTES + notes.map(|(k, v)| k.len() + v.len() + 8).sum::<usize>()
    });
    ENTRY_BYTES + path.as_str().len() + manifest
}
