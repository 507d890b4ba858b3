//! From raw flags to what the program may rely on: flag, then environment, then files.

mod layers;

mod size;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Global, Output};
use super::heard;
use super::style::Colour;
use super::talk::{Verbosity, tell};
use crate::config::ConfigFile;
use crate::{
    Bandwidth, Client, Config, ConfigError, Credentials, Error, NodeError, TokenCache, UserName,
};
pub(super) use layers::{Files, Layers, Places};
pub(super) use size::{Rate, jobs, rate};

/// How often a password may be typed.
const ATTEMPTS: usize = 3;

/// Where the password comes from.
enum Password {
    Given(String),
    /// From nowhere: there is a login of before.
    LoggedIn(Arc<TokenCache>),
    Ask,
}

/// What is said by flags, environment and files, not checked yet.
pub(super) struct Said {
    pub(super) places: Places,
    pub(super) files: Files,
    pub(super) layers: Layers,
}

impl Said {
    /// Reads the files that there are. What is wrong in them is among the layers' mistakes.
    pub(super) fn read(flags: &Global) -> Self {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let places = Places::of(flags, &environment);
        let mut mistakes = Vec::new();
        let mut found = |file: Result<Option<ConfigFile>, ConfigError>| {
            file.unwrap_or_else(|error| {
                mistakes.push(error.to_string());
                None
            })
        };
        let files = match &places.named {
            Some(named) => Files {
                named: found(ConfigFile::read(&named.value).map(Some)),
                project: None,
                user: None,
            },
            None => {
                let user = places.user.as_ref();
                let user = user.map_or(Ok(None), |file| ConfigFile::read_if_there(file));
                let project = found(ConfigFile::read_if_there(&places.project));
                Files { named: None, project, user: found(user) }
            }
        };
        let mut layers = layers::lay(flags, &environment, &files);
        if !mistakes.is_empty() {
            // What else is missing may be in the file that cannot be read.
            layers.mistakes = mistakes;
        }
        Self { places, files, layers }
    }

    /// How much to say, and in which colours; known whatever else is wrong.
    pub(super) fn manner(&self) -> (Verbosity, Colour) {
        (self.layers.verbosity.value, self.layers.colour.value)
    }
}

/// What the program may rely on.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) user: UserName,
    /// Stands above DFS_PASSWORD.
    password_flag: Option<PathBuf>,
    cache: Option<Arc<TokenCache>>,
    pub(super) output: Output,
    pub(super) colour: Colour,
    /// Files at once, if the user wants another number than the program.
    pub(super) jobs: Option<usize>,
}

impl Settings {
    /// Checks what is said. The error names every mistake, for people.
    pub(super) fn new(flags: &Global, said: Said) -> Result<Self, Vec<String>> {
        let Layers { connection, output, colour, jobs, bwlimit, token_cache, mut mistakes, .. } =
            said.layers;
        if connection.nodes.is_none() && !mistakes.is_empty() {
            return Err(mistakes);
        }
        let from = connection.nodes.as_ref().map(|nodes| nodes.origin.to_string());
        let config = Config::check(connection);
        let mut config = match (config, mistakes.is_empty()) {
            (Ok(config), true) => config,
            (Ok(_), false) => return Err(mistakes),
            (Err(more), _) => {
                mistakes.extend(more);
                return Err(mistakes);
            }
        };
        config.bandwidth = bwlimit.value.map(|rate| Arc::new(Bandwidth::new(rate)));
        let Some(user) = config.user.clone() else {
            let from = from.unwrap_or_default();
            return Err(vec![format!(
                "{from}: no user; write 'user: NAME' there, or give --user or DFS_USER"
            )]);
        };
        let cache = if token_cache.value { cache_dir() } else { None };
        Ok(Self {
            config,
            user,
            password_flag: flags.password_file.clone(),
            cache: cache.map(|dir| Arc::new(TokenCache::open(&dir))),
            output: output.value,
            colour: colour.value,
            jobs: jobs.value,
        })
    }

    /// Connects; on a terminal a refused password may be typed again.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let password = match self.password()? {
            Some(password) => Password::Given(password),
            None => match &self.cache {
                Some(cache) if cache.has_login(&self.config.cluster, &self.user) => {
                    Password::LoggedIn(cache.clone())
                }
                _ => Password::Ask,
            },
        };
        let typed = match password {
            Password::Given(password) => password,
            Password::LoggedIn(cache) => {
                let credentials = Credentials::logged_in(self.user.clone(), cache);
                match self.connect_as(credentials).await {
                    // The nodes do not know the login any more.
                    Err(Error::Credentials) => self.ask().await?,
                    other => return other,
                }
            }
            Password::Ask => self.ask().await?,
        };
        self.try_passwords(typed, |credentials| match &self.cache {
            Some(cache) => credentials.remember(cache.clone()),
            None => credentials,
        })
        .await
    }

    async fn connect_as(&self, credentials: Credentials) -> Result<Client, Error> {
        let client = Client::connect_with(&self.config, credentials, heard::listen()).await;
        heard::connected(client.as_ref().err());
        client
    }

    /// Logs in for calls that give no password.
    pub(super) async fn log_in(&self) -> Result<Client, Error> {
        let cache = self.cache()?;
        let typed = match self.password()? {
            Some(password) => password,
            None => self.ask().await?,
        };
        self.try_passwords(typed, |credentials| credentials.log_in(cache.clone())).await
    }

    /// The password that would be used, or else a login of before; no token stands for a
    /// password that is there, so that the nodes check it.
    pub(super) async fn credentials(&self) -> Result<Credentials, Error> {
        let user = self.user.clone();
        match (self.password()?, &self.cache) {
            (Some(password), _) => Ok(Credentials::new(user, password)),
            (None, Some(cache)) if cache.has_login(&self.config.cluster, &user) => {
                Ok(Credentials::logged_in(user, cache.clone()))
            }
            (None, _) => Ok(Credentials::new(user, self.ask().await?)),
        }
    }

    /// Ends what logins of before have left; tells what did not work.
    pub(super) async fn log_out(&self) -> Result<Vec<NodeError>, Error> {
        Ok(Client::log_out(&self.config, self.user.clone(), self.cache()?).await)
    }

    fn cache(&self) -> Result<Arc<TokenCache>, Error> {
        let none = || std::io::Error::other("neither HOME nor XDG_CACHE_HOME says where");
        self.cache.clone().ok_or_else(|| Error::local("keep", "the login")(none()))
    }

    async fn try_passwords(
        &self,
        mut typed: String,
        credentials: impl Fn(Credentials) -> Credentials,
    ) -> Result<Client, Error> {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        for attempt in 1.. {
            let credentials = credentials(Credentials::new(self.user.clone(), typed));
            match self.connect_as(credentials).await {
                Err(Error::Credentials) if terminal && attempt < ATTEMPTS => {
                    tell(&Error::Credentials.to_string());
                    typed = self.ask().await?;
                }
                other => return other,
            }
        }
        Err(Error::Credentials)
    }

    /// The password, where something other than the user says it.
    fn password(&self) -> Result<Option<String>, ConfigError> {
        if let Some(file) = &self.password_flag {
            return Config::read_password(file).map(Some);
        }
        if let Ok(password) = std::env::var("DFS_PASSWORD") {
            return Ok(Some(password));
        }
        self.config.password_file.as_deref().map(Config::read_password).transpose()
    }

    /// What says the password, if something other than the user does.
    pub(super) fn password_place(&self) -> Option<String> {
        let shown = |file: &PathBuf| file.display().to_string();
        let variable = || std::env::var_os("DFS_PASSWORD").map(|_| "DFS_PASSWORD".to_owned());
        let flag = self.password_flag.as_ref().map(shown);
        flag.or_else(variable).or_else(|| self.config.password_file.as_ref().map(shown))
    }

    async fn ask(&self) -> Result<String, Error> {
        if !std::io::stdin().is_terminal() {
            return Err(ConfigError::NoPassword { place: self.config.nodes_from.clone() }.into());
        }
        let prompt = format!("Password of {}: ", self.user);
        let typed = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
        let typed = typed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        typed.map_err(Error::local("read the password from", "the terminal"))
    }
}

fn cache_dir() -> Option<PathBuf> {
    let absolute = |dir: &PathBuf| dir.is_absolute();
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(absolute);
    let dir = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    dir.map(|dir| dir.join("dfs"))
}
