//! TLS of the admin address: a certificate is shown, none is asked for. A password, or nothing,
//! is what a browser, a scraper or a probe can bring.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::server::TlsStream;

use super::{TlsError, VERSIONS, certificate, certificates, ends_soon, provider, stamp, text};
use crate::config::PairSettings;
use crate::secret;

/// What HTTP/1.1 is called when a protocol is agreed on.
const HTTP1: &[u8] = b"http/1.1";
/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The admin address's certificate, as it is now.
pub(crate) struct WebTls {
    settings: PairSettings,
    /// Held to copy or replace the pointer.
    current: RwLock<Arc<Shown>>,
}

/// What the files held when they were read.
struct Shown {
    server: Arc<ServerConfig>,
    ends: SystemTime,
}

impl WebTls {
    /// Reads both files. Blocks.
    pub(crate) fn load(settings: &PairSettings) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(read(settings)?));
        Ok(Self { settings: settings.clone(), current })
    }

    /// Reads the files again. What cannot be used changes nothing. Blocks.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let shown = read(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        Ok(())
    }

    /// What tells whether a file was replaced. Blocks.
    pub(crate) fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        [&self.settings.cert, &self.settings.key].map(|path| stamp(path)).into()
    }

    /// How long the certificate is still good, if that is not long.
    pub(crate) fn ends_soon(&self) -> Option<String> {
        ends_soon(self.current().ends, &self.settings.cert)
    }

    /// Agrees on TLS with who came; `None` if that does not come about.
    pub(crate) async fn agree(&self, tcp: TcpStream, from: IpAddr) -> Option<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current().server));
        match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "a handshake with the admin address failed");
                None
            }
            Err(_) => None,
        }
    }

    fn current(&self) -> Arc<Shown> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(settings: &PairSettings) -> Result<Shown, TlsError> {
    let PairSettings { cert, key } = settings;
    let chain = certificates(cert, &text(cert)?)?;
    let private = PrivateKeyDer::from_pem_slice(secret::read(key)?.as_bytes());
    let private = private.map_err(|_| TlsError::NoKey(key.clone()))?;
    let ends = chain.first().and_then(certificate::end).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("the provider speaks both versions")
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|why| TlsError::Mismatch { key: key.clone(), cert: cert.clone(), why })?;
    server.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Shown { server: Arc::new(server), ends })
}
