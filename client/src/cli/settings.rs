//! From raw flags to what the program may rely on: flag, then environment, then file.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::args::{Global, Output};
use super::talk::{notice, tell};
use crate::{
    Client, Config, ConfigError, Credentials, Error, NodeError, Notice, Notify, TokenCache,
    UserName,
};

/// How often a password may be typed.
const ATTEMPTS: usize = 3;

/// Where the password comes from.
enum Password {
    Given(String),
    /// From nowhere: there is a login of before.
    LoggedIn(Arc<TokenCache>),
    Ask,
}

/// What the program may rely on.
pub(super) struct Settings {
    file: PathBuf,
    config: Config,
    user: UserName,
    password_file: Option<PathBuf>,
    cache: Option<Arc<TokenCache>>,
    pub(super) output: Output,
}

impl Settings {
    /// Finds and reads the configuration. The error is for people.
    pub(super) fn new(global: &Global) -> Result<Self, String> {
        let file = match &global.config {
            Some(file) => file.clone(),
            None => find_config().ok_or(
                "no configuration: there is no ./dfs.yaml and no $XDG_CONFIG_HOME/dfs/dfs.yaml; \
                 name one with --config or DFS_CONFIG",
            )?,
        };
        let config = Config::load(&file).map_err(|error| error.to_string())?;
        let user = match &global.user {
            Some(user) => {
                UserName::new(&**user).map_err(|error| format!("--user {user}: {error}"))?
            }
            None => config.user.clone().ok_or_else(|| {
                format!("{}: no user; add 'user: NAME' or give --user", file.display())
            })?,
        };
        let password_file = global.password_file.clone();
        let cache = if global.no_token_cache { None } else { cache_dir() };
        let cache = cache.map(|dir| Arc::new(TokenCache::open(&dir)));
        Ok(Self { file, config, user, password_file, cache, output: global.output })
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
                match Client::connect_with(&self.config, credentials, notify()).await {
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

    /// Logs in for calls that give no password.
    pub(super) async fn log_in(&self) -> Result<Client, Error> {
        let cache = self.cache()?;
        let typed = match self.password()? {
            Some(password) => password,
            None => self.ask().await?,
        };
        self.try_passwords(typed, |credentials| credentials.log_in(cache.clone())).await
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
            match Client::connect_with(&self.config, credentials, notify()).await {
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
        if let Some(file) = &self.password_file {
            return Config::read_password(file).map(Some);
        }
        if let Ok(password) = std::env::var("DFS_PASSWORD") {
            return Ok(Some(password));
        }
        self.config.password_file.as_deref().map(Config::read_password).transpose()
    }

    async fn ask(&self) -> Result<String, Error> {
        if !std::io::stdin().is_terminal() {
            return Err(ConfigError::NoPassword { path: self.file.clone() }.into());
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

fn find_config() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let candidates = [Some("dfs.yaml".into()), config.map(|dir| dir.join("dfs/dfs.yaml"))];
    candidates.into_iter().flatten().find(|file| file.exists())
}

/// Tells each notice once.
fn notify() -> Notify {
    let told = Mutex::new(HashSet::new());
    Arc::new(move |heard| {
        let text = match heard {
            Notice::LeftOut(error) => format!("{error}; left out"),
            Notice::Skew(node, ms) => {
                format!("the clock of node {node} is {} s off the others'; set it right", ms / 1000)
            }
            Notice::Kept(file) => {
                format!("what has come is kept in {}; the same get goes on", file.display())
            }
            Notice::Staged(path) => {
                format!("what has been sent of {path} is kept; the same put --resume goes on")
            }
            Notice::GoesOn(path) => format!("{path}: going on with what has been sent before"),
            Notice::Resumed(path, bytes) => {
                format!("{path}: {bytes} bytes have come before; going on after them")
            }
        };
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.insert(text.clone()) {
            notice(&text);
        }
    })
}
