//! doctor: tries everything that a command needs, and says what to mend. Changes nothing.
//!
//! Here the questions are asked; `judge` says what the answers mean.

mod judge;

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use dfs_proto::placement::{NodeId, PerNode};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::args::{Global, Output};
use super::exit::Exit;
use super::settings::{Said, Settings};
use super::style::{Role, Style};
use super::talk::say;
use crate::Client;
use judge::{Check, Reached, Seen, Status, judge};

/// How long a name may take to be looked up, and a connection to be made.
const REACH_LIMIT: Duration = Duration::from_secs(2);

/// The variables that are heard; others with their beginning are mistakes of somebody's.
const VARIABLES: [&str; 20] = [
    "DFS_BWLIMIT",
    "DFS_CLUSTER",
    "DFS_COLOR",
    "DFS_CONFIG",
    "DFS_CONTEXT",
    "DFS_JOBS",
    "DFS_LOG",
    "DFS_NODES",
    "DFS_NO_TOKEN_CACHE",
    "DFS_OUTPUT",
    "DFS_PASSWORD",
    "DFS_PASSWORD_FILE",
    "DFS_TLS_CA",
    "DFS_TLS_CERT",
    "DFS_TLS_KEY",
    "DFS_TLS_SERVER_NAME",
    "DFS_TOKEN_CACHE",
    "DFS_USER",
    "DFS_VERBOSITY",
    "DFS_BLESS",
];

pub(super) async fn run(flags: &Global, said: Said) -> Exit {
    let json = said.layers.output.value == Output::Json;
    let style = Style::of_stdout(said.layers.colour.value);
    let password_file =
        said.layers.connection.password_file.as_ref().map(|file| file.value.clone());
    let from = said.layers.connection.nodes.as_ref().map(|nodes| nodes.origin.to_string());
    let mut checks = match Settings::new(flags, said) {
        Err(mistakes) => mistakes
            .into_iter()
            .map(|mistake| {
                Check::fail("configuration", mistake, "correct it; 'dfsctl config show' shows all")
            })
            .collect(),
        Ok(settings) => {
            let from = from.unwrap_or_default();
            let about = format!(
                "cluster {}, user {}, nodes from {from}",
                settings.config.cluster, settings.user
            );
            let mut checks = vec![Check::ok("configuration", about)];
            checks.extend(password_file.as_deref().and_then(secrecy));
            checks.extend(ask(&settings).await);
            checks
        }
    };
    checks.extend(unknown_variables());
    let said = if json { say(&as_json(&checks)) } else { say(&as_text(&checks, style)) };
    let exit = exit(&checks);
    if exit == Exit::Ok { said } else { exit }
}

/// Asks all four nodes.
async fn ask(settings: &Settings) -> Vec<Check> {
    let nodes = &settings.config.nodes;
    let credentials = match settings.credentials().await {
        Ok(credentials) => credentials,
        Err(error) => {
            let advice = "see 'dfsctl help login' and 'dfsctl config show'";
            return vec![Check::fail("login", error.to_string(), advice)];
        }
    };
    let reached = join_all(nodes.iter().map(|address| reach(address))).await;
    let infos = Client::examine(&settings.config, credentials).await;
    let seen = NodeId::ALL.into_iter().zip(nodes).zip(reached).zip(infos);
    let seen: Vec<Seen> = seen
        .map(|(((id, address), reached), info)| Seen {
            id,
            address: address.clone(),
            reached,
            info,
        })
        .collect();
    let Ok(seen) = PerNode::<Seen>::try_from(seen) else {
        return Vec::new();
    };
    judge(&seen, &settings.config.nodes_from, env!("CARGO_PKG_VERSION"))
}

/// Looks a name up and connects, with nothing said on the connection.
async fn reach(address: &str) -> Reached {
    let found = tokio::time::timeout(REACH_LIMIT, tokio::net::lookup_host(address)).await;
    let places: Vec<_> = match found {
        Ok(Ok(places)) => places.collect(),
        Ok(Err(error)) => return Reached::Unknown(error.to_string()),
        Err(_) => return Reached::Unknown(format!("no answer within {REACH_LIMIT:?}")),
    };
    let connected = tokio::time::timeout(REACH_LIMIT, async {
        let mut last = std::io::Error::other("the name has no address");
        for place in places {
            match tokio::net::TcpStream::connect(place).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    match connected.await {
        Ok(Ok(())) => Reached::Connected,
        Ok(Err(error)) => Reached::Refused(error.to_string()),
        Err(_) => Reached::Silent(REACH_LIMIT),
    }
}

/// Whether others can read the password.
fn secrecy(file: &Path) -> Option<Check> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let open = mode & 0o077 != 0;
    open.then(|| {
        let found = format!("{} can be read by others (mode {:03o})", file.display(), mode & 0o777);
        Check::warn("secrecy", found, &format!("chmod 600 {}", file.display()))
    })
}

fn unknown_variables() -> Option<Check> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let unknown = |name: &String| name.starts_with("DFS_") && !VARIABLES.contains(&name.as_str());
    let mut unknown: Vec<String> = names.filter(unknown).collect();
    unknown.sort_unstable();
    let found = format!("{} mean nothing to dfsctl", unknown.join(", "));
    let advice = "'dfsctl --help' names the variables that do";
    (!unknown.is_empty()).then(|| Check::warn("environment", found, advice))
}

/// The worst of what fails.
fn exit(checks: &[Check]) -> Exit {
    let failed = |names: &[&str]| {
        checks.iter().any(|check| check.status == Status::Fail && names.contains(&check.name))
    };
    match () {
        () if failed(&["configuration", "identity"]) => Exit::Usage,
        () if failed(&["login"]) => Exit::Credentials,
        () if checks.iter().any(|check| check.status == Status::Fail) => Exit::Nodes,
        () => Exit::Ok,
    }
}

fn as_text(checks: &[Check], style: Style) -> String {
    let mut text = String::new();
    for Check { name, node, status, found, advice } in checks {
        let role = match status {
            Status::Ok => Role::Good,
            Status::Warn => Role::Warning,
            Status::Fail => Role::Bad,
        };
        let status = style.paint(role, status.word());
        let about = node.map_or((*name).to_owned(), |node| format!("{name} {node}"));
        writeln!(text, "{status:<4}  {about:<13}  {found}").expect("a string takes all text");
        if let Some(advice) = advice {
            writeln!(text, "{:21}-> {advice}", "").expect("a string takes all text");
        }
    }
    text
}

fn as_json(checks: &[Check]) -> String {
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
    let each = checks.iter().map(|Check { name, node, status, found, advice }| {
        let node = node.map(NodeId::get);
        json!({
            "check": name, "node": node, "status": status.word(), "found": found, "advice": advice
        })
    });
    let checks: Vec<Value> = each.collect();
    format!("{:#}\n", json!({ "status": worst.word(), "checks": checks }))
}
