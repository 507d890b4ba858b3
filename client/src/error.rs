//! What can go wrong, in words that say what is true now and what to do next.

use std::fmt;
use std::path::PathBuf;

use dfs_proto::chunk::ChunkSet;
use dfs_proto::name::{FilePath, NameError};
use dfs_proto::placement::NodeId;
use dfs_proto::wire::status::Reason;

use crate::config::ConfigError;

/// Why one node could not do its part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node} ({address}): {cause}")]
pub struct NodeError {
    /// Which node.
    pub node: NodeId,
    /// Where it should be.
    pub address: String,
    /// Why.
    pub cause: Cause,
}

impl NodeError {
    /// Whether the node belongs to another cluster than the configured one.
    pub(crate) fn is_of_other_cluster(&self) -> bool {
        match &self.cause {
            Cause::WrongNode { cluster, expected_cluster, .. } => cluster != expected_cluster,
            _ => false,
        }
    }
}

/// Why a node could not do its part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No connection within the limit.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It did not show that it is what it should be, or did not accept what the client showed.
    #[error("TLS: {0}")]
    Untrusted(String),
    /// It did not answer in time.
    #[error("no answer to {what} within {seconds} s")]
    Timeout {
        /// What it was asked.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// It refused user or password.
    #[error("refuses the user name or the password")]
    Credentials,
    /// No password was given, and it knows no token of before.
    #[error("is not logged in to any more; 'dfsctl login' logs in again")]
    LoggedOut,
    /// The token cannot be kept for later calls, or not be removed.
    #[error("the file of tokens cannot be changed: {0}")]
    TokenNotKept(String),
    /// It is not the node the configuration says it is.
    #[error("is node {position} of cluster {cluster}, not node {} of {expected_cluster}", .expected)]
    WrongNode {
        /// The position it says it has.
        position: NodeId,
        /// The cluster it says it belongs to.
        cluster: String,
        /// The position the configuration gives it.
        expected: NodeId,
        /// The cluster in the configuration.
        expected_cluster: String,
    },
    /// Its disk was replaced and it does not count yet.
    #[error("is rejoining after the loss of its disk")]
    Rejoining,
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Why, for programs; `None` if it did not say.
        reason: Option<Reason>,
        /// Why, for people.
        message: String,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It answered something that makes no sense.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
    /// The local file is not what it was when it was read first.
    #[error("the file changed while being read")]
    SourceChanged,
    /// The local file cannot be read.
    #[error("cannot read the file: {0}")]
    SourceUnreadable(String),
}

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Storing a file.
    Put,
    /// Reading a file.
    Get,
    /// Removing a file.
    Remove,
    /// Listing files.
    List,
    /// Asking about a file.
    Stat,
    /// Repairing files.
    Repair,
}

impl Operation {
    /// The word for it in messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Remove => "rm",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Repair => "repair",
        }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration's addresses do not fit the nodes that answer there. Nothing was done.
    #[error("{nodes_from}: {error}; {}", mend(.error))]
    WrongNode {
        /// Where the addresses are written.
        nodes_from: String,
        /// What was found.
        error: NodeError,
    },
    /// A remote path is not valid.
    #[error("{path:?} is no remote path: {source}")]
    Name {
        /// The text.
        path: String,
        /// Why.
        source: NameError,
    },
    /// There is no such file.
    #[error(
        "{path} not found{}",
        if *.unconfirmed {
            ", but unconfirmed: its removal could not be shown to be on three nodes"
        } else {
            ""
        }
    )]
    NotFound {
        /// The file.
        path: FilePath,
        /// It was removed, and the next reader may still find it: three nodes could not be shown
        /// to know of that.
        unconfirmed: bool,
    },
    /// Every node that answered refused the credentials.
    #[error("{}", dfs_proto::wire::status::INVALID_CREDENTIALS)]
    Credentials,
    /// Too few nodes. Nothing happened.
    #[error(
        "{}{} failed: too few nodes{}{}; 'dfsctl doctor' says what to mend",
        Subject(.path), .operation.word(), .operation.nothing_happened(), Nodes(.nodes)
    )]
    Unavailable {
        /// What was being done.
        operation: Operation,
        /// The file, if it was about one.
        path: Option<FilePath>,
        /// Why each node was missing.
        nodes: Vec<NodeError>,
    },
    /// A chunk is on no node that can be reached.
    #[error(
        "{path} is incomplete: chunk {chunks} is on no node that answered{}; \
         start the missing nodes and try again", Nodes(.nodes)
    )]
    Incomplete {
        /// The file.
        path: FilePath,
        /// The chunks that are missing.
        chunks: ChunkSet,
        /// Why each node was missing.
        nodes: Vec<NodeError>,
    },
    /// The data that was found is not what was stored.
    #[error(
        "{path} is damaged: {what}{}; 'dfsctl verify {path}' checks each copy, 'dfsctl repair {path}' \
         mends what it can", Nodes(.nodes)
    )]
    Corrupt {
        /// The file.
        path: FilePath,
        /// What is wrong.
        what: String,
        /// What each node had.
        nodes: Vec<NodeError>,
    },
    /// Three nodes could not be shown to have the newest version, and that was asked for.
    #[error(
        "{path} is unconfirmed: only two nodes answered; try again with more nodes, or without --strict"
    )]
    Unconfirmed {
        /// The file.
        path: FilePath,
    },
    /// The operation may take effect or not.
    #[error(
        "{path}: outcome of the {} unknown: it may take effect, whole, or not{}; \
         repeating it is safe", .operation.word(), Nodes(.nodes)
    )]
    Unknown {
        /// What was being done.
        operation: Operation,
        /// The file.
        path: FilePath,
        /// Why each node did not answer.
        nodes: Vec<NodeError>,
    },
    /// The user may not do this. Nothing happened.
    #[error("{} refused: {node}", .operation.word())]
    NotAllowed {
        /// What was to be done.
        operation: Operation,
        /// What the node said.
        node: NodeError,
    },
    /// Every node refused. Nothing happened.
    #[error("{path} {} failed: every node refused{}", .operation.word(), Nodes(.nodes))]
    Refused {
        /// What was being done.
        operation: Operation,
        /// The file.
        path: FilePath,
        /// What each node said.
        nodes: Vec<NodeError>,
    },
    /// It would take the user over a quota. Nothing happened.
    #[error(
        "{path} put failed, nothing was changed: {node}; remove files (what they held counts until \
         'prune_grace' is over) or ask the operator for a larger 'quota'; see 'dfsctl status'"
    )]
    Quota {
        /// The file.
        path: FilePath,
        /// A node that refused, with the limit.
        node: NodeError,
    },
    /// The local file changed between two readings. Nothing was stored.
    #[error("{path} put failed: changed while being read; put it again when nobody writes to it")]
    Changed {
        /// The remote path.
        path: FilePath,
    },
    /// The remote file was replaced while it was being written to a stream.
    #[error("{path} get failed: changed while being read; try again")]
    Replaced {
        /// The file.
        path: FilePath,
    },
    /// The file has none of the bytes that were asked for.
    #[error("{path} has {size} bytes, none of those that were asked for; the first one is 0")]
    Range {
        /// Which file.
        path: FilePath,
        /// Its length in bytes.
        size: u64,
    },
    /// The file is longer than the caller takes. Nothing of it was fetched.
    #[error("{path} has {size} bytes, more than the {limit} that are taken into memory")]
    TooLarge {
        /// Which file.
        path: FilePath,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file cannot be described: too large, or its metadata is refused.
    #[error("{path} put failed: {source}")]
    Manifest {
        /// The remote path.
        path: FilePath,
        /// Why.
        source: dfs_proto::manifest::ManifestError,
    },
    /// Something local failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Local {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Too few nodes; where all of them refused the user, it is that.
    pub(crate) fn unavailable(
        operation: Operation,
        path: Option<FilePath>,
        nodes: Vec<NodeError>,
    ) -> Self {
        let refused =
            |node: &NodeError| matches!(node.cause, Cause::Credentials | Cause::LoggedOut);
        match nodes[..] {
            [_, _, _, _] if nodes.iter().all(refused) => Self::Credentials,
            _ => Self::Unavailable { operation, path, nodes },
        }
    }

    /// The same error without the nodes that somebody has been `told` about.
    #[cfg(feature = "cli")]
    pub(crate) fn without(&self, told: impl Fn(&NodeError) -> bool) -> Option<Self> {
        let rest = |nodes: &[NodeError]| nodes.iter().filter(|node| !told(node)).cloned().collect();
        Some(match self {
            Self::Unavailable { operation, path, nodes } => {
                Self::Unavailable { operation: *operation, path: path.clone(), nodes: rest(nodes) }
            }
            Self::Incomplete { path, chunks, nodes } => {
                Self::Incomplete { path: path.clone(), chunks: *chunks, nodes: rest(nodes) }
            }
            Self::Corrupt { path, what, nodes } => {
                Self::Corrupt { path: path.clone(), what: what.clone(), nodes: rest(nodes) }
            }
            Self::Unknown { operation, path, nodes } => {
                Self::Unknown { operation: *operation, path: path.clone(), nodes: rest(nodes) }
            }
            _ => return None,
        })
    }

    /// Says what could not be done with a local file.
    pub fn local(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local { action, path, source }
    }
}

impl Operation {
    /// What a writer needs to know when it failed for lack of nodes.
    const fn nothing_happened(self) -> &'static str {
        match self {
            Self::Put | Self::Remove => ", nothing was changed",
            Self::Get | Self::List | Self::Stat | Self::Repair => "",
        }
    }
}

/// What to do about a node that is not the one that the configuration means.
fn mend(error: &NodeError) -> &'static str {
    if error.is_of_other_cluster() {
        "correct 'cluster', or write the addresses of the nodes of that cluster"
    } else {
        "write the addresses of 'nodes' in the order of the nodes' positions"
    }
}

struct Subject<'a>(&'a Option<FilePath>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{path} "),
            None => Ok(()),
        }
    }
}

struct Nodes<'a>(&'a [NodeError]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They failed in any order; people look for them in this one.
        let mut nodes: Vec<&NodeError> = self.0.iter().collect();
        nodes.sort_by_key(|error| error.node);
        for (place, node) in nodes.into_iter().enumerate() {
            write!(f, "{} {node}", if place == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
