//! A node's disk as a whole: data directory, identity, index and chunk store. Made once by
//! `init`, opened by every start.

use std::path::PathBuf;

use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::Incarnation;
use dfs_proto::placement::NodeId;

use crate::config::Config;
use crate::identity::{DataDir, IdentityError, Rejoin};
use crate::index::{Index, OpenError};
use crate::poison::Poison;
use crate::store::ChunkStore;

/// Why a disk could not be made or opened. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{0}; a disk that was lost or damaged needs 'dfsd rejoin'")]
    Index(#[from] OpenError),
    #[error("{path}: {source}; a disk that was lost or damaged needs 'dfsd rejoin'")]
    Store { path: PathBuf, source: std::io::Error },
    #[error(
        "{0} has chunk files: run 'dfsd rejoin' with --keep-chunks to reuse those that are good, \
         or with --discard-chunks to remove them"
    )]
    Leftovers(PathBuf),
}

/// What a rejoin does with chunk files that are still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Refuse to go on.
    Refuse,
    /// Leave them where they are: they are reused where their checksums match.
    Keep,
    /// Remove them.
    Discard,
}

/// The open parts of a disk, and who the node is with it.
pub(crate) struct Disk {
    /// Holds the lock on all the rest.
    pub(crate) data_dir: DataDir,
    /// This start is counted in it, but on the disk only once it is written there.
    pub(crate) identity: Identity,
    pub(crate) index: Index,
    pub(crate) store: ChunkStore,
    pub(crate) poison: Poison,
    /// Set until every file is whole again after the disk was replaced.
    pub(crate) rejoin: Option<Rejoin>,
}

impl Disk {
    /// Makes a disk with an index, a store and an identity, in this order: without an identity
    /// nothing else counts.
    pub(crate) fn create(config: &Config, incarnation: Incarnation) -> Result<(), DiskError> {
        let data_dir = DataDir::create(&config.data_dir)?;
        ChunkStore::create(data_dir.path())
            .map_err(|source| DiskError::Store { path: config.data_dir.clone(), source })?;
        Index::create(&data_dir.index(), incarnation)?;
        data_dir.write_identity(&Identity {
            cluster: config.cluster.clone(),
            node: config.node,
            incarnation,
            boot: Boot { count: 0, nonce: 0 },
            rejoining: false,
        })?;
        Ok(())
    }

    /// Gives a node a new disk: an empty one with a new incarnation, marked as rejoining. What
    /// is left of a former index goes; chunk files stay if they are to be reused. Without a
    /// whole identity nothing else counts, so it comes last.
    pub(crate) fn rejoin(
        config: &Config,
        incarnation: Incarnation,
        leftovers: Leftovers,
        without: Option<NodeId>,
    ) -> Result<(), DiskError> {
        let data_dir = DataDir::claim(&config.data_dir)?;
        if let Err(error @ IdentityError::Foreign { .. }) =
            data_dir.identity(&config.cluster, config.node)
        {
            return Err(error.into());
        }
        let store = |source| DiskError::Store { path: config.data_dir.clone(), source };
        match leftovers {
            Leftovers::Keep => {}
            Leftovers::Discard => ChunkStore::clear(data_dir.path()).map_err(store)?,
            Leftovers::Refuse => {
                if ChunkStore::has_chunks(data_dir.path()).map_err(store)? {
                    return Err(DiskError::Leftovers(config.data_dir.clone()));
                }
            }
        }
        data_dir.forget()?;
        Index::remove(&data_dir.index()).map_err(store)?;
        ChunkStore::complete(data_dir.path()).map_err(store)?;
        Index::create(&data_dir.index(), incarnation)?;
        data_dir.begin_rejoin(without)?;
        data_dir.write_identity(&Identity {
            cluster: config.cluster.clone(),
            node: config.node,
            incarnation,
            boot: Boot { count: 0, nonce: 0 },
            rejoining: true,
        })?;
        Ok(())
    }

    /// Opens an existing disk that belongs to this node, for a start with this nonce. Makes
    /// nothing that is missing.
    pub(crate) fn open(config: &Config, nonce: u64) -> Result<Self, DiskError> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let identity = data_dir.identity(&config.cluster, config.node)?;
        let poison = Poison::default();
        let index = Index::open(&data_dir.index(), identity.incarnation, poison.clone())?;
        let store = ChunkStore::open(data_dir.path(), config.staging_ttl)
            .map_err(|source| DiskError::Store { path: config.data_dir.clone(), source })?
            .keeping(config.disk_reserve);
        let boot = Boot { count: identity.boot.count.saturating_add(1), nonce };
        let identity = Identity { boot, ..identity };
        let rejoin = data_dir.rejoin()?;
        Ok(Self { data_dir, identity, index, store, poison, rejoin })
    }

    /// Checks without opening or writing anything that the disk belongs to this node. One in
    /// use does: the process that has it has checked.
    pub(crate) fn check(config: &Config) -> Result<(), DiskError> {
        match DataDir::open(&config.data_dir) {
            Ok(data_dir) => Ok(data_dir.identity(&config.cluster, config.node).map(drop)?),
            Err(IdentityError::Locked(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
