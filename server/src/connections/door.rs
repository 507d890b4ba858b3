//! Where connections come in: each gets a place, agrees on TLS and is handed to the server. None
//! of that keeps the next one waiting.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Connections;
use super::stream::{Connection, Wire};
use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;
use crate::tls::Tls;

/// Connections that the server has yet to take.
const AHEAD: usize = 64;
/// Pause when the system gives no more connections, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one that was refused may still take to read why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What of it is still read then, so that the system does not cut off the answer.
const LAST_BYTES: u64 = 64 << 10;
/// How often connections without a call are looked for, and what was turned away is told.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: u32 = 60;

/// The way in.
pub(crate) struct Door {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) all: Arc<Connections>,
    /// How long a handshake may take.
    pub(crate) handshake_time: Duration,
}

impl Door {
    /// Accepts connections until `stop`; the stream has those that calls may come on.
    pub(crate) fn open(
        self,
        listener: TcpListener,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> ReceiverStream<io::Result<Connection>> {
        let (ready, incoming) = mpsc::channel(AHEAD);
        let all = Arc::clone(&self.all);
        tasks.spawn(stop.clone().run_until_cancelled_owned(keep_sweeping(all)));
        let (tracker, door) = (tasks.clone(), Arc::new(self));
        tasks.spawn(async move {
            let accepting = door.accept(&listener, &ready, &tracker, &stop);
            stop.run_until_cancelled(accepting).await;
        });
        ReceiverStream::new(incoming)
    }

    async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        ready: &mpsc::Sender<io::Result<Connection>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let mut told = false;
        loop {
            match listener.accept().await {
                Ok((tcp, from)) => {
                    told = false;
                    let (door, ready) = (Arc::clone(self), ready.clone());
                    let entering = async move { door.enter(tcp, from.ip(), &ready).await };
                    tasks.spawn(stop.clone().run_until_cancelled_owned(entering));
                }
                Err(error) => {
                    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
                    if gone.contains(&error.kind()) {
                        continue;
                    }
                    if !told {
                        tracing::warn!(%error, "no more connections are accepted for now");
                        told = true;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn enter(
        &self,
        tcp: TcpStream,
        from: IpAddr,
        ready: &mpsc::Sender<io::Result<Connection>>,
    ) {
        let Some(place) = self.all.place(from).await else { return };
        // Without it small answers wait for nothing.
        if tcp.set_nodelay(true).is_err() {
            return;
        }
        let wire = Wire::new(tcp, place);
        let connection = match &self.tls {
            None => Connection::plain(wire),
            Some(tls) => match timeout(self.handshake_time, agree(tls, wire)).await {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(_) => return limit_hit(Limit::Handshakes),
            },
        };
        // A server that is gone needs no more connections.
        let _ = ready.send(Ok(connection)).await;
    }
}

/// Agrees on TLS. Who does not get through is told why.
async fn agree(tls: &Tls, wire: Wire) -> Option<Connection> {
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.current().server));
    match acceptor.accept(wire).into_fallible().await {
        Ok(stream) => Some(Connection::tls(stream)),
        Err((error, mut wire)) => {
            tracing::debug!(%error, "a handshake failed");
            let farewell = async {
                wire.shutdown().await?;
                tokio::io::copy(&mut wire.take(LAST_BYTES), &mut tokio::io::sink()).await
            };
            // It may be gone already.
            let _ = timeout(LAST_WORDS, farewell).await;
            None
        }
    }
}

/// Closes connections that ask for nothing, and tells what was turned away.
async fn keep_sweeping(all: Arc<Connections>) {
    let mut ticks = interval(SWEEP_EVERY);
    let (mut told, mut quiet) = (all.turned_away(), TELL_EVERY);
    loop {
        ticks.tick().await;
        all.sweep();
        quiet += 1;
        let now = all.turned_away();
        if now != told && quiet >= TELL_EVERY {
            tracing::warn!(
                displaced = now.0 - told.0,
                refused = now.1 - told.1,
                "connections at their limit; 'limits: connections' and 'connections_per_address' \
                 set it"
            );
            (told, quiet) = (now, 0);
        }
    }
}
