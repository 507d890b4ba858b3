//! Where connections come in: each gets a place, agrees on TLS and is handed to the server. None
//! of that keeps the next one waiting.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Connections;
use super::stream::{Connection, Line, Wire};
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

/// Connections as they are made, each with the address at its other end.
pub(crate) trait Incoming<L>:
    Stream<Item = io::Result<(L, IpAddr)>> + Send + 'static
{
}

impl<L, S: Stream<Item = io::Result<(L, IpAddr)>> + Send + 'static> Incoming<L> for S {}

/// Those that are made to a port.
pub(crate) fn tcp(listener: TcpListener) -> impl Incoming<TcpStream> {
    stream::unfold(listener, |listener| async move { Some((accept(&listener).await, listener)) })
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    loop {
        let (tcp, from) = listener.accept().await?;
        // With delay small answers would wait for nothing. It fails where nobody is left.
        if tcp.set_nodelay(true).is_ok() {
            return Ok((tcp, from.ip()));
        }
    }
}

/// The way in.
pub(crate) struct Door {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) all: Arc<Connections>,
    /// How long a handshake may take.
    pub(crate) handshake_time: Duration,
}

impl Door {
    /// Takes connections until `stop`; the stream has those that calls may come on.
    pub(crate) fn open<L: Line>(
        self,
        incoming: impl Incoming<L>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> ReceiverStream<io::Result<Connection<L>>> {
        let (ready, entered) = mpsc::channel(AHEAD);
        let all = Arc::clone(&self.all);
        tasks.spawn(stop.clone().run_until_cancelled_owned(keep_sweeping(all)));
        let (tracker, door) = (tasks.clone(), Arc::new(self));
        tasks.spawn(async move {
            let accepting = door.accept(incoming, &ready, &tracker, &stop);
            stop.run_until_cancelled(accepting).await;
        });
        ReceiverStream::new(entered)
    }

    async fn accept<L: Line>(
        self: &Arc<Self>,
        incoming: impl Incoming<L>,
        ready: &mpsc::Sender<io::Result<Connection<L>>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let mut told = false;
        let mut incoming = std::pin::pin!(incoming);
        while let Some(next) = incoming.next().await {
            match next {
                Ok((line, from)) => {
                    told = false;
                    let (door, ready) = (Arc::clone(self), ready.clone());
                    let entering = async move { door.enter(line, from, &ready).await };
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

    async fn enter<L: Line>(
        &self,
        line: L,
        from: IpAddr,
        ready: &mpsc::Sender<io::Result<Connection<L>>>,
    ) {
        let Some(place) = self.all.place(from).await else { return };
        let wire = Wire::new(line, place);
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
async fn agree<L: Line>(tls: &Tls, wire: Wire<L>) -> Option<Connection<L>> {
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
