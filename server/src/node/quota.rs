//! Quotas: whether a user may bring one more chunk.
//!
//! Asked once, before any of the chunk's bytes are taken, by the length that was announced; the
//! room is set aside until the chunk is held or its stream ends. Nothing else is ever refused
//! for a quota: reads, removals, write-backs, and what healing copies home.

use std::fmt;

use dfs_proto::name::UserName;
use dfs_proto::protocol::Refused;

use super::{Node, NodeError};
use crate::config::quota::Limits;
use crate::index::txn::Lookup;
use crate::index::usage::{Held, SetAside};
use crate::store::format::Header;

/// Which of a user's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Bytes,
    Files,
    Staged,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Files => "files",
            Self::Staged => "staged",
        })
    }
}

/// A chunk would take its user over a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{user} is over the quota '{limit}' of this node: {allowed} allowed, {used} used, {needed} \
     needed"
)]
pub(crate) struct OverQuota {
    pub(crate) user: UserName,
    pub(crate) limit: Limit,
    /// Bytes, or files, as all the figures.
    pub(crate) used: u64,
    pub(crate) needed: u64,
    pub(crate) allowed: u64,
}

/// Why one chunk of a stream was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Declined {
    #[error(transparent)]
    Rule(#[from] Refused),
    #[error(transparent)]
    Quota(#[from] OverQuota),
}

impl Node {
    /// What a user may hold.
    pub(crate) fn limits_of(&self, user: &UserName) -> Limits {
        self.quotas.of(user)
    }

    /// Sets room aside for a chunk that is announced, unless it would take its user over a
    /// limit. `None` where he has none.
    pub(super) fn set_aside(
        &self,
        header: &Header,
    ) -> Result<Result<Option<SetAside>, OverQuota>, NodeError> {
        let user = &header.key.user;
        let limits = self.limits_of(user);
        if limits == Limits::default() {
            return Ok(Ok(None));
        }
        let replaces = limits.files.is_some() && self.is_file(header)?;
        let kept = if limits.bytes.or(limits.staged).is_some() {
            self.store.kept_bytes(user, &header.key)
        } else {
            0
        };
        let length = header.sum().length;
        let upload = (user, &header.path, header.key.upload);
        let room = self.index.usage().set_aside(upload, length, |held, known| {
            judge(limits, held, kept, length, !replaces && !known).map_err(
                |(limit, used, needed, allowed)| OverQuota {
                    user: user.clone(),
                    limit,
                    used,
                    needed,
                    allowed,
                },
            )
        });
        Ok(room.map(Some))
    }

    fn is_file(&self, header: &Header) -> Result<bool, NodeError> {
        let row = self.index.view().row(&header.key.user, &header.path, &[])?;
        let current = row.current.as_ref();
        Ok(current.is_some_and(|current| current.record.version.manifest().is_some()))
    }
}

/// The first limit that a chunk would break: which, what is used, needed and allowed. `kept` are
/// bytes of chunks whose streams broke.
fn judge(
    limits: Limits,
    held: Held,
    kept: u64,
    length: u64,
    is_new: bool,
) -> Result<(), (Limit, u64, u64, u64)> {
    let figures = [
        (Limit::Bytes, limits.bytes, held.bytes.saturating_add(kept), length),
        (Limit::Staged, limits.staged, held.staged_bytes.saturating_add(kept), length),
        (Limit::Files, limits.files, held.files.saturating_add(held.uploads), is_new.into()),
    ];
    for (limit, allowed, used, needed) in figures {
        if let Some(allowed) = allowed
            && needed > 0
            && used.saturating_add(needed) > allowed
        {
            return Err((limit, used, needed, allowed));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_counts_what_is_there_and_what_comes() {
        let held = Held { bytes: 100, files: 3, staged_bytes: 40, uploads: 2 };
        let limits = |bytes, files, staged| Limits { bytes, files, staged };
        let ask = |limits, length, is_new| judge(limits, held, 5, length, is_new);
        let bytes = limits(Some(115), None, None);
        assert_eq!(ask(bytes, 10, true), Ok(()));
        assert_eq!(ask(bytes, 11, true), Err((Limit::Bytes, 105, 11, 115)));
        let staged = limits(None, None, Some(50));
        assert_eq!(ask(staged, 5, true), Ok(()));
        assert_eq!(ask(staged, 6, true), Err((Limit::Staged, 45, 6, 50)));
        let files = limits(None, Some(5), None);
        assert_eq!(ask(files, 1 << 50, false), Ok(()), "it replaces one");
        assert_eq!(ask(files, 0, true), Err((Limit::Files, 5, 1, 5)));
        assert_eq!(ask(limits(None, Some(6), None), 0, true), Ok(()));
        assert_eq!(ask(limits(Some(1), Some(9), Some(1)), 0, true), Ok(()), "nothing comes");
        assert_eq!(ask(Limits::default(), u64::MAX, true), Ok(()));
    }
}
