//! Certificates are replaced while the node runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::tls::web::WebTls;
use crate::tls::{Tls, TlsError};

/// How often their files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A node's certificates: those of the API and that of the admin address.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) api: Option<Arc<Tls>>,
    pub(crate) admin: Option<Arc<WebTls>>,
}

impl Certificates {
    /// What a node's configuration names, if that is anything. Blocks.
    pub(crate) fn of(config: &Config) -> Result<Self, TlsError> {
        let admin = config.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        Ok(Self {
            api: Tls::of(config)?.map(Arc::new),
            admin: admin.map(WebTls::load).transpose()?.map(Arc::new),
        })
    }

    /// What is to be said of those that end soon.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let api = self.api.as_ref().and_then(|tls| tls.current().ends_soon());
        let admin = self.admin.as_ref().and_then(|tls| tls.ends_soon());
        // Both may show the same one.
        let admin = admin.filter(|warning| Some(warning) != api.as_ref());
        api.into_iter().chain(admin)
    }

    /// Takes new ones in, when told to (SIGHUP) and when their files have changed. What cannot be
    /// used is told, and what there is stays.
    pub(super) async fn keep_fresh(self, mut hangup: Signal) {
        let mut last = self.stamps().await;
        loop {
            let told = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            // Before the files are read: what changes meanwhile is seen the next time.
            let now = self.stamps().await;
            if told || now != last {
                self.reload().await;
                last = now;
            }
        }
    }

    async fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let Self { api, admin } = self.clone();
        let reading = spawn_blocking(move || {
            let mut stamps = api.map(|tls| tls.stamps()).unwrap_or_default();
            stamps.extend(admin.map(|tls| tls.stamps()).unwrap_or_default());
            stamps
        });
        reading.await.unwrap_or_default()
    }

    async fn reload(&self) {
        let Self { api, admin } = self.clone();
        if api.is_none() && admin.is_none() {
            return;
        }
        let reading = spawn_blocking(move || {
            let api = api.map_or(Ok(()), |tls| tls.reload());
            // Whatever becomes of the others.
            let admin = admin.map_or(Ok(()), |tls| tls.reload());
            api.and(admin)
        });
        match reading.await {
            Ok(Ok(())) => {
                tracing::info!("certificates were read again; new connections use them");
                self.warn_of_end();
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "new certificates cannot be used; the former ones stay");
            }
            Err(error) => tracing::error!(%error, "reading the certificates failed"),
        }
    }

    /// Warns when certificates end soon.
    pub(super) fn warn_of_end(&self) {
        self.warnings().for_each(|warning| tracing::warn!("{warning}"));
    }
}
