//! The admin address: metrics, the status page and probes, over HTTP/1.1, with or without TLS.
//!
//! It only tells, it changes nothing: GET and HEAD, small heads, few connections, each with a
//! deadline. [`door`] says who may ask, [`answer`] makes answers that a browser takes no
//! liberties with, [`look`] looks up how this node is and what it knows of the others, [`view`] draws
//! the conclusions, and [`page`] shows them.

mod answer;
mod door;
mod look;
mod page;
mod view;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::heal::Healer;
use crate::node::Node;
use crate::poison::Poison;
use crate::telemetry::labels::{AuthFailure, Limit};
use crate::telemetry::{self, auth_failed, limit_hit};
use crate::tls::web::WebTls;
use answer::{Answer, Kind};
use door::{Door, Refusal};
use look::Lookout;

/// Connections at a time: a few scrapers, probes and people.
const CONNECTIONS: usize = 64;
/// Time for a request's head to come.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Time for everything on one connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);
/// Largest head of a request, in bytes; the least that hyper takes.
const HEAD_BYTES: usize = 8192;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Pause after the system gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin address tells of.
pub(crate) struct Admin {
    lookout: Lookout,
    auth: Arc<Auth>,
    tls: Option<Arc<WebTls>>,
}

impl Admin {
    /// `ending` is cancelled when the node begins to stop.
    pub(crate) fn new(
        node: &Arc<Node>,
        healer: &Arc<Healer>,
        auth: &Arc<Auth>,
        poison: &Poison,
        ending: &CancellationToken,
        tls: Option<Arc<WebTls>>,
    ) -> Self {
        let (node, healer) = (Arc::clone(node), Arc::clone(healer));
        let lookout = Lookout::new(node, healer, poison.clone(), ending.clone());
        Self { lookout, auth: Arc::clone(auth), tls }
    }
}

/// An admin address that answers.
struct Desk {
    lookout: Lookout,
    door: Door,
}

/// Answers on a bound address until `stop`.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let Ok(address) = listener.local_addr() else { return };
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    tracing::info!(%address, scheme, "metrics and status page");
    let door = Door::new(address.ip().is_loopback(), admin.auth);
    let desk = Arc::new(Desk { lookout: admin.lookout, door });
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else {
            limit_hit(Limit::AdminConnections);
            continue;
        };
        let (desk, tls, stop) = (Arc::clone(&desk), admin.tls.clone(), stop.clone());
        connections.spawn(async move {
            let _turn = turn;
            let from = from.ip();
            let talk = async {
                match tls {
                    None => talk(desk, stream, from).await,
                    Some(tls) => {
                        if let Some(stream) = tls.agree(stream, from).await {
                            talk(desk, stream, from).await;
                        }
                    }
                }
            };
            let talk = tokio::time::timeout(CONNECTION_LIMIT, talk);
            // What goes wrong with one connection concerns nobody else.
            let _ = stop.run_until_cancelled(talk).await;
        });
    }
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection.
async fn talk<S>(desk: Arc<Desk>, stream: S, from: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request, from).await.into_http()) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), answering);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

impl Desk {
    async fn answer<B>(&self, request: &Request<B>, from: IpAddr) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Answer::wrong_method();
        }
        // Probes say one word, and have no way to carry a password.
        match request.uri().path() {
            "/healthz" => return Answer::text(200, "ok\n"),
            "/readyz" => return self.readyz(),
            _ => {}
        }
        if let Err(refusal) = self.door.admit(request.headers(), from).await {
            auth_failed(AuthFailure::Admin);
            tracing::debug!(%from, %refusal, "an admin request was refused");
            return match refusal {
                Refusal::Credentials => Answer::wants_password(),
                Refusal::Busy => Answer::text(503, "too many logins wait; try again\n"),
                Refusal::Host | Refusal::CrossSite => Answer::text(403, format!("{refusal}\n")),
            };
        }
        match request.uri().path() {
            "/metrics" => {
                let state = self.lookout.state().await;
                Answer::new(200, Kind::Metrics, telemetry::render(&state))
            }
            "/" => Answer::new(200, Kind::Html, page::page(&*self.lookout.status().await)),
            "/status.json" => match serde_json::to_string_pretty(&*self.lookout.status().await) {
                Ok(json) => Answer::new(200, Kind::Json, json),
                Err(error) => Answer::text(500, format!("{error}\n")),
            },
            _ => Answer::text(404, "there are /, /status.json, /metrics, /healthz and /readyz\n"),
        }
    }

    fn readyz(&self) -> Answer {
        match self.lookout.unready() {
            None => Answer::text(200, "ready\n"),
            Some(why) => Answer::text(503, format!("not ready: {why}\n")),
        }
    }
}
