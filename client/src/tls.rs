//! TLS as the client speaks it: which authority it believes, with what it shows who it is, and
//! what a failed handshake means. The system's authorities are never believed.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError};
use serde::Deserialize;

use crate::origin::{Given, Origin};

/// What a file says about TLS.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

impl RawTls {
    /// With whole paths, and where they are from.
    pub(crate) fn beside(self, directory: &Path, origin: &Origin) -> GivenTls {
        let file = |path: Option<PathBuf>| {
            path.map(|path| Given::new(directory.join(path), origin.clone()))
        };
        GivenTls {
            wanted: Some(origin.clone()),
            ca: file(self.ca),
            cert: file(self.cert),
            key: file(self.key),
            server_name: self.server_name.map(|name| Given::new(name, origin.clone())),
        }
    }
}

/// What is said about TLS, from wherever.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenTls {
    /// Who wants it, even if nothing more is said.
    pub(crate) wanted: Option<Origin>,
    pub(crate) ca: Option<Given<PathBuf>>,
    pub(crate) cert: Option<Given<PathBuf>>,
    pub(crate) key: Option<Given<PathBuf>>,
    pub(crate) server_name: Option<Given<String>>,
}

/// How nodes are known, and how the client makes itself known to them.
#[derive(Clone)]
pub struct Tls {
    pub(crate) ca_file: PathBuf,
    pub(crate) ca: String,
    /// Certificate and key, for nodes that want one of their clients.
    pub(crate) identity: Option<(String, String)>,
    /// The name in all nodes' certificates, if it is not the one in their addresses.
    pub(crate) server_name: Option<String>,
}

impl fmt::Debug for Tls {
    /// The key is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files that are named; `None` where TLS is not wanted. Names every mistake.
    pub(crate) fn read(given: GivenTls) -> Result<Option<Self>, Vec<String>> {
        let GivenTls { wanted, ca, cert, key, server_name } = given;
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let mut mistakes = Vec::new();
        if ca.is_none() {
            mistakes.push(format!("{wanted}: tls: ca: missing; name the authority's certificate"));
        }
        let mut read = |key: &str, file: Given<PathBuf>, holds: fn(&str) -> bool, what: &str| {
            let text = std::fs::read_to_string(&file.value).map_err(|error| error.to_string());
            let text = text.and_then(|text| match holds(&text) {
                true => Ok(text),
                false => Err(format!("there is no {what} in it (PEM)")),
            });
            let (origin, file) = (&file.origin, file.value.display());
            let note = |why| mistakes.push(format!("{origin}: tls: {key}: {file}: {why}"));
            text.map_err(note).unwrap_or_default()
        };
        let ca_file = ca.as_ref().map(|ca| ca.value.clone()).unwrap_or_default();
        let ca = ca.map(|file| read("ca", file, has_certificate, "certificate"));
        let cert = cert.map(|file| read("cert", file, has_certificate, "certificate"));
        let key = key.map(|file| read("key", file, has_key, "private key"));
        if cert.is_some() != key.is_some() {
            let text = "cert and key belong together; give both or none";
            mistakes.push(format!("{wanted}: tls: {text}"));
        }
        if let Some(Given { value, origin }) = &server_name
            && ServerName::try_from(value.as_str()).is_err()
        {
            let text = format!("server_name: '{value}' is no host name and no address");
            mistakes.push(format!("{origin}: tls: {text}"));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Some(Self {
            ca_file,
            ca: ca.unwrap_or_default(),
            identity: cert.zip(key),
            server_name: server_name.map(|name| name.value),
        }))
    }

    /// What a failed handshake with a node at this address means; `None`: it did not fail for
    /// what was shown.
    pub(crate) fn explain(&self, error: &(dyn Error + 'static), address: &str) -> Option<String> {
        let ca = self.ca_file.display();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = self.server_name.as_deref().unwrap_or(host);
        Some(match find(error)? {
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                    "its certificate is not signed by the authority in {ca}: a node of another \
                     cluster, or somebody in between; if it is neither, correct 'tls: ca'"
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the time of its certificate is over; give that node a new one ('dfsd cert \
                     issue'), or set this machine's clock right"
                        .to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "the time of its certificate has not begun; set the clocks of this machine \
                     and of that node right"
                        .to_owned()
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => format!(
                    "its certificate is not for '{host}'; correct the address in 'nodes', or \
                     give the name in the certificate as 'tls: server_name'"
                ),
                _ => format!("its certificate cannot be accepted: {why}"),
            },
            rustls::Error::InvalidMessage(_) => {
                "it does not speak TLS; give that node 'tls', or remove 'tls' here".to_owned()
            }
            rustls::Error::AlertReceived(alert) => refusal(*alert),
            other => other.to_string(),
        })
    }
}

/// What a node's refusal means that came when the client thought to have been accepted: the text
/// is all that is left of it then.
pub(crate) fn explain_text(text: &str) -> Option<String> {
    let alerts = [
        AlertDescription::CertificateRequired,
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::DecryptError,
        AlertDescription::AccessDenied,
    ];
    let named =
        |alert: &AlertDescription| text.contains(&rustls::Error::AlertReceived(*alert).to_string());
    alerts.into_iter().find(named).map(refusal)
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate of its clients; give one as 'tls: cert' and 'key' ('dfsd cert \
             issue --client' makes one)"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it refuses this client's certificate: its time is over; get a new one".to_owned()
        }
        alert => format!(
            "it refuses this client's certificate ({alert:?}); 'tls: cert' must be signed by the \
             authority in that node's 'tls: client_ca'"
        ),
    }
}

/// The reason that TLS gives, somewhere below.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inside = inside.and_then(|inside| inside.downcast_ref());
        if let Some(found) = error.downcast_ref().or(inside) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn has_certificate(text: &str) -> bool {
    let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
    found.next().is_some_and(|first| first.is_ok())
}

fn has_key(text: &str) -> bool {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).is_ok()
}
