//! How the other nodes are reached: where they are, and by which TLS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::wire::network::Network;
use dfs_proto::wire::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::tls::Tls;

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// For the connection with its TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// While a node copies chunks nothing comes from it: this tells whether it is still there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node cannot be called.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DialError(String);

impl From<tonic::transport::Error> for DialError {
    fn from(error: tonic::transport::Error) -> Self {
        Self(innermost(&error))
    }
}

/// The way to the nodes. Connections are made when they are needed, and kept.
#[derive(Clone)]
pub(crate) struct Dial {
    addresses: Arc<PerNode<String>>,
    tls: Option<Arc<Tls>>,
    network: Arc<dyn Network>,
    /// What was made, and with which generation of certificates. Held for access only.
    channels: Arc<Mutex<PerNode<Made>>>,
}

type Made = Option<(u64, Channel)>;

impl Dial {
    pub(crate) fn new(
        addresses: &PerNode<String>,
        tls: Option<Arc<Tls>>,
        network: Arc<dyn Network>,
    ) -> Self {
        Self { addresses: Arc::new(addresses.clone()), tls, network, channels: Arc::default() }
    }

    /// Where the nodes are.
    pub(super) fn addresses(&self) -> &PerNode<String> {
        &self.addresses
    }

    /// Where a node is.
    pub(crate) fn address(&self, node: NodeId) -> &str {
        &self.addresses[node.index()]
    }

    /// A connection of its own, made now.
    pub(crate) async fn connect(&self, node: NodeId) -> Result<Channel, DialError> {
        let (_, endpoint) = self.endpoint(node)?;
        // The endpoint's own limit is for TCP alone: a TLS handshake may never be answered.
        let connecting = tokio::time::timeout(HANDSHAKE_LIMIT, self.network.connect(endpoint));
        let unanswered = format!("no connection within {} s", HANDSHAKE_LIMIT.as_secs());
        Ok(connecting.await.map_err(|_| DialError(unanswered))??)
    }

    /// The connection that all calls share; made anew when there are other certificates.
    pub(super) fn channel(&self, node: NodeId) -> Result<Channel, DialError> {
        let generation = self.tls.as_ref().map_or(0, |tls| tls.current().generation);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut channels[node.index()];
        if let Some((made_with, channel)) = slot
            && *made_with == generation
        {
            return Ok(channel.clone());
        }
        let (generation, endpoint) = self.endpoint(node)?;
        let channel = self.network.connect_lazily(endpoint);
        *slot = Some((generation, channel.clone()));
        Ok(channel)
    }

    fn endpoint(&self, node: NodeId) -> Result<(u64, Endpoint), DialError> {
        let address = self.address(node);
        let (generation, endpoint) = match &self.tls {
            None => (0, Endpoint::from_shared(format!("http://{address}"))?),
            Some(tls) => {
                let loaded = tls.current();
                let pems = &loaded.pems;
                // The node's own certificate, for those that want one of their clients.
                let config = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(&pems.ca))
                    .identity(Identity::from_pem(&pems.cert, &pems.key));
                let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
                (loaded.generation, endpoint.tls_config(config)?)
            }
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Ok((generation, endpoint))
    }
}

/// The text of the innermost cause: the one that says something.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
