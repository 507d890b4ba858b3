//! login and logout

use super::args::Command;
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
    Ok(say(&format!("logged in to {there} of 4 nodes\n")))
}

async fn log_out(settings: &Settings) -> Result<Exit, Error> {
    let failed = settings.log_out().await?;
    for error in &failed {
        complain(&format!("{error}; its token ends by itself"));
    }
    Ok(if failed.is_empty() { say("logged out\n") } else { Exit::Nodes })
}
