//! The client's configuration: four addresses, a user, a password.

use std::path::{Path, PathBuf};

use dfs_proto::name::{ClusterName, UserName};
use dfs_proto::placement::PerNode;
use serde::Deserialize;

use crate::tls::{RawTls, Tls};

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
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_yaml::Error,
    },
    /// Values that cannot be used.
    #[error("{}: {}", path.display(), mistakes.join("; "))]
    Values {
        /// The file.
        path: PathBuf,
        /// All of them.
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
        "{}: no password; add 'password_file: FILE', set DFS_PASSWORD, or run 'dfsctl login' \
         on a terminal first", path.display()
    )]
    NoPassword {
        /// The configuration.
        path: PathBuf,
    },
}

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    cluster: String,
    nodes: Vec<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    tls: Option<RawTls>,
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
}

impl Config {
    /// Reads `file`. Relative paths in it are relative to its directory.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { path: file.to_owned(), source })?;
        let raw: RawConfig = serde_yaml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path: file.to_owned(), source })?;
        let nodes_from = format!("{}:{}", file.display(), line_of(&text, "nodes"));
        let directory = file.parent().unwrap_or(Path::new(""));
        Self::check(raw, directory, nodes_from)
            .map_err(|mistakes| mistakes.into_iter().map(|m| m.in_file(&text)).collect())
            .map_err(|mistakes| ConfigError::Values { path: file.to_owned(), mistakes })
    }

    /// Reports every mistake, not only the first.
    fn check(raw: RawConfig, directory: &Path, nodes_from: String) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let cluster = ClusterName::new(&*raw.cluster)
            .map_err(|error| mistakes.push(Mistake::new("cluster", error)))
            .ok();
        let user = raw.user.and_then(|user| {
            UserName::new(user).map_err(|error| mistakes.push(Mistake::new("user", error))).ok()
        });
        for (place, address) in raw.nodes.iter().enumerate() {
            if let Some(mistake) = address_mistake(address) {
                let text = format!("entry {} '{address}' {mistake}", place + 1);
                mistakes.push(Mistake::new("nodes", text));
            } else if raw.nodes[..place].contains(address) {
                mistakes.push(Mistake::new("nodes", format!("'{address}' is there twice")));
            }
        }
        let nodes = PerNode::<String>::try_from(raw.nodes)
            .map_err(|nodes| {
                let text = format!("{} addresses, exactly four are needed", nodes.len());
                mistakes.push(Mistake::new("nodes", text));
            })
            .ok();
        let tls = raw.tls.and_then(|raw| {
            let wrong = |text: String| mistakes.push(Mistake::new("tls", text));
            Tls::read(raw, directory).map_err(|all| all.into_iter().for_each(wrong)).ok()
        });
        match (cluster, nodes, mistakes.is_empty()) {
            (Some(cluster), Some(nodes), true) => {
                let password_file = raw.password_file.map(|file| directory.join(file));
                Ok(Self { cluster, nodes, nodes_from, user, password_file, tls })
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

/// A value that cannot be used.
struct Mistake {
    key: &'static str,
    text: String,
}

impl Mistake {
    fn new(key: &'static str, text: impl ToString) -> Self {
        Self { key, text: text.to_string() }
    }

    fn in_file(self, file: &str) -> String {
        format!("line {}: {}: {}", line_of(file, self.key), self.key, self.text)
    }
}

/// The line of a top-level key, from 1; 1 where it is not found.
fn line_of(text: &str, key: &str) -> usize {
    let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    text.lines().position(is_key).unwrap_or(0) + 1
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
            "line 1: cluster:",
            "line 3: user:",
            "entry 2",
            "entry 3",
            "'a:1' is there twice",
        ] {
            assert!(message.contains(part), "{part} not in {message}");
        }
        assert!(load("cluster: c\nnodes: [a:1]").unwrap_err().contains("exactly four"));
        let text = format!("{GOOD}tls: {{ca: x, cert: y, server_name: 'a b'}}");
        let message = load(&text).unwrap_err();
        for part in ["line 5: tls: ca: ", "/x: No such file", "/y: ", "give both", "'a b' is no"] {
            assert!(message.contains(part), "{part} not in {message}");
        }
        assert!(load(&format!("{GOOD}tls: {{c: x}}")).unwrap_err().contains("unknown field"));
    }

    #[test]
    fn names_the_place_of_what_is_not_understood() {
        assert!(load("").unwrap_err().starts_with("FILE: "));
        assert!(load("cluster: [").unwrap_err().contains("line"));
        let unknown = load(&format!("{GOOD}colour: red\n")).unwrap_err();
        assert!(unknown.contains("colour") && unknown.contains("line 5"), "{unknown}");
    }
}
