//! Moving versions: commit, confirm, fence, drop. The rules are `dfs_proto`'s; this loads the
//! rows they need, stores what they changed, and does so for whole batches at a time.

use std::sync::Arc;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::manifest::{UploadId, Version};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::protocol::Refused;
use dfs_proto::protocol::row::{Ack, CommitOrder, DropEvidence, FenceAnswer, Row};
use dfs_proto::tag::Tag;

use super::{Node, NodeError};
use crate::chunk_key::ChunkKey;
use crate::index::IndexError;
use crate::index::txn::{Lookup, Txn};

impl Node {
    /// Commits versions; each entry stands alone. Durable when answered.
    pub(crate) async fn commit(
        &self,
        user: UserName,
        orders: Vec<(FilePath, CommitOrder)>,
    ) -> Result<Vec<Result<Ack, Refused>>, NodeError> {
        self.check_poison()?;
        let outlook = self.outlook.clone();
        let committed: Vec<UploadId> =
            orders.iter().map(|(_, order)| order.version.upload).collect();
        let owner = user.clone();
        let commit = move |txn: &mut Txn<'_>| {
            let view = outlook.view();
            let mut files = Vec::new();
            let each = orders.iter().map(|(path, order)| {
                let upload = order.version.upload;
                let before = txn.row(&user, path, &[upload])?;
                let foreign = misfits(txn, &user, &before, &order.version)?;
                let result = if foreign.is_empty() || order.write_back {
                    apply(txn, &user, path, before, |row| {
                        let ack = row.commit(&view, order)?;
                        row.lose_chunks(upload, foreign);
                        Ok(ack)
                    })
                } else {
                    Err(Refused::TagConflict)
                };
                if result.is_ok() {
                    files.extend(forget(txn, ChunkKey::each(&user, upload, foreign))?);
                }
                tracing::debug!(
                    %user, %path, version = %order.version.tag, %upload,
                    write_back = order.write_back, ?result, "commit"
                );
                Ok(result)
            });
            let results = each.collect::<Result<_, IndexError>>()?;
            Ok((results, files))
        };
        let (results, files): (Vec<Result<Ack, Refused>>, _) = self.index.update(commit).await?;
        self.remove_files(files).await?;
        for (result, upload) in results.iter().zip(committed) {
            // Who committed it sends no more of it.
            if result.is_ok() && !self.store.partials_of(&owner, upload).is_empty() {
                self.forget_partials(&owner, upload).await?;
            }
        }
        Ok(results)
    }

    /// Confirms versions. A crash may undo it.
    pub(crate) async fn confirm(
        &self,
        user: UserName,
        versions: Vec<(FilePath, Tag)>,
    ) -> Result<(), NodeError> {
        self.check_poison()?;
        let confirm = move |txn: &mut Txn<'_>| {
            for (path, tag) in &versions {
                let before = txn.row(&user, path, &[])?;
                let mut row = before.clone();
                row.confirm(*tag);
                txn.put_row(&user, path, &before, &row);
            }
            Ok(())
        };
        Ok(self.index.update_lazy(confirm).await?)
    }

    /// Fences uploads. Durable when answered.
    pub(crate) async fn fence(
        &self,
        user: UserName,
        uploads: Vec<(FilePath, UploadId)>,
    ) -> Result<Vec<Result<FenceAnswer, Refused>>, NodeError> {
        self.check_poison()?;
        let outlook = self.outlook.clone();
        let fenced: Vec<UploadId> = uploads.iter().map(|(_, upload)| *upload).collect();
        let owner = user.clone();
        let fence = move |txn: &mut Txn<'_>| {
            let view = outlook.view();
            let each = uploads.iter().map(|(path, upload)| {
                change(txn, &user, path, *upload, |row| row.fence(&view, *upload))
            });
            each.collect()
        };
        let answers: Vec<Result<FenceAnswer, Refused>> = self.index.update(fence).await?;
        for (answer, upload) in answers.iter().zip(fenced) {
            if matches!(answer, Ok(FenceAnswer::Fenced)) {
                self.forget_partials(&owner, upload).await?;
            }
        }
        Ok(answers)
    }

    /// Removes the data of fenced uploads: first from the index, durably, then the files.
    pub(crate) async fn drop_uploads(
        self: &Arc<Self>,
        user: UserName,
        entries: Vec<(FilePath, UploadId, DropEvidence)>,
    ) -> Result<Vec<Result<(), Refused>>, NodeError> {
        self.check_poison()?;
        let node = Arc::clone(self);
        self.to_end(async move {
            let outlook = node.outlook.clone();
            let drop = move |txn: &mut Txn<'_>| {
                let view = outlook.view();
                let mut files = Vec::new();
                let mut results = Vec::with_capacity(entries.len());
                for (path, upload, evidence) in &entries {
                    let dropped = change(txn, &user, path, *upload, |row| {
                        row.drop_upload(&view, *upload, evidence)
                    })?;
                    results.push(match dropped {
                        Ok(chunks) => {
                            let keys = ChunkKey::each(&user, *upload, chunks);
                            files.extend(forget(txn, keys)?);
                            Ok(())
                        }
                        Err(refused) => Err(refused),
                    });
                }
                Ok((results, files))
            };
            let (results, files) = node.index.update(drop).await?;
            node.remove_files(files).await?;
            Ok(results)
        })
        .await
    }
}

/// Chunks that are held under the upload of a version and are not the version's. Its writer may not
/// commit it then: what a node says it has of a version is of that version. Where it is committed on
/// other nodes all the same they are of no use, and make way.
fn misfits(
    txn: &Txn<'_>,
    user: &UserName,
    row: &Row,
    version: &Version,
) -> Result<ChunkSet, IndexError> {
    let Some(manifest) = version.manifest() else { return Ok(ChunkSet::EMPTY) };
    let staged = row.uploads.get(&version.upload);
    let have = staged.map_or(ChunkSet::EMPTY, |upload| upload.have);
    let mut foreign = ChunkSet::EMPTY;
    for key in ChunkKey::each(user, version.upload, have) {
        if txn.chunk(&key)?.is_some_and(|entry| entry.sum != manifest.chunk(key.chunk)) {
            foreign = foreign.with(key.chunk);
        }
    }
    Ok(foreign)
}

/// Applies a rule to the row of a path and one upload, and stores what it changed.
pub(super) fn change<T>(
    txn: &mut Txn<'_>,
    user: &UserName,
    path: &FilePath,
    upload: UploadId,
    rule: impl FnOnce(&mut Row) -> Result<T, Refused>,
) -> Result<Result<T, Refused>, IndexError> {
    let before = txn.row(user, path, &[upload])?;
    Ok(apply(txn, user, path, before, rule))
}

/// Applies a rule to a row that was just looked up, and stores what it changed.
fn apply<T>(
    txn: &mut Txn<'_>,
    user: &UserName,
    path: &FilePath,
    before: Row,
    rule: impl FnOnce(&mut Row) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let mut row = before.clone();
    let result = rule(&mut row);
    if result.is_ok() {
        txn.put_row(user, path, &before, &row);
    }
    result
}

/// Takes chunks out of the index and returns those that have a file.
pub(super) fn forget(txn: &mut Txn<'_>, keys: Vec<ChunkKey>) -> Result<Vec<ChunkKey>, IndexError> {
    let mut files = Vec::new();
    for key in keys {
        let Some(entry) = txn.chunk(&key)? else { continue };
        txn.remove_chunk(&key, &entry);
        if entry.inline.is_none() {
            files.push(key);
        }
    }
    Ok(files)
}
