//! One certificate: until when it is good, for whom, and whether others would accept it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{CertificateError as Why, Error, RootCertStore};

/// Later than any certificate ends: the year 9999 is the last that one can name.
const AT_THE_END: Duration = Duration::from_secs(400_000_000_000);

/// Why others would not accept a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("its time is over; issue a new one")]
    Expired,
    #[error("its time has not begun; check this machine's clock")]
    NotYet,
    #[error("it is not signed by the authority in 'tls: ca'")]
    Stranger,
    #[error(
        "it is not for '{0}', where 'peers' has this node; issue one with '--host {0}' or correct \
         'peers'"
    )]
    OtherHost(String),
    #[error("'{0}' in 'peers' is no host name and no address")]
    NoHost(String),
    #[error("{0}")]
    Other(String),
}

/// Whether other nodes would accept it from the node that they call `host`.
pub(crate) fn check_node(
    chain: &[CertificateDer<'_>],
    authorities: &Arc<RootCertStore>,
    host: &str,
) -> Result<(), CertificateError> {
    let (first, rest) = chain.split_first().ok_or(CertificateError::Stranger)?;
    let name = ServerName::try_from(host);
    let name = name.map_err(|_| CertificateError::NoHost(host.to_owned()))?;
    let verifier = verifier(authorities)?;
    let checked = verifier.verify_server_cert(first, rest, &name, &[], UnixTime::now());
    checked.map(drop).map_err(|error| explain(&error, host))
}

/// Whether other nodes would accept it from one that calls them.
pub(crate) fn check_client(
    chain: &[CertificateDer<'_>],
    verifier: &dyn ClientCertVerifier,
) -> Result<(), CertificateError> {
    let (first, rest) = chain.split_first().ok_or(CertificateError::Stranger)?;
    let checked = verifier.verify_client_cert(first, rest, UnixTime::now());
    checked.map(drop).map_err(|error| explain(&error, ""))
}

/// Whether one of these authorities signed it, to call nodes with.
pub(crate) fn is_signed(
    certificate: &CertificateDer<'_>,
    authorities: &Arc<RootCertStore>,
) -> bool {
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), super::provider());
    let verifier = builder.build();
    verifier
        .is_ok_and(|verifier| check_client(std::slice::from_ref(certificate), &*verifier).is_ok())
}

/// When its time is over: the verifier is asked about a time that is too late for all. `None`
/// if it is no certificate.
pub(crate) fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let mut only = RootCertStore::empty();
    only.add(certificate.clone().into_owned()).ok()?;
    let name = ServerName::try_from("any").ok()?;
    let late = UnixTime::since_unix_epoch(AT_THE_END);
    let verifier = verifier(&only.into()).ok()?;
    match verifier.verify_server_cert(certificate, &[], &name, &[], late) {
        Err(Error::InvalidCertificate(Why::ExpiredContext { not_after, .. })) => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn verifier(
    authorities: &Arc<RootCertStore>,
) -> Result<Arc<WebPkiServerVerifier>, CertificateError> {
    WebPkiServerVerifier::builder_with_provider(Arc::clone(authorities), super::provider())
        .build()
        .map_err(|error| CertificateError::Other(error.to_string()))
}

fn explain(error: &Error, host: &str) -> CertificateError {
    let Error::InvalidCertificate(why) = error else {
        return CertificateError::Other(error.to_string());
    };
    match why {
        Why::Expired | Why::ExpiredContext { .. } => CertificateError::Expired,
        Why::NotValidYet | Why::NotValidYetContext { .. } => CertificateError::NotYet,
        Why::UnknownIssuer | Why::BadSignature => CertificateError::Stranger,
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            CertificateError::OtherHost(host.to_owned())
        }
        _ => CertificateError::Other(error.to_string()),
    }
}
