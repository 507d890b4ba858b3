//! A port of the configuration: taken first, opened when there is somebody to answer.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpSocket};

use super::ServeError;
use crate::config::Config;

/// Connections that the system keeps until they are let in.
const WAITING_CONNECTIONS: u32 = 1024;

/// A port that is taken and lets nobody in yet.
pub(super) struct Port {
    socket: TcpSocket,
    file: PathBuf,
    key: &'static str,
    address: SocketAddr,
}

impl Port {
    /// Takes the port that `key` of the configuration names.
    pub(super) fn bind(
        config: &Config,
        key: &'static str,
        address: SocketAddr,
    ) -> Result<Self, ServeError> {
        let file = config.file.clone();
        match bound(address) {
            Ok(socket) => Ok(Self { socket, file, key, address }),
            Err(source) => Err(ServeError::Bind { file, key, address, source }),
        }
    }

    /// Lets connections in from now on.
    pub(super) fn open(self) -> Result<TcpListener, ServeError> {
        let Self { socket, file, key, address } = self;
        let failed = |source| ServeError::Bind { file, key, address, source };
        socket.listen(WAITING_CONNECTIONS).map_err(failed)
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former run may still linger there.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
