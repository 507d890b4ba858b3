//! A configuration file of clients: a cluster, or several under names, and how to talk.
//!
//! Says what is in the file and on which line, and decides nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml::Value;

use super::{ConfigError, Connection};
use crate::origin::{Given, Origin};
use crate::tls::RawTls;

/// How a cluster is reached, and as whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    cluster: Option<String>,
    nodes: Option<Vec<String>>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    tls: Option<RawTls>,
}

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    cluster: Option<String>,
    nodes: Option<Vec<String>>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    tls: Option<RawTls>,
    context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, RawCluster>,
    output: Option<Value>,
    color: Option<Value>,
    verbosity: Option<Value>,
    jobs: Option<Value>,
    bwlimit: Option<Value>,
    token_cache: Option<Value>,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    raw: RawFile,
}

impl ConfigFile {
    /// Reads a file that has to be there.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, text)
    }

    /// Reads a file if it is there.
    pub(crate) fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source };
        // A file of comments says nothing, which is no mistake of form.
        let said = text.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        });
        let raw =
            if said { serde_yaml::from_str(&text).map_err(syntax)? } else { RawFile::default() };
        Ok(Self { path: path.to_owned(), text, raw })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the cluster that it means, of those that it or another file names.
    pub(crate) fn context(&self) -> Option<Given<String>> {
        let name = self.raw.context.clone()?;
        Some(Given::new(name, self.origin(self.line("context"))))
    }

    /// The names it has for clusters.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &str> {
        self.raw.contexts.keys().map(String::as_str)
    }

    /// The line where the names begin.
    pub(crate) fn contexts_from(&self) -> Origin {
        self.origin(self.line("contexts"))
    }

    /// The cluster under a name.
    pub(crate) fn named(&self, name: &str) -> Option<Connection> {
        let raw = self.raw.contexts.get(name)?;
        Some(self.connection(raw.clone(), |key| self.line_inside(name, key)))
    }

    /// The cluster of the file itself; `None` if it says nothing about one.
    pub(crate) fn own(&self) -> Option<Connection> {
        let RawFile { cluster, nodes, user, password_file, tls, .. } = self.raw.clone();
        let silent =
            cluster.is_none() && nodes.is_none() && password_file.is_none() && tls.is_none();
        let raw = RawCluster { cluster, nodes, user, password_file, tls };
        (!silent).then(|| self.connection(raw, |key| self.line(key)))
    }

    /// The user, if it names one outside of all contexts.
    pub(crate) fn user(&self) -> Option<Given<String>> {
        let name = self.raw.user.clone()?;
        Some(Given::new(name, self.origin(self.line("user"))))
    }

    /// The text of a setting that is about no cluster.
    pub(crate) fn preference(&self, key: &str) -> Option<Given<String>> {
        let value = match key {
            "output" => &self.raw.output,
            "color" => &self.raw.color,
            "verbosity" => &self.raw.verbosity,
            "jobs" => &self.raw.jobs,
            "bwlimit" => &self.raw.bwlimit,
            "token_cache" => &self.raw.token_cache,
            _ => &None,
        };
        let text = match value.as_ref()? {
            Value::String(text) => text.clone(),
            Value::Bool(yes) => yes.to_string(),
            Value::Number(number) => number.to_string(),
            _ => "?".to_owned(),
        };
        Some(Given::new(text, self.origin(self.line(key))))
    }

    /// The text with another context chosen; everything else stays as it was written.
    pub(crate) fn with_context(&self, name: &str) -> String {
        let chosen = format!("context: {name}");
        let mut lines: Vec<&str> = self.text.lines().collect();
        match lines.iter().position(|line| is_key(line, "context")) {
            Some(place) => lines[place] = &chosen,
            None => {
                // Before the names, where it is looked for; behind what comments the file begins.
                let before = lines.iter().position(|line| is_key(line, "contexts"));
                lines.insert(before.unwrap_or(lines.len()), &chosen);
            }
        }
        lines.join("\n") + "\n"
    }

    fn connection(&self, raw: RawCluster, line: impl Fn(&str) -> usize) -> Connection {
        let at = |key| self.origin(line(key));
        let directory = self.path.parent().unwrap_or(Path::new(""));
        Connection {
            cluster: raw.cluster.map(|value| Given::new(value, at("cluster"))),
            nodes: raw.nodes.map(|value| Given::new(value, at("nodes"))),
            user: raw.user.map(|value| Given::new(value, at("user"))),
            password_file: raw
                .password_file
                .map(|file| Given::new(directory.join(file), at("password_file"))),
            tls: raw.tls.map(|tls| tls.beside(directory, &at("tls"))).unwrap_or_default(),
            from: Some(self.origin(line("nodes"))),
        }
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File(self.path.clone(), line)
    }

    /// The line of a top-level key, from 1; 1 where it is not found.
    fn line(&self, key: &str) -> usize {
        self.text.lines().position(|line| is_key(line, key)).unwrap_or(0) + 1
    }

    /// The line of a key of a context, or where that begins.
    fn line_inside(&self, context: &str, key: &str) -> usize {
        let first = self.line("contexts");
        let indent = |line: &str| line.len() - line.trim_start().len();
        let lines: Vec<&str> = self.text.lines().collect();
        let rest = || lines.iter().enumerate().skip(first);
        let Some((start, title)) = rest().find(|(_, line)| is_key(line.trim_start(), context))
        else {
            return first;
        };
        let deeper = |line: &str| line.trim().is_empty() || indent(line) > indent(title);
        let inside = lines.iter().enumerate().skip(start + 1).take_while(|(_, line)| deeper(line));
        let mut found = inside.filter(|(_, line)| is_key(line.trim_start(), key));
        found.next().map_or(start + 1, |(place, _)| place + 1)
    }
}

fn is_key(line: &str, key: &str) -> bool {
    let bare = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    bare(line)
        || line.strip_prefix(['"', '\'']).is_some_and(|rest| {
            rest.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with("\":") || rest.starts_with("':"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("/etc/dfs.yaml"), text.to_owned()).unwrap()
    }

    const TWO: &str = "\
# mine
user: bob
contexts:
  home:
    cluster: c
    nodes: [a:1, b:1, c:1, d:1]
  work:
    # far away
    cluster: w
    nodes: [e:1, f:1, g:1, h:1]
    password_file: w.pass
jobs: 8
";

    #[test]
    fn says_on_which_line_a_context_has_what() {
        let file = file(TWO);
        let work = file.named("work").unwrap();
        let place = |line| Origin::File("/etc/dfs.yaml".into(), line);
        assert_eq!(work.nodes.unwrap().origin, place(10));
        let password_file = work.password_file.unwrap();
        assert_eq!(password_file.value, Path::new("/etc/w.pass"));
        assert_eq!(password_file.origin, place(11));
        assert_eq!(file.named("home").unwrap().cluster.unwrap().origin, place(5));
        assert!(file.named("away").is_none());
        assert!(file.own().is_none(), "a user is no cluster");
        assert_eq!(file.user().unwrap().origin, place(2));
        let jobs = file.preference("jobs").unwrap();
        assert_eq!((&*jobs.value, jobs.origin), ("8", place(12)));
        assert!(file.preference("output").is_none());
    }

    #[test]
    fn another_context_is_chosen_and_nothing_else_changes() {
        let chosen = file(TWO).with_context("work");
        assert_eq!(chosen, TWO.replace("contexts:\n", "context: work\ncontexts:\n"));
        let again = file(&chosen).with_context("home");
        assert_eq!(again, chosen.replace("context: work", "context: home"));
        assert_eq!(file(&again).context().unwrap().value, "home");
    }
}
