//! The simulated network, as nodes and clients connect by it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use dfs_proto::wire::network::{Connecting, Network};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::util::service_fn;
use turmoil::net::{TcpListener, TcpStream};

/// Where every node listens.
pub(crate) const PORT: u16 = 7400;

/// Connects hosts of the simulation that it is called in.
pub(crate) struct Simulated;

impl Network for Simulated {
    fn connect(&self, to: Endpoint) -> Connecting {
        Box::pin(async move { to.connect_with_connector(service_fn(dial)).await })
    }

    fn connect_lazily(&self, to: Endpoint) -> Channel {
        to.connect_with_connector_lazy(service_fn(dial))
    }
}

fn dial(uri: Uri) -> BoxFuture<'static, io::Result<TokioIo<TcpStream>>> {
    Box::pin(async move {
        let to = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(TokioIo::new(TcpStream::connect(to.as_str()).await?))
    })
}

/// What comes in on the host that this is called on.
pub(crate) async fn incoming()
-> io::Result<impl Stream<Item = io::Result<(TcpStream, IpAddr)>> + Send + 'static> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    Ok(unfold(listener, |listener| async move {
        let next = listener.accept().await.map(|(stream, from)| (stream, from.ip()));
        Some((next, listener))
    }))
}
