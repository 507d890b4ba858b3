//! TLS of a node: its certificate and key, the authorities that it believes, and how all of
//! them are replaced while it runs.
//!
//! Only what the configuration names is believed, never the system's authorities. A connection
//! keeps what it began with; the next one has what was read last.

pub(crate) mod certificate;
pub(crate) mod issue;
pub(crate) mod web;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::config::{Config, TlsSettings};
use crate::secret::{self, SecretError};
use certificate::CertificateError;

/// What gRPC is called when a protocol is agreed on.
const HTTP2: &[u8] = b"h2";
/// Versions that are spoken.
const VERSIONS: &[&tokio_rustls::rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// A certificate that ends sooner than this is worth a warning.
pub(crate) const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why certificates are not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: there is no certificate in it (PEM)", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}: there is no private key in it (PEM)", .0.display())]
    NoKey(PathBuf),
    #[error("{}: its first certificate cannot be used: {why}", path.display())]
    Certificate { path: PathBuf, why: CertificateError },
    #[error("{}: does not fit {}: {why}", key.display(), cert.display())]
    Mismatch { key: PathBuf, cert: PathBuf, why: tokio_rustls::rustls::Error },
    #[error("{}: cannot be an authority: {why}", path.display())]
    Authority { path: PathBuf, why: String },
}

/// What the files held when they were read.
pub(crate) struct Loaded {
    /// How connections are accepted.
    pub(crate) server: Arc<ServerConfig>,
    /// What connections to other nodes are made with.
    pub(crate) pems: Pems,
    /// When the first of the certificates ends, and in which file it is.
    pub(crate) ends: (SystemTime, PathBuf),
    /// Counts what was taken, from 1.
    pub(crate) generation: u64,
}

/// The files as they are. Has no `Debug`.
pub(crate) struct Pems {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
}

/// A node's certificates, as they are now.
pub(crate) struct Tls {
    settings: TlsSettings,
    /// Under which name, or address, other nodes call this one.
    host: String,
    /// Held to copy or replace the pointer.
    current: RwLock<Arc<Loaded>>,
}

impl Tls {
    /// What a node's configuration names, if that is anything. Blocks.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let host = host(&config.peers[config.node.index()]);
        config.tls.as_ref().map(|settings| Self::load(settings, host)).transpose()
    }

    /// Reads all files. Refuses what other nodes would not accept. Blocks.
    fn load(settings: &TlsSettings, host: &str) -> Result<Self, TlsError> {
        let loaded = read(settings, host, 1)?;
        let current = RwLock::new(Arc::new(loaded));
        Ok(Self { settings: settings.clone(), host: host.to_owned(), current })
    }

    /// What new connections use.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. What cannot be used changes nothing. Blocks.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let loaded = read(&self.settings, &self.host, self.current().generation + 1)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }

    /// What tells whether a file was replaced: when each was written and how long it is. Blocks.
    pub(crate) fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsSettings { cert, key, ca, client_ca } = &self.settings;
        let files = [cert, key, ca].into_iter().chain(client_ca);
        files.map(|path| stamp(path)).collect()
    }
}

impl Loaded {
    /// How long the certificates are still good, if that is not long.
    pub(crate) fn ends_soon(&self) -> Option<String> {
        ends_soon(self.ends.0, &self.ends.1)
    }
}

/// How long a certificate is still good, if that is not long.
fn ends_soon(end: SystemTime, file: &Path) -> Option<String> {
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    (left < SOON).then(|| {
        let days = left.as_secs() / (24 * 3600);
        format!("{}: ends in {days} days; replace it", file.display())
    })
}

/// When a file was written and how long it is, if it is there.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

fn read(settings: &TlsSettings, host: &str, generation: u64) -> Result<Loaded, TlsError> {
    let TlsSettings { cert, key, ca, client_ca } = settings;
    let pems = Pems { cert: text(cert)?, key: secret::read(key)?, ca: text(ca)? };
    let chain = certificates(cert, &pems.cert)?;
    let mut roots = authorities(ca, &pems.ca)?;
    let nodes = Arc::new(roots.clone());
    let provider = provider();
    let wrong = |why| TlsError::Certificate { path: cert.clone(), why };
    certificate::check_node(&chain, &nodes, host).map_err(wrong)?;

    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(VERSIONS)
        .expect("the provider speaks both versions");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            // The nodes are each other's clients.
            let clients = authorities(path, &text(path)?)?;
            roots.extend(clients.roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|error| TlsError::Authority {
                path: path.clone(),
                why: error.to_string(),
            })?;
            certificate::check_client(&chain, &*verifier).map_err(wrong)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let private = PrivateKeyDer::from_pem_slice(pems.key.as_bytes());
    let private = private.map_err(|_| TlsError::NoKey(key.clone()))?;
    let ends = [(&chain[..1], cert), (&certificates(ca, &pems.ca)?[..], ca)];
    let ends = ends.iter().flat_map(|(all, path)| {
        all.iter().filter_map(|one| Some((certificate::end(one)?, (*path).clone())))
    });
    let ends = ends.min().unwrap_or((SystemTime::UNIX_EPOCH, cert.clone()));
    let mut server = builder
        .with_single_cert(chain, private)
        .map_err(|why| TlsError::Mismatch { key: key.clone(), cert: cert.clone(), why })?;
    server.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Loaded { server: Arc::new(server), pems, ends, generation })
}

/// The host of a `HOST:PORT`, without the brackets of IPv6.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The one set of algorithms in this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn text(path: &Path) -> Result<String, TlsError> {
    let wrong = |source| TlsError::Read { path: path.to_owned(), source };
    std::fs::read_to_string(path).map_err(wrong)
}

/// The certificates in a file, one at least.
fn certificates(path: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

fn authorities(path: &Path, pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for one in certificates(path, pem)? {
        roots.add(one).map_err(|error| TlsError::Authority {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
