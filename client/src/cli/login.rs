//! login and logout

use dfs_proto::placement::NodeId;
use serde_json::{Value, json};

use super::args::{Command, Output};
use super::exit::{Exit, report};
use super::settings::Settings;
use super::talk::{complain, say};
use crate::Error;

pub(super) async fn run(settings: &Settings, command: &Command) -> Exit {
    let outcome = match command {
        Command::Logout => log_out(settings).await,
        _ => log_in(settings).await,
    };
    outcome.unwrap_or_else(|error| report(&error))
}

/// Nodes that are left out are told as they are found out.
async fn log_in(settings: &Settings) -> Result<Exit, Error> {
    let client = settings.log_in().await?;
    let nodes = client.node_info().await;
    let there = nodes.iter().filter(|node| node.is_ok()).count();
    client.close().await;
    if there < 2 {
        complain("logged in to fewer than two nodes; see 'dfsctl status'");
        return Ok(Exit::Nodes);
    }
    if settings.output == Output::Json {
        let numbered = NodeId::ALL.into_iter().zip(&nodes).filter(|(_, node)| node.is_ok());
        let numbers: Vec<u8> = numbered.map(|(id, _)| id.get()).collect();
        return Ok(say(&format!("{}\n", told(settings, "nodes", json!(numbers)))));
    }
    Ok(say(&format!("logged in to {there} of 4 nodes\n")))
}

async fn log_out(settings: &Settings) -> Result<Exit, Error> {
    let failed = settings.log_out().await?;
    for error in &failed {
        complain(&format!("{error}; its token ends by itself"));
    }
    if settings.output == Output::Json {
        let each = failed
            .iter()
            .map(|error| json!({ "node": error.node.get(), "error": error.to_string() }));
        say(&format!("{}\n", told(settings, "failed", each.collect())));
    } else if failed.is_empty() {
        return Ok(say("logged out\n"));
    }
    Ok(if failed.is_empty() { Exit::Ok } else { Exit::Nodes })
}

/// Whose login it is, and what became of it.
fn told(settings: &Settings, member: &str, value: Value) -> Value {
    json!({ "user": settings.user.as_str(), "cluster": settings.config.cluster.as_str(), member: value })
}
