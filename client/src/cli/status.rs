//! status

use super::Context;
use super::args::Output;
use super::exit::Exit;
use super::output;

/// Reads and writes need this many nodes.
const ENOUGH: usize = 3;

pub(super) async fn run(context: &Context) -> Exit {
    let infos = tokio::select! {
        infos = context.client.node_info() => infos,
        () = context.cancel.cancelled() => return Exit::Interrupted,
    };
    match context.settings.output {
        Output::Json => println!("{}", output::status_json(&infos)),
        Output::Text => print!("{}", output::status_text(&infos)),
    }
    let serving = infos.iter().flatten().filter(|info| !info.identity.rejoining).count();
    if serving >= ENOUGH { Exit::Ok } else { Exit::Nodes }
}
