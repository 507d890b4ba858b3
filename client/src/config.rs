//! The client's configuration: four addresses, a user, a password.
//!
//! [`Config`] is what the client may rely on, [`Connection`] what was said and by whom.

#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the program has layers"))]
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfs_proto::name::{ClusterName, UserName};
use dfs_proto::placement::PerNode;
use dfs_proto::similar::near;

use crate::bandwidth::Bandwidth;
use crate::origin::{Given, Origin};
use crate::tls::{GivenTls, Tls};
pub(crate) use file::ConfigFile;

/// Why a configuration cannot be used. Names the file and what to change in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; write one, or name another with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the YAML it should be.
    #[error("{}: {}", path.display(), with_nearest(&source.to_string()))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_yaml::Error,
    },
    /// Values that cannot be used.
    #[error("{}", mistakes.join("; "))]
    Values {
        /// All of them, each with the place where it is written.
        mistakes: Vec<String>,
    },
    /// The password file cannot be read.
    #[error("cannot read the password file {}: {source}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing says the password, and there is nobody to ask.
    #[error(
        "{place}: no password; add 'password_file: FILE', set DFS_PASSWORD, or run 'dfsctl login' \
         on a terminal first"
    )]
    NoPassword {
        /// Where the cluster is configured.
        place: String,
    },
}

/// How a cluster is reached, and as whom, with where each part comes from. What a file says, or
/// several layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    pub(crate) cluster: Option<Given<String>>,
    pub(crate) nodes: Option<Given<Vec<String>>>,
    pub(crate) user: Option<Given<String>>,
    pub(crate) password_file: Option<Given<PathBuf>>,
    pub(crate) tls: GivenTls,
    /// Where what is missing would have to be written.
    pub(crate) from: Option<Origin>,
}

/// What the client may rely on.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster that every node must belong to.
    pub cluster: ClusterName,
    /// `HOST:PORT` of nodes 1 to 4, in order.
    pub nodes: PerNode<String>,
    /// Where they are written, for messages: `FILE:LINE`.
    pub nodes_from: String,
    /// The user, if the file names one.
    pub user: Option<UserName>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<Tls>,
    /// Bounds what the clients that are made with it move in a second; `None`: nothing does.
    /// [`Config::load`] sets none.
    pub bandwidth: Option<Arc<Bandwidth>>,
}

impl Config {
    /// Reads `file`: the cluster that it chooses of its contexts, or else its own. Relative paths
    /// in it are relative to its directory.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let file = ConfigFile::read(file)?;
        let values = |mistakes| ConfigError::Values { mistakes };
        let connection = match file.context() {
            None => file.own(),
            Some(Given { value: name, origin }) => {
                let none = || values(vec![unknown_context(&origin, &name, &file)]);
                Some(file.named(&name).ok_or_else(none)?)
            }
        };
        let empty = || Connection {
            from: Some(Origin::File(file.path().to_owned(), 1)),
            ..Connection::default()
        };
        Self::check(connection.unwrap_or_else(empty)).map_err(values)
    }

    /// Reports every mistake, not only the first.
    pub(crate) fn check(connection: Connection) -> Result<Self, Vec<String>> {
        let Connection { cluster, nodes, user, password_file, tls, from } = connection;
        let mut mistakes = Vec::new();
        let from = from.map_or_else(|| "dfs.yaml".to_owned(), |from| from.to_string());
        let nodes_from = nodes.as_ref().map_or_else(|| from.clone(), |n| n.origin.to_string());
        let cluster = match cluster {
            None => {
                mistakes.push(format!("{from}: cluster: missing; write the name of the cluster"));
                None
            }
            Some(Given { value, origin }) => ClusterName::new(value)
                .map_err(|error| mistakes.push(format!("{origin}: cluster: {error}")))
                .ok(),
        };
        let user = user.and_then(|Given { value, origin }| {
            UserName::new(value)
                .map_err(|error| mistakes.push(format!("{origin}: user: {error}")))
                .ok()
        });
        let nodes = match nodes {
            None => {
                let text = "missing; write the addresses of nodes 1 to 4, HOST:PORT, in order";
                mistakes.push(format!("{from}: nodes: {text}"));
                None
            }
            Some(Given { value: nodes, origin }) => {
                let wrong = node_mistakes(&nodes);
                mistakes.extend(wrong.into_iter().map(|wrong| format!("{origin}: nodes: {wrong}")));
                PerNode::<String>::try_from(nodes).ok()
            }
        };
        let tls = Tls::read(tls).unwrap_or_else(|all| {
            mistakes.extend(all);
            None
        });
        match (cluster, nodes, mistakes.is_empty()) {
            (Some(cluster), Some(nodes), true) => {
                let password_file = password_file.map(|file| file.value);
                Ok(Self { cluster, nodes, nodes_from, user, password_file, tls, bandwidth: None })
            }
            _ => Err(mistakes),
        }
    }

    /// Reads the password from `file`: its first line.
    pub fn read_password(file: &Path) -> Result<String, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::PasswordFile { path: file.to_owned(), source })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// What to say of a name that no file has.
pub(crate) fn unknown_context(origin: &Origin, name: &str, file: &ConfigFile) -> String {
    let known: Vec<&str> = file.contexts().collect();
    let known = match known[..] {
        [] => "has no contexts: write them under 'contexts:', each with a name".to_owned(),
        _ => format!("has {}", known.join(", ")),
    };
    format!("{origin}: context: there is no '{name}'; {} {known}", file.path().display())
}

/// What the reader of YAML says of a key that it does not know, with the one that may be meant.
fn with_nearest(text: &str) -> String {
    let parts = || {
        let (before, rest) = text.split_once("unknown field `")?;
        let (key, known) = rest.split_once("`, expected ")?;
        let meant = *near(key, known.split('`').skip(1).step_by(2)).first()?;
        Some(format!("{before}unknown field `{key}`; did you mean `{meant}`? expected {known}"))
    };
    parts().unwrap_or_else(|| text.to_owned())
}

fn node_mistakes(nodes: &[String]) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (place, address) in nodes.iter().enumerate() {
        if let Some(mistake) = address_mistake(address) {
            mistakes.push(format!("entry {} '{address}' {mistake}", place + 1));
        } else if nodes[..place].contains(address) {
            mistakes.push(format!("'{address}' is there twice"));
        }
    }
    if nodes.len() != 4 {
        mistakes.push(format!("{} addresses, exactly four are needed", nodes.len()));
    }
    mistakes
}

fn address_mistake(address: &str) -> Option<&'static str> {
    let (host, port) = match address.rsplit_once(':') {
        Some(parts) => parts,
        None => return Some("has no port; write HOST:PORT"),
    };
    match port.parse::<u16>() {
        _ if host.is_empty() || host.contains('/') => Some("has no host; write HOST:PORT"),
        Ok(1..) => None,
        _ => Some("has no port between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dfs.yaml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file)
            .map_err(|error| error.to_string().replace(&format!("{}", file.display()), "FILE"))
    }

    const GOOD: &str = "cluster: c\nnodes: [a:1, b:2, c:3, d:4]\nuser: alice\npassword_file: p\n";

    #[test]
    fn takes_a_good_file_and_resolves_paths_beside_it() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.nodes[3], "d:4");
        assert!(config.password_file.unwrap().is_absolute());
    }

    #[test]
    fn names_the_file_and_every_mistake() {
        let text = "cluster: a b\nnodes: [a:1, 'b', 'c:99999', a:1]\nuser: Alice\n";
        let message = load(text).unwrap_err();
        for part in [
            "FILE",
            "FILE:1: cluster:",
            "FILE:3: user:",
            "entry 2",
            "entry 3",
            "'a:1' is there twice",
        ] {
            assert!(message.contains(part), "{part} not in {message}");
        }
        assert!(load("cluster: c\nnodes: [a:1]").unwrap_err().contains("exactly four"));
        let text = format!("{GOOD}tls: {{ca: x, cert: y, server_name: 'a b'}}");
        let message = load(&text).unwrap_err();
        for part in ["FILE:5: tls: ca: ", "/x: No such file", "/y: ", "give both", "'a b' is no"] {
            assert!(message.contains(part), "{part} not in {message}");
        }
        assert!(load(&format!("{GOOD}tls: {{}}")).unwrap_err().contains("tls: ca: missing"));
        assert!(load(&format!("{GOOD}tls: {{c: x}}")).unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_file_with_contexts_means_the_one_that_it_chooses() {
        let contexts = "contexts:\n  a: {cluster: a, nodes: [a:1, b:2, c:3, d:4]}\n  b: {}\n";
        let chosen = load(&format!("context: a\n{contexts}")).unwrap();
        assert_eq!((chosen.cluster.as_str(), &*chosen.nodes[1]), ("a", "b:2"));
        assert!(chosen.nodes_from.ends_with(":3"), "{}", chosen.nodes_from);
        let message = load(&format!("context: c\n{contexts}")).unwrap_err();
        assert!(message.contains("there is no 'c'") && message.contains("a, b"), "{message}");
        let message = load(&format!("context: b\n{contexts}")).unwrap_err();
        assert!(message.contains("FILE:4: nodes: missing"), "{message}");
        assert_eq!(load(&format!("{GOOD}{contexts}")).unwrap().cluster.as_str(), "c");
    }

    #[test]
    fn names_the_place_of_what_is_not_understood() {
        assert!(load("# nothing\n").unwrap_err().starts_with("FILE:1: cluster: missing"));
        assert!(load("cluster: [").unwrap_err().contains("line"));
        let unknown = load(&format!("{GOOD}colour: red\n")).unwrap_err();
        assert!(unknown.contains("colour") && unknown.contains("line 5"), "{unknown}");
        assert!(unknown.contains("did you mean `color`? expected one of `cluster`"), "{unknown}");
        let unknown = load(&format!("{GOOD}tls: {{ce: x}}\n")).unwrap_err();
        assert!(unknown.contains("did you mean `ca`? expected one of"), "{unknown}");
        let unknown = load(&format!("{GOOD}weather: fine\n")).unwrap_err();
        assert!(unknown.contains("unknown field `weather`, expected one of"), "{unknown}");
    }
}
