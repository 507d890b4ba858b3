//! status

use super::Context;
use super::args::Output;
use super::exit::{Exit, say};
use super::output;

/// Reads and writes need this many nodes.
const ENOUGH: usize = 3;

pub(super) async fn run(context: &Context) -> Exit {
    let infos = tokio::select! {
        infos = context.client.node_info() => infos,
        () = context.cancel.cancelled() => return Exit::Interrupted,
    };
    let said = match context.settings.output {
        Output::Json => say(&format!("{}\n", output::status_json(&infos))),
        Output::Text => say(&output::status_text(&infos)),
    };
    if said != Exit::Ok {
        return said;
    }
    let serving = infos.iter().flatten().filter(|info| !info.identity.rejoining).count();
    if serving >= ENOUGH { Exit::Ok } else { Exit::Nodes }
}
