//! Making certificates: an authority of a cluster's own, and what it signs for nodes and
//! clients. For those who have none yet.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::hex;

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(3600);

/// A new certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// The day on which it ends.
    pub(crate) last_day: String,
}

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Called by clients and nodes, and calls nodes itself.
    Node,
    /// Calls nodes.
    Client,
}

/// Makes an authority that is good for so long.
pub(crate) fn authority(life: Duration) -> Result<Issued, Error> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(&key);
    begin_and_end(&mut params, life);
    let cert = params.self_signed(&key)?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem(), last_day: last_day(&params) })
}

/// Makes a certificate for somebody, under the names and addresses by which he is called.
pub(crate) fn certificate(
    authority_key: &str,
    holder: Holder,
    name: &str,
    hosts: &[String],
    life: Duration,
) -> Result<Issued, Error> {
    let authority_key = KeyPair::from_pem(authority_key)?;
    let issuer = Issuer::new(authority_params(&authority_key), authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match holder {
        Holder::Node => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Holder::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    begin_and_end(&mut params, life);
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem(), last_day: last_day(&params) })
}

/// What follows from an authority's key: its name is told by its key, so that the key is enough
/// to sign with.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let short = Sha256::digest(key.der_bytes());
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    let name = format!("dfs authority {}", hex::encode(&short[..4]));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn begin_and_end(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
}

fn last_day(params: &CertificateParams) -> String {
    params.not_after.date().to_string()
}

/// Whether an authority's certificate goes with the key that signed this one.
pub(crate) fn is_signed_by(issued: &Issued, authority: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let one = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let (Some(authority), Some(issued)) = (one(authority), one(&issued.cert)) else {
        return false;
    };
    let added = roots.add(authority).is_ok();
    added && super::certificate::is_signed(&issued, &roots.into())
}
