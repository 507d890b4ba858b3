//! From raw flags to what the program may rely on: flag, then environment, then file.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::args::{Global, Output};
use super::exit::{complain, tell};
use crate::{Client, Config, Credentials, Error, Notice, Notify, UserName};

/// How often a password may be typed.
const ATTEMPTS: usize = 3;

/// Where the password comes from.
enum Password {
    Given(String),
    Ask,
}

/// What the program may rely on.
pub(super) struct Settings {
    config: Config,
    user: UserName,
    password: Password,
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
        let read = |file: PathBuf| Config::read_password(&file).map_err(|error| error.to_string());
        let password = if let Some(file) = &global.password_file {
            Password::Given(read(file.clone())?)
        } else if let Ok(password) = std::env::var("DFS_PASSWORD") {
            Password::Given(password)
        } else if let Some(file) = &config.password_file {
            Password::Given(read(file.clone())?)
        } else if std::io::stdin().is_terminal() {
            Password::Ask
        } else {
            return Err(format!(
                "{}: no password; add 'password_file: FILE', or set DFS_PASSWORD",
                file.display()
            ));
        };
        Ok(Self { config, user, password, output: global.output })
    }

    /// Connects; on a terminal a refused password may be typed again.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let mut typed = match &self.password {
            Password::Given(password) => password.clone(),
            Password::Ask => self.ask().await?,
        };
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        for attempt in 1.. {
            let credentials = Credentials::new(self.user.clone(), typed);
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

    async fn ask(&self) -> Result<String, Error> {
        let prompt = format!("Password of {}: ", self.user);
        let typed = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
        let typed = typed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        typed.map_err(Error::local("read the password from", "the terminal"))
    }
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
    Arc::new(move |notice| {
        let text = match notice {
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
            complain(&text);
        }
    })
}
