//! Walks over whole parts of the index, page by page: what healing and scrub look at.

use std::ops::Bound;

use dfs_proto::manifest::UploadId;
use dfs_proto::name::{FilePath, Prefix, UserName};
use dfs_proto::protocol::row::{Current, Upload};

use super::{IndexError, Space, View, codec, or_poisoned};
use crate::chunk_key::ChunkKey;

impl View {
    /// The rows of a part whose keys start with `prefix`, after `after` if given.
    fn rows(
        &self,
        space: Space,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
    ) -> impl Iterator<Item = Result<(fjall::UserKey, fjall::UserValue), IndexError>> + use<> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let poison = self.poison.clone();
        fjall::Readable::range(
            &self.snapshot,
            self.database.space(space),
            (start, Bound::Unbounded),
        )
        .map(move |guard| or_poisoned(&poison, guard.into_inner()))
        .take_while(move |row| match row {
            Ok((key, _)) => key.starts_with(&prefix),
            Err(_) => true,
        })
    }

    /// The newest versions of all paths, of one user and prefix or of all users, in byte order
    /// of user and path, after the one named.
    pub(crate) fn records(
        &self,
        of: Option<(&UserName, &Prefix)>,
        after: Option<(&UserName, &FilePath)>,
    ) -> impl Iterator<Item = Result<(UserName, FilePath, Current), IndexError>> + use<> {
        let prefix = of.map(|(user, prefix)| codec::path_key(user, prefix.as_str()));
        let after = after.map(|(user, path)| codec::path_key(user, path.as_str()));
        self.rows(Space::Paths, prefix.unwrap_or_default(), after).map(|row| {
            let (key, value) = row?;
            let (user, path) = codec::read_path_key(&key)?;
            Ok((user, path, codec::read_current(&value)?))
        })
    }

    /// All uploads that are not current versions, in byte order of user, path and upload, after
    /// the one named.
    pub(crate) fn uploads_after(
        &self,
        after: Option<(&UserName, &FilePath, UploadId)>,
    ) -> impl Iterator<Item = Result<(UserName, FilePath, UploadId, Upload), IndexError>> + use<>
    {
        let after = after.map(|(user, path, upload)| codec::upload_key(user, path, upload));
        self.rows(Space::Uploads, Vec::new(), after).map(|row| {
            let (key, value) = row?;
            let (user, path, upload) = codec::read_upload_key(&key)?;
            Ok((user, path, upload, codec::read_upload(&value)?))
        })
    }

    /// All chunks with their path and length, in the order of their keys, after the one named.
    pub(crate) fn chunks_after(
        &self,
        after: Option<&ChunkKey>,
    ) -> impl Iterator<Item = Result<(ChunkKey, FilePath, u64), IndexError>> + use<> {
        self.rows(Space::Chunks, Vec::new(), after.map(codec::chunk_key)).map(|row| {
            let (key, value) = row?;
            let entry = codec::read_chunk(&value.into())?;
            Ok((codec::read_chunk_key(&key)?, entry.path, entry.sum.length))
        })
    }
}
