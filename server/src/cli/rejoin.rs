//! `dfsd rejoin`: a new life for a node whose disk was lost, emptied, damaged or restored.

use clap::Args;
use dfs_proto::manifest::Incarnation;
use dfs_proto::placement::NodeId;

use super::{CliError, ConfigArgs, random, say, tell};
use crate::config::Config;
use crate::disk::{Disk, Leftovers};

#[derive(Args)]
pub(super) struct RejoinArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reuse chunk files that are still in the data directory, where their checksums match.
    #[arg(long, conflicts_with = "discard_chunks")]
    keep_chunks: bool,
    /// Remove chunk files that are still in the data directory.
    #[arg(long)]
    discard_chunks: bool,
    /// Do not wait for this node, whose disk is lost for good as well. What was acknowledged
    /// may then be gone.
    #[arg(long, value_name = "N", value_parser = position)]
    without: Option<NodeId>,
}

fn position(text: &str) -> Result<NodeId, String> {
    let node = text.parse().ok().and_then(NodeId::new);
    node.ok_or_else(|| "a position is 1, 2, 3 or 4".to_owned())
}

pub(super) fn rejoin(args: &RejoinArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config.config)?;
    if args.without == Some(config.node) {
        return Err(CliError::Usage(format!(
            "--without names another node; node {} is this one",
            config.node
        )));
    }
    let leftovers = match (args.keep_chunks, args.discard_chunks) {
        (true, _) => Leftovers::Keep,
        (false, true) => Leftovers::Discard,
        (false, false) => Leftovers::Refuse,
    };
    let incarnation = Incarnation::new(random()?);
    Disk::rejoin(&config, incarnation, leftovers, args.without)?;
    say(format_args!(
        "{} is ready to rejoin as node {} of cluster {}; start it with 'dfsd serve'",
        config.data_dir.display(),
        config.node,
        config.cluster
    ));
    if let Some(lost) = args.without {
        tell(format_args!(
            "dfsd: without node {lost} the newest version of a file may be missed: one whose OK \
             rested on node {lost} and on this node's former disk. Run 'dfsctl repair' and \
             'dfsctl verify' when both nodes are back"
        ));
    }
    Ok(())
}
