//! Certificates are replaced while the node runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

use crate::tls::Tls;

/// How often their files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Takes new certificates in, when told to (SIGHUP) and when their files have changed. What
/// cannot be used is told, and what there is stays.
pub(super) async fn keep_fresh(tls: Arc<Tls>, mut hangup: Signal) {
    let stamps = async || {
        let reading = Arc::clone(&tls);
        spawn_blocking(move || reading.stamps()).await.unwrap_or_default()
    };
    let mut last = stamps().await;
    loop {
        let told = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        // Before the files are read: what changes meanwhile is seen the next time.
        let now = stamps().await;
        if told || now != last {
            reload(&tls).await;
            last = now;
        }
    }
}

async fn reload(tls: &Arc<Tls>) {
    let reading = Arc::clone(tls);
    match spawn_blocking(move || reading.reload()).await {
        Ok(Ok(())) => {
            tracing::info!("certificates were read again; new connections use them");
            warn_of_end(tls);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "new certificates cannot be used; the former ones stay");
        }
        Err(error) => tracing::error!(%error, "reading the certificates failed"),
    }
}

/// Warns when certificates end soon.
pub(super) fn warn_of_end(tls: &Tls) {
    if let Some(warning) = tls.current().ends_soon() {
        tracing::warn!("{warning}");
    }
}
