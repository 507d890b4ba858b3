//! What carries the connections to nodes: the network of the system, or what stands for it, as a
//! simulated one does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tonic::transport::{Channel, Endpoint, Error};

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send>>;

/// Makes connections. The endpoint says where to, within which time and by which TLS.
pub trait Network: Send + Sync {
    /// Connects now.
    fn connect(&self, to: Endpoint) -> Connecting;

    /// Connects when the first call is made, and again where the connection broke.
    fn connect_lazily(&self, to: Endpoint) -> Channel;
}

/// The network of the system.
pub fn system() -> Arc<dyn Network> {
    Arc::new(Tcp)
}

struct Tcp;

impl Network for Tcp {
    fn connect(&self, to: Endpoint) -> Connecting {
        Box::pin(async move { to.connect().await })
    }

    fn connect_lazily(&self, to: Endpoint) -> Channel {
        to.connect_lazy()
    }
}
