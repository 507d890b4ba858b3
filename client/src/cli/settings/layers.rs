//! Which value counts of a setting: flag, then environment, then the project's file, then the
//! user's, then what the program does by itself. Pure: files have been read, and the environment
//! is a function.
//!
//! What a cluster is known by belongs together: `cluster`, `nodes`, `tls` and `password_file` come
//! from one file, the first that has any of them. Else a file that happens to be in the current
//! folder could send the password of one's own file to nodes of its own.

use std::path::{Path, PathBuf};

use super::super::args::{Global, Output};
use super::super::style::Colour;
use super::super::talk::Verbosity;
use super::size;
use crate::config::{ConfigFile, Connection, unknown_context};
use crate::origin::{Given, Origin};

/// The files that were found.
pub(in super::super) struct Files {
    /// By --config or DFS_CONFIG; then there are no others.
    pub(in super::super) named: Option<ConfigFile>,
    pub(in super::super) project: Option<ConfigFile>,
    pub(in super::super) user: Option<ConfigFile>,
}

impl Files {
    /// The first that counts first.
    pub(in super::super) fn each(&self) -> impl Iterator<Item = &ConfigFile> {
        [&self.named, &self.project, &self.user].into_iter().flatten()
    }

    /// The one that names clusters.
    pub(in super::super) fn with_contexts(&self) -> Option<&ConfigFile> {
        self.named.as_ref().or(self.user.as_ref())
    }
}

/// Reads a variable of the environment; one that is empty counts as not set.
pub(in super::super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What holds, before it is checked.
pub(in super::super) struct Layers {
    pub(in super::super) context: Option<Given<String>>,
    pub(in super::super) connection: Connection,
    pub(in super::super) output: Given<Output>,
    pub(in super::super) colour: Given<Colour>,
    pub(in super::super) verbosity: Given<Verbosity>,
    pub(in super::super) jobs: Given<Option<usize>>,
    pub(in super::super) bwlimit: Given<Option<u64>>,
    pub(in super::super) token_cache: Given<bool>,
    /// What cannot be used, each with where it is written.
    pub(in super::super) mistakes: Vec<String>,
}

/// A setting that is about no cluster: its names.
struct Names {
    flag: &'static str,
    variable: &'static str,
    key: &'static str,
}

struct Choice<'a> {
    environment: Environment<'a>,
    files: &'a Files,
    mistakes: Vec<String>,
}

impl Choice<'_> {
    /// A flag's value or a variable's text.
    fn above<T>(
        &self,
        flag: Option<T>,
        [name, variable]: [&'static str; 2],
        read: impl FnOnce(String) -> T,
    ) -> Option<Given<T>> {
        let given = flag.map(|value| Given::new(value, Origin::Flag(name)));
        given.or_else(|| {
            let text = (self.environment)(variable)?;
            Some(Given::new(read(text), Origin::Variable(variable)))
        })
    }

    fn preference<T>(
        &mut self,
        flag: Option<T>,
        names: &Names,
        read: impl Fn(&str) -> Result<T, String>,
        shared: Option<Given<T>>,
        default: T,
    ) -> Given<T> {
        if let Some(value) = flag {
            return Given::new(value, Origin::Flag(names.flag));
        }
        let variable = (self.environment)(names.variable);
        let variable = variable.map(|text| Given::new(text, Origin::Variable(names.variable)));
        if variable.is_none()
            && let Some(shared) = shared
        {
            return shared;
        }
        let files = self.files.each().filter_map(|file| file.preference(names.key));
        for Given { value, origin } in variable.into_iter().chain(files) {
            match read(&value) {
                Ok(value) => return Given::new(value, origin),
                Err(why) => self.mistakes.push(format!("{origin}: {}: {why}", names.key)),
            }
        }
        Given::new(default, Origin::Default)
    }

    /// The cluster that counts: one that is named on the way here, or that a file has.
    fn cluster(&mut self, flag: Option<String>) -> (Option<Given<String>>, Option<Connection>) {
        let chosen = self.above(flag, ["--context", "DFS_CONTEXT"], |text| text);
        let files = self.files;
        let found = match chosen {
            Some(name) => Some(Err(name)),
            None => files.each().find_map(|file| match file.context() {
                Some(name) => Some(Err(name)),
                None => file.own().map(Ok),
            }),
        };
        match found {
            Some(Ok(connection)) => (None, Some(connection)),
            Some(Err(name)) => {
                let named = files.with_contexts().and_then(|file| file.named(&name.value));
                if named.is_none() {
                    let nowhere = || format!("{}: context: no file has contexts", name.origin);
                    let unknown =
                        |file: &ConfigFile| unknown_context(&name.origin, &name.value, file);
                    self.mistakes.push(files.with_contexts().map_or_else(nowhere, unknown));
                }
                (Some(name), named)
            }
            None => (None, None),
        }
    }
}

/// Lays flags over the environment over files.
pub(in super::super) fn lay(flags: &Global, environment: Environment<'_>, files: &Files) -> Layers {
    let mut choice = Choice { environment, files, mistakes: Vec::new() };
    if let Some(project) = &files.project
        && project.contexts().next().is_some()
    {
        let place = project.contexts_from();
        let text = "belong into the file of the user; this one may have 'context: NAME'";
        choice.mistakes.push(format!("{place}: contexts: they {text}"));
    }
    let (context, found) = choice.cluster(flags.context.clone());
    let has_cluster = found.is_some();
    let mut connection = found.unwrap_or_default();
    overlay(&mut connection, flags, &choice);
    if connection.nodes.is_none() && !has_cluster && choice.mistakes.is_empty() {
        choice.mistakes.push(no_cluster(files));
    }
    let names = |flag, variable, key| Names { flag, variable, key };
    let shared = Colour::of_environment(environment)
        .map(|(colour, variable)| Given::new(colour, Origin::Variable(variable)));
    let quiet = flags.quiet.then_some(("--quiet", Verbosity::Quiet));
    let loud = quiet.or(flags.verbose.then_some(("--verbose", Verbosity::Verbose)));
    let no_cache = environment("DFS_NO_TOKEN_CACHE").filter(|text| is_true(text));
    let no_cache = no_cache.map(|_| Given::new(false, Origin::Variable("DFS_NO_TOKEN_CACHE")));
    let output = choice.preference(
        flags.output,
        &names("--output", "DFS_OUTPUT", "output"),
        |text| word(text, &[("text", Output::Text), ("json", Output::Json)]),
        None,
        Output::Text,
    );
    let colour = choice.preference(
        flags.color,
        &names("--color", "DFS_COLOR", "color"),
        |text| word(text, &[Colour::Auto, Colour::Always, Colour::Never].map(|c| (c.word(), c))),
        shared,
        Colour::Auto,
    );
    let verbosity = choice.preference(
        loud.map(|(_, verbosity)| verbosity),
        &names(loud.map_or("", |(flag, _)| flag), "DFS_VERBOSITY", "verbosity"),
        |text| {
            let all = [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose];
            word(text, &all.map(|verbosity| (verbosity.word(), verbosity)))
        },
        None,
        Verbosity::Normal,
    );
    let jobs = choice.preference(
        flags.jobs.map(Some),
        &names("--jobs", "DFS_JOBS", "jobs"),
        |text| size::jobs(text).map(Some),
        None,
        None,
    );
    let bwlimit = choice.preference(
        flags.bwlimit.map(|rate| rate.0),
        &names("--bwlimit", "DFS_BWLIMIT", "bwlimit"),
        |text| size::rate(text).map(|rate| rate.0),
        None,
        None,
    );
    let token_cache = choice.preference(
        flags.no_token_cache.then_some(false),
        &names("--no-token-cache", "DFS_TOKEN_CACHE", "token_cache"),
        |text| word(text, &[("true", true), ("false", false)]),
        no_cache,
        true,
    );
    let mistakes = choice.mistakes;
    Layers { context, connection, output, colour, verbosity, jobs, bwlimit, token_cache, mistakes }
}

/// Lays what flags and variables say over what a file says of a cluster.
fn overlay(connection: &mut Connection, flags: &Global, choice: &Choice<'_>) {
    let Connection { cluster, nodes, user, password_file, tls, .. } = connection;
    let put = |under: &mut Option<Given<String>>, over: Option<Given<String>>| {
        *under = over.or(under.take());
    };
    let text = |text| text;
    put(cluster, choice.above(flags.cluster.clone(), ["--cluster", "DFS_CLUSTER"], text));
    let above = choice.above(flags.nodes.clone(), ["--nodes", "DFS_NODES"], text);
    let split = |text: String| text.split(',').map(|node| node.trim().to_owned()).collect();
    *nodes = above.map(|given| given.map(split)).or(nodes.take());
    let above = choice.above(flags.user.clone(), ["--user", "DFS_USER"], text);
    let named = || choice.files.each().find_map(ConfigFile::user);
    *user = above.or(user.take()).or_else(named);
    let file = |flag: &Option<PathBuf>, names| choice.above(flag.clone(), names, PathBuf::from);
    // The password itself stands above all but the flag that names a file.
    let names = ["--password-file", "DFS_PASSWORD_FILE"];
    *password_file = file(&flags.password_file, names).or(password_file.take());
    let mut over = |under: &mut Option<Given<PathBuf>>, above: Option<Given<PathBuf>>| {
        if let Some(above) = above {
            tls.wanted.get_or_insert_with(|| above.origin.clone());
            *under = Some(above);
        }
    };
    let [mut ca, mut cert, mut key] = [tls.ca.take(), tls.cert.take(), tls.key.take()];
    over(&mut ca, file(&flags.tls_ca, ["--tls-ca", "DFS_TLS_CA"]));
    over(&mut cert, file(&flags.tls_cert, ["--tls-cert", "DFS_TLS_CERT"]));
    over(&mut key, file(&flags.tls_key, ["--tls-key", "DFS_TLS_KEY"]));
    (tls.ca, tls.cert, tls.key) = (ca, cert, key);
    let names = ["--tls-server-name", "DFS_TLS_SERVER_NAME"];
    put(&mut tls.server_name, choice.above(flags.tls_server_name.clone(), names, text));
}

fn no_cluster(files: &Files) -> String {
    let known: Vec<&str> =
        files.with_contexts().into_iter().flat_map(ConfigFile::contexts).collect();
    match (&known[..], files.each().next()) {
        ([], None) => {
            "no configuration: there is no ./dfs.yaml and no $XDG_CONFIG_HOME/dfs/dfs.yaml; \
             name one with --config or DFS_CONFIG"
                .to_owned()
        }
        ([], Some(file)) => {
            let file = file.path().display();
            format!("{file}:1: no cluster: write 'cluster' and 'nodes' there")
        }
        (known, _) => format!(
            "no context is chosen, and there are {}; choose with --context, DFS_CONTEXT, or \
             'dfsctl config use NAME'",
            known.join(", ")
        ),
    }
}

fn is_true(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off" | "n" | "f")
}

fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let words = || known.iter().map(|(word, _)| *word).collect::<Vec<&str>>().join(", ");
    found.ok_or_else(|| format!("'{text}' is none of {}", words()))
}

/// Where files are looked for.
pub(in super::super) struct Places {
    /// By a flag or a variable.
    pub(in super::super) named: Option<Given<PathBuf>>,
    pub(in super::super) project: PathBuf,
    pub(in super::super) user: Option<PathBuf>,
}

impl Places {
    pub(in super::super) fn of(flags: &Global, environment: Environment<'_>) -> Self {
        let flag = flags.config.clone().map(|file| Given::new(file, Origin::Flag("--config")));
        let variable = || {
            let file = PathBuf::from(environment("DFS_CONFIG")?);
            Some(Given::new(file, Origin::Variable("DFS_CONFIG")))
        };
        let home = || environment("HOME").map(|home| Path::new(&home).join(".config"));
        let config = environment("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        Self {
            named: flag.or_else(variable),
            project: "dfs.yaml".into(),
            user: config.map(|config| config.join("dfs/dfs.yaml")),
        }
    }
}

#[cfg(test)]
mod tests;
