//! `dfsd init`: the first life of a node of a new cluster. A disk that another node remembers
//! is no new one: an empty directory in its place would deny files that were acknowledged.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dfs_proto::identity::{Boot, Identity};
use dfs_proto::manifest::Incarnation;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::{network, pb};
use futures_util::future::join_all;

use super::{CliError, random, say};
use crate::config::Config;
use crate::disk::{Disk, DiskError};
use crate::identity::{DataDir, IdentityError};
use crate::peers::dial::Dial;
use crate::peers::{Peers, RecordsQuery};
use crate::tls::Tls;

#[derive(Args)]
pub(super) struct InitArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change nothing, and succeed, where the node has its data directory already: for containers,
    /// which run this before every start.
    #[arg(long)]
    if_needed: bool,
}

pub(super) fn init(args: &InitArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config)?;
    if args.if_needed && is_made(&config)? {
        say(format_args!("{} is there already", config.data_dir.display()));
        return Ok(());
    }
    let incarnation = Incarnation::new(random()?);
    if let Some(node) = remembered_by(&config, incarnation)? {
        return Err(CliError::Usage(format!(
            "node {node} remembers a disk of node {}: this one was lost or emptied; run 'dfsd \
             rejoin --config {}'",
            config.node,
            args.config.display()
        )));
    }
    Disk::create(&config, incarnation)?;
    say(format_args!(
        "initialised {} for node {} of cluster {}",
        config.data_dir.display(),
        config.node,
        config.cluster
    ));
    Ok(())
}

/// Whether the data directory of this node, and of no other, is there.
fn is_made(config: &Config) -> Result<bool, DiskError> {
    match DataDir::open(&config.data_dir) {
        Ok(data_dir) => {
            data_dir.identity(&config.cluster, config.node)?;
            Ok(true)
        }
        Err(IdentityError::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A node that knows a former disk of this one. Those that do not answer cannot be asked, as
/// all of them in a new cluster.
fn remembered_by(config: &Config, incarnation: Incarnation) -> Result<Option<NodeId>, CliError> {
    let secret = config.read_secret()?;
    let tls = Tls::of(config)?.map(Arc::new);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let own = Identity {
            cluster: config.cluster.clone(),
            node: config.node,
            incarnation,
            boot: Boot { count: 0, nonce: 0 },
            rejoining: false,
        };
        let dial = Dial::new(&config.peers, tls, network::system());
        let Some(peers) = Peers::new(own, dial, &secret) else { return Ok(None) };
        let others = NodeId::ALL.into_iter().filter(|id| *id != config.node);
        let asked = others.map(async |id| {
            let view = pb::RecordsView::Basic;
            let page = peers.records(id, RecordsQuery { of: None, view, after: None }).await;
            (id, page.ok().and_then(|page| page.remembers))
        });
        let answers = join_all(asked).await;
        Ok(answers.into_iter().find_map(|(id, remembers)| remembers.map(|_| id)))
    })
}
