//! The identity of a node's disk: made once by `init`, checked at every start.
//!
//! ```text
//! dfs identity 1
//! cluster demo-7f3a
//! node 1
//! incarnation 00112233445566778899aabbccddeeff
//! boot 12
//! nonce 8899aabbccddeeff
//! status serving
//! checksum 1a2b3c4d
//! ```
//!
//! The checksum is the CRC32C of all that is in front of its line. The file is replaced as a
//! whole, durably, at every start, when the boot counter goes up and a nonce is drawn.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dfs_proto::digest::Crc32c;
use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::Incarnation;
use dfs_proto::name::ClusterName;
use dfs_proto::placement::NodeId;

use crate::hex;

const FILE_NAME: &str = "identity";
/// There from `dfsd rejoin` until every file is whole again. Says for which other node this one
/// does not wait: its position, or `-`.
const REJOIN_NAME: &str = "rejoin";
const FIRST_LINE: &str = "dfs identity 1";

/// Why a data directory cannot be used. Each text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("{0} is not an initialised data directory; run 'dfsd init' for a new cluster")]
    Missing(PathBuf),
    #[error("{path} is damaged ({why}); a disk that lost data needs 'dfsd rejoin'")]
    Damaged { path: PathBuf, why: &'static str },
    #[error(
        "{path} belongs to node {} of cluster {}, the configuration says node {} of cluster {}; \
         correct 'cluster', 'node' or 'data_dir'",
        .found.1, .found.0, .expected.1, .expected.0
    )]
    Foreign { path: PathBuf, found: (ClusterName, NodeId), expected: (ClusterName, NodeId) },
    #[error("{0} is in use by another process; stop that dfsd first")]
    Locked(PathBuf),
    #[error("{0} is not empty; 'dfsd init' takes a new directory only")]
    NotEmpty(PathBuf),
    #[error(
        "{0} has other things in it and is not a data directory; correct 'data_dir', or give an \
         empty or a new directory"
    )]
    NotOurs(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl IdentityError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// A rejoin that is not over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejoin {
    /// The node that is not waited for.
    pub(crate) without: Option<NodeId>,
}

/// A data directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Holds the lock on the directory.
    _lock: File,
}

impl DataDir {
    /// Makes an empty data directory for the first life of a disk.
    pub(crate) fn create(path: &Path) -> Result<Self, IdentityError> {
        let io = || IdentityError::io(path);
        let mut builder = DirBuilder::new();
        match builder.mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_dir(path).map_err(io())?.next().is_some() {
                    return Err(IdentityError::NotEmpty(path.to_owned()));
                }
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                fs::set_permissions(path, private).map_err(io())?;
            }
            made => made.map_err(io())?,
        }
        // Else a crash could take the directory away from under a node that has answered.
        File::open(parent(path)).and_then(|parent| parent.sync_all()).map_err(io())?;
        Self::lock(path)
    }

    /// Opens an existing data directory.
    pub(crate) fn open(path: &Path) -> Result<Self, IdentityError> {
        if !path.join(FILE_NAME).is_file() {
            return Err(IdentityError::Missing(path.to_owned()));
        }
        Self::lock(path)
    }

    /// Takes a data directory for a new life, whatever is left of a former one in it; but no
    /// directory of something else, of which a new life would remove parts.
    pub(crate) fn claim(path: &Path) -> Result<Self, IdentityError> {
        match Self::create(path) {
            Err(IdentityError::NotEmpty(_)) if is_ours(path) || is_fresh(path) => Self::lock(path),
            Err(IdentityError::NotEmpty(_)) => Err(IdentityError::NotOurs(path.to_owned())),
            made => made,
        }
    }

    /// Removes the identity of a former life.
    pub(crate) fn forget(&self) -> Result<(), IdentityError> {
        let io = || IdentityError::io(&self.path);
        for name in [FILE_NAME, REJOIN_NAME] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(io())?,
            }
        }
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io())
    }

    /// Remembers that this node rejoins, perhaps without waiting for another one.
    pub(crate) fn begin_rejoin(&self, without: Option<NodeId>) -> Result<(), IdentityError> {
        let path = self.path.join(REJOIN_NAME);
        let text = without.map_or_else(|| "-\n".to_owned(), |node| format!("{node}\n"));
        replace_file(&path, text.as_bytes()).map_err(IdentityError::io(&path))
    }

    /// Whether a rejoin is not over yet, and if so without which other node.
    pub(crate) fn rejoin(&self) -> Result<Option<Rejoin>, IdentityError> {
        let path = self.path.join(REJOIN_NAME);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(IdentityError::io(&path))?,
        };
        let without = match text.trim_end() {
            "-" => None,
            text => match text.parse().ok().and_then(NodeId::new) {
                Some(node) => Some(node),
                None => return Err(IdentityError::Damaged { path, why: "it is no position" }),
            },
        };
        Ok(Some(Rejoin { without }))
    }

    /// Forgets that this node rejoined.
    pub(crate) fn end_rejoin(&self) -> Result<(), IdentityError> {
        let io = || IdentityError::io(&self.path);
        match fs::remove_file(self.path.join(REJOIN_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(io())?,
        }
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io())
    }

    fn lock(path: &Path) -> Result<Self, IdentityError> {
        let dir = File::open(path).map_err(IdentityError::io(path))?;
        match dir.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: dir }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(IdentityError::io(path)(error)),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the index is.
    pub(crate) fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    /// Reads the identity and refuses one of another node or cluster.
    pub(crate) fn identity(
        &self,
        cluster: &ClusterName,
        node: NodeId,
    ) -> Result<Identity, IdentityError> {
        let found = self.any_identity()?;
        if found.cluster != *cluster || found.node != node {
            return Err(IdentityError::Foreign {
                path: self.path.clone(),
                found: (found.cluster, found.node),
                expected: (cluster.clone(), node),
            });
        }
        Ok(found)
    }

    /// Reads the identity, whoever's it is.
    pub(crate) fn any_identity(&self) -> Result<Identity, IdentityError> {
        let path = self.path.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(IdentityError::io(&path))?;
        decode(&text).map_err(|why| IdentityError::Damaged { path, why })
    }

    /// Replaces the identity durably.
    pub(crate) fn write_identity(&self, identity: &Identity) -> Result<(), IdentityError> {
        let path = self.path.join(FILE_NAME);
        replace_file(&path, encode(identity).as_bytes()).map_err(IdentityError::io(&path))
    }
}

/// Whether a directory shows that a node has lived in it, damaged or not.
fn is_ours(path: &Path) -> bool {
    let is_file = |name: &str| path.join(name).is_file();
    let is_dir = |name: &str| path.join(name).is_dir();
    is_file(FILE_NAME) || is_file("index.mark") || (is_dir("chunks") && is_dir("staging"))
}

/// Whether a directory is the root of a file system that was just made.
fn is_fresh(path: &Path) -> bool {
    let mut entries = fs::read_dir(path).into_iter().flatten();
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found"))
}

/// The directory that a path is in, as the system takes it.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Replaces a file as a whole, durably, readable by its owner only.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = parent(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = dir.join(name);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

fn encode(identity: &Identity) -> String {
    let status = if identity.rejoining { "rejoining" } else { "serving" };
    let text = format!(
        "{FIRST_LINE}\ncluster {}\nnode {}\nincarnation {}\nboot {}\nnonce {:016x}\n\
         status {status}\n",
        identity.cluster,
        identity.node,
        identity.incarnation,
        identity.boot.count,
        identity.boot.nonce
    );
    let checksum = Crc32c::of(text.as_bytes()).get();
    format!("{text}checksum {checksum:08x}\n")
}

fn decode(text: &str) -> Result<Identity, &'static str> {
    let (front, checksum) = text.rsplit_once("checksum ").ok_or("no checksum")?;
    let checksum = checksum.strip_suffix('\n').ok_or("it ends too early")?;
    if u32::from_str_radix(checksum, 16) != Ok(Crc32c::of(front.as_bytes()).get()) {
        return Err("the checksum does not match");
    }
    let mut lines = front.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err("its format is not known");
    }
    let mut value = |key: &str| {
        let (found, value) = lines.next()?.split_once(' ')?;
        (found == key).then_some(value)
    };
    let cluster = value("cluster").and_then(|name| ClusterName::new(name).ok());
    let node = value("node").and_then(|n| NodeId::new(n.parse().ok()?));
    let incarnation = value("incarnation").and_then(hex::decode);
    let count = value("boot").and_then(|n| n.parse().ok());
    let nonce = value("nonce").and_then(|n| u64::from_str_radix(n, 16).ok());
    let rejoining = value("status").and_then(|status| match status {
        "serving" => Some(false),
        "rejoining" => Some(true),
        _ => None,
    });
    Ok(Identity {
        cluster: cluster.ok_or("no cluster")?,
        node: node.ok_or("no node")?,
        incarnation: Incarnation::new(incarnation.ok_or("no incarnation")?),
        boot: Boot { count: count.ok_or("no boot counter")?, nonce: nonce.ok_or("no nonce")? },
        rejoining: rejoining.ok_or("no status")?,
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(count: u64) -> Identity {
        Identity {
            cluster: ClusterName::new("demo").unwrap(),
            node: NodeId::N3,
            incarnation: Incarnation::new([7; 16]),
            boot: Boot { count, nonce: count.rotate_left(9) },
            rejoining: count % 2 == 1,
        }
    }

    proptest! {
        #[test]
        fn survives_and_damage_is_found(count: u64, at: prop::sample::Index, flip in 1u8..128) {
            let text = encode(&identity(count));
            prop_assert_eq!(decode(&text), Ok(identity(count)));
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let changed_case = bytes.eq_ignore_ascii_case(text.as_bytes());
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(decode(&changed).is_err() || changed_case, "{}", changed);
            }
            prop_assert!(decode(&text[..at]).is_err());
        }
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(dir.path()).unwrap();
        data.write_identity(&identity(1)).unwrap();
        let demo = ClusterName::new("demo").unwrap();
        assert_eq!(data.identity(&demo, NodeId::N3).unwrap(), identity(1));
        let error = data.identity(&demo, NodeId::N2).unwrap_err();
        assert!(error.to_string().contains("belongs to node 3"), "{error}");
        let other = ClusterName::new("other").unwrap();
        assert!(data.identity(&other, NodeId::N3).is_err());
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(dir.path()).unwrap();
        data.write_identity(&identity(0)).unwrap();
        let second = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(second, IdentityError::Locked(_)));
        drop(data);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn only_an_empty_directory_is_initialised() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open(dir.path()).unwrap_err(), IdentityError::Missing(_)));
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(matches!(DataDir::create(dir.path()).unwrap_err(), IdentityError::NotEmpty(_)));
    }

    #[test]
    fn a_new_life_takes_no_directory_of_something_else() {
        let claim = |files: &[&str], dirs: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for name in files {
                fs::write(dir.path().join(name), "").unwrap();
            }
            for name in dirs {
                fs::create_dir(dir.path().join(name)).unwrap();
            }
            DataDir::claim(dir.path()).map(drop)
        };
        assert!(claim(&[], &[]).is_ok());
        for (files, dirs) in [
            (&["identity"][..], &[][..]),
            (&["index.mark"], &["index"]),
            (&[], &["chunks", "staging"]),
            (&[], &["lost+found"]),
        ] {
            assert!(claim(files, dirs).is_ok(), "{files:?} {dirs:?}");
        }
        for (files, dirs) in
            [(&["x"][..], &["index"][..]), (&[], &["index", "lost+found"]), (&["index"], &[])]
        {
            let refused = claim(files, dirs).unwrap_err();
            assert!(matches!(refused, IdentityError::NotOurs(_)), "{files:?} {dirs:?}");
        }
    }
}
