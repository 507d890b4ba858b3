//! The part of the configuration that is about the admin address.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_yaml::Value;

use super::checker::{Checker, socket};
use super::{RawConfig, TlsSettings};

/// Where metrics and the status page are, and whether they are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminSettings {
    pub(crate) listen: SocketAddr,
    /// `None`: plaintext.
    pub(crate) tls: Option<PairSettings>,
}

/// A certificate, with what is between it and its authority, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairSettings {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Checker<'_> {
    /// `tls` is what the file says of the API's; `None` where that is a mistake. The outer `None`
    /// is a mistake.
    pub(super) fn admin(
        &mut self,
        raw: &RawConfig,
        tls: Option<&Option<TlsSettings>>,
    ) -> Option<Option<AdminSettings>> {
        let listen = self.optional("admin_listen", raw.admin_listen.as_ref(), socket);
        let own = self.pair(raw.admin_tls.as_ref());
        let insecure = self.flag("admin_insecure", raw.admin_insecure.as_ref());
        if insecure && raw.admin_tls.is_some() {
            self.wrong("admin_insecure", "contradicts 'admin_tls'; remove one of them");
        }
        let Some(listen) = listen? else { return Some(None) };
        let of_api = tls?.as_ref();
        let of_api =
            of_api.map(|tls| PairSettings { cert: tls.cert.clone(), key: tls.key.clone() });
        let tls = match own? {
            Some(own) => Some(own),
            None if insecure || listen.ip().is_loopback() => None,
            None if of_api.is_some() => of_api,
            None => {
                let why = format!(
                    "{listen} is not a loopback address, and passwords would come there \
                     unencrypted; add 'tls' or 'admin_tls', listen on 127.0.0.1 or, in a network \
                     that you trust, add 'admin_insecure: true'"
                );
                self.wrong("admin_listen", &why);
                return None;
            }
        };
        Some(Some(AdminSettings { listen, tls }))
    }

    fn pair(&mut self, value: Option<&Value>) -> Option<Option<PairSettings>> {
        let Some(value) = value else { return Some(None) };
        let entries = self.section("admin_tls", value, &["cert", "key"])?;
        let cert = self.path("admin_tls.cert", entries.get("cert"));
        let key = self.path("admin_tls.key", entries.get("key"));
        Some(Some(PairSettings { cert: cert?, key: key? }))
    }
}
