//! The part of the configuration that is about TLS.

use std::path::PathBuf;

use serde_yaml::Value;

use super::checker::Checker;

const KNOWN: &[&str] = &["cert", "key", "ca", "client_ca"];

/// Where a node's certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// The node's certificate, with what is between it and its authority.
    pub(crate) cert: PathBuf,
    /// The key of that certificate.
    pub(crate) key: PathBuf,
    /// The authority of all nodes' certificates.
    pub(crate) ca: PathBuf,
    /// The authority of clients' certificates; `None`: clients need none.
    pub(crate) client_ca: Option<PathBuf>,
}

impl Checker<'_> {
    /// The outer `None` is a mistake.
    pub(super) fn tls(&mut self, value: Option<&Value>) -> Option<Option<TlsSettings>> {
        let Some(value) = value else { return Some(None) };
        let entries = self.section("tls", value, KNOWN)?;
        let cert = self.path("tls.cert", entries.get("cert"));
        let key = self.path("tls.key", entries.get("key"));
        let client_ca = self.optional_path("tls.client_ca", entries.get("client_ca"));
        let ca = self.optional_path("tls.ca", entries.get("ca"));
        let (client_ca, ca) = (client_ca?, ca?);
        let Some(ca) = ca.or_else(|| client_ca.clone()) else {
            self.wrong("tls.ca", "is missing; it names the authority of the nodes' certificates");
            return None;
        };
        Some(Some(TlsSettings { cert: cert?, key: key?, ca, client_ca }))
    }

    fn optional_path(&mut self, key: &str, value: Option<&Value>) -> Option<Option<PathBuf>> {
        match value {
            None => Some(None),
            value => self.path(key, value).map(Some),
        }
    }
}

/// For the tests of others: an entry as the file would have it.
#[cfg(test)]
impl TlsSettings {
    pub(crate) fn in_dir(dir: &std::path::Path, client_ca: bool) -> Self {
        let file = |name: &str| dir.join(name);
        let client_ca = client_ca.then(|| file("ca.pem"));
        Self { cert: file("node.pem"), key: file("node.key"), ca: file("ca.pem"), client_ca }
    }
}
