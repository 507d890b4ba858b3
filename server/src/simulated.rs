//! A node inside another program, on a network that the program makes up: `tests/simulated` runs
//! four of them, with all that a node is but its port, its signals and its metrics.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use dfs_proto::manifest::Incarnation;
use dfs_proto::wire::network::Network;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::disk::Disk;
use crate::serve::{Parts, serve};

type Failed = Box<dyn Error + Send + Sync>;

/// Makes the disk of a node, as `dfsd init` does, without asking the others.
pub fn create(config: &Path) -> Result<(), Failed> {
    let mut incarnation = [0; 16];
    getrandom::fill(&mut incarnation)?;
    Ok(Disk::create(&Config::load(config)?, Incarnation::new(incarnation))?)
}

/// A node that has its disk open.
pub struct Node(Parts);

impl Node {
    /// Opens a node, which will call the others by this network. Blocks. Fails where its disk is
    /// still in use.
    pub fn open(config: &Path, network: Arc<dyn Network>) -> Result<Self, Failed> {
        let parts = Parts::open(Config::load(config)?, network)?;
        parts.count_start()?;
        Ok(Self(parts))
    }

    /// Serves the connections that come in until it must not go on.
    pub async fn serve<L>(
        self,
        incoming: impl Stream<Item = io::Result<(L, IpAddr)>> + Send + 'static,
    ) -> Result<(), Failed>
    where
        L: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.0.meet_others().await?;
        Ok(serve(None, incoming, self.0, CancellationToken::new()).await?)
    }
}
