//! One node as the client sees it: connection, token, identity, deadlines.
//!
//! A node is connected and logged in to when it is first needed, once for all who wait for
//! it. A failure is remembered for a while, so that a dead node costs its deadline once and
//! not once per file. A token that the node forgot in a restart is renewed once; one of an
//! earlier run spares the login.

mod login;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dfs_proto::name::{ClusterName, FilePath};
use dfs_proto::placement::NodeId;
use dfs_proto::wire::network::Network;
use dfs_proto::wire::page::{self, Received};
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::status::{Reason, request_id};
use dfs_proto::wire::{CONNECTION_WINDOW_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES, pb, upload};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::bandwidth::Bandwidth;
use crate::config::Config;
use crate::error::{Cause, NodeError};
use crate::tls::{self, Tls};
use crate::trace;
pub use login::Credentials;

/// Limit for a connection, as users of the original expect.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Limit for an answer to a unary call.
pub(crate) const UNARY_LIMIT: Duration = Duration::from_secs(5);
/// Limit for the next sign of progress on a stream.
pub(crate) const PROGRESS_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two attempts to reach a node that may be restarting.
const REVIVE_PAUSE: Duration = Duration::from_millis(100);
/// How long a node that failed to connect is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a client tells while it works; shown to people, never acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A node takes no part.
    LeftOut(NodeError),
    /// A node's clock is this many milliseconds off.
    Skew(NodeId, u64),
    /// What has come of a large file is kept here; the next GET to the same place goes on.
    Kept(PathBuf),
    /// What has been sent of this file is kept by the nodes; a resumed PUT goes on.
    Staged(FilePath),
    /// A PUT of this file goes on with what an earlier one has sent.
    GoesOn(FilePath),
    /// Of this file so many bytes were here already.
    Resumed(FilePath, u64),
}

/// Takes notices; called from any task, must not block.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// A connection that has logged in.
#[derive(Clone)]
pub(crate) struct Session {
    client: DfsServiceClient<Channel>,
    channel: Channel,
    bearer: MetadataValue<Ascii>,
    number: u64,
}

impl Session {
    /// A request with the token and, for the server, the deadline.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        name(&mut request);
        request
    }

    pub(crate) fn client(&self) -> DfsServiceClient<Channel> {
        self.client.clone()
    }

    /// Sends chunks.
    pub(crate) async fn put_chunk(
        &self,
        messages: impl Stream<Item = pb::PutChunkRequest> + Send + Unpin + 'static,
    ) -> Result<pb::PutChunkResponse, Status> {
        let metadata = self.request(()).into_parts().0;
        upload::put_chunk(self.channel.clone(), metadata, messages).await
    }
}

enum State {
    Idle,
    Up(Session),
    Down { since: Instant, error: NodeError },
}

/// One of the four nodes.
pub(crate) struct Node {
    id: NodeId,
    address: String,
    cluster: ClusterName,
    tls: Option<Tls>,
    network: Arc<dyn Network>,
    credentials: Arc<Credentials>,
    notify: Notify,
    bandwidth: Option<Arc<Bandwidth>>,
    /// Counts sessions, to tell a new one from one that failed.
    sessions: AtomicU64,
    /// Held while connecting, so that all who need the node share one attempt; an attempt has
    /// a deadline, so nobody waits for ever.
    state: Mutex<State>,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        config: &Config,
        network: Arc<dyn Network>,
        credentials: Arc<Credentials>,
        notify: Notify,
    ) -> Self {
        Self {
            id,
            address: config.nodes[id.index()].clone(),
            cluster: config.cluster.clone(),
            tls: config.tls.clone(),
            network,
            credentials,
            notify,
            bandwidth: config.bandwidth.clone(),
            sessions: AtomicU64::new(0),
            state: Mutex::new(State::Idle),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn error(&self, cause: Cause) -> NodeError {
        NodeError { node: self.id, address: self.address.clone(), cause }
    }

    /// How long to wait before so many bytes of payload are moved.
    pub(crate) fn reserve(&self, bytes: u64) -> Duration {
        self.bandwidth.as_ref().map_or(Duration::ZERO, |bandwidth| bandwidth.reserve(bytes))
    }

    /// Waits until so many bytes of payload may be moved.
    pub(crate) async fn take(&self, bytes: u64) {
        let wait = self.reserve(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    /// The session, connecting and logging in if there is none.
    pub(crate) async fn session(&self) -> Result<Session, NodeError> {
        let mut state = self.state.lock().await;
        let number = match &*state {
            State::Up(session) => return Ok(session.clone()),
            State::Down { since, error } if since.elapsed() < RETRY_AFTER => {
                return Err(error.clone());
            }
            State::Idle | State::Down { .. } => self.next_number(),
        };
        self.log_in(&mut state, number).await
    }

    /// A session with a node whose connection has just broken: it is tried again and again
    /// until the limit, because a node that is restarted is soon there again.
    pub(crate) async fn revive(&self, limit: Duration) -> Result<Session, NodeError> {
        let started = Instant::now();
        loop {
            {
                let mut state = self.state.lock().await;
                if let State::Up(session) = &*state {
                    return Ok(session.clone());
                }
                let number = self.next_number();
                if started.elapsed() >= limit {
                    return self.log_in(&mut state, number).await;
                }
                match self.try_log_in(number).await {
                    Ok(session) => {
                        *state = State::Up(session.clone());
                        return Ok(session);
                    }
                    Err(Cause::Connect(_) | Cause::Broken(_)) => {}
                    Err(_) => return self.log_in(&mut state, number).await,
                }
            }
            tokio::time::sleep(REVIVE_PAUSE).await;
        }
    }

    /// A session other than `old`, which the node does not know any more.
    async fn renew(&self, old: &Session) -> Result<Session, NodeError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Up(session) if session.number != old.number => Ok(session.clone()),
            _ => {
                self.forget_token();
                self.log_in(&mut state, self.next_number()).await
            }
        }
    }

    fn next_number(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    async fn log_in(&self, state: &mut State, number: u64) -> Result<Session, NodeError> {
        match self.try_log_in(number).await {
            Ok(session) => {
                *state = State::Up(session.clone());
                Ok(session)
            }
            Err(cause) => {
                let error = self.error(cause);
                let known = matches!(&*state, State::Down { error: old, .. } if *old == error);
                if !known {
                    self.notify(Notice::LeftOut(error.clone()));
                }
                *state = State::Down { since: Instant::now(), error: error.clone() };
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Channel, Cause> {
        let wrong = |error: tonic::transport::Error| Cause::Connect(innermost(&error));
        let endpoint = match &self.tls {
            None => Endpoint::from_shared(format!("http://{}", self.address)).map_err(wrong)?,
            Some(tls) => Endpoint::from_shared(format!("https://{}", self.address))
                .and_then(|endpoint| endpoint.tls_config(config_of(tls)))
                .map_err(wrong)?,
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .max_frame_size(MAX_FRAME_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        match tokio::time::timeout(CONNECT_LIMIT, self.network.connect(endpoint)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => {
                let tls = self.tls.as_ref().and_then(|tls| tls.explain(&error, &self.address));
                Err(tls.map_or_else(|| wrong(error), Cause::Untrusted))
            }
            Err(_) => Err(Cause::Connect(format!("no answer within {CONNECT_LIMIT:?}"))),
        }
    }

    /// Why the first call on a connection failed. Whether TLS was wanted, and of whom, shows
    /// only then.
    fn first_answer(&self, cause: Cause) -> Cause {
        match (cause, &self.tls) {
            (Cause::Broken(text), Some(_)) => {
                tls::explain_text(&text).map_or(Cause::Broken(text), Cause::Untrusted)
            }
            (Cause::Broken(text), None) if looks_like_tls(&text) => Cause::Broken(format!(
                "{text}; if that node speaks TLS, give its authority as 'tls: {{ ca: … }}'"
            )),
            (cause, _) => cause,
        }
    }

    /// Runs `call` with a session; once more with a new one where the token was forgotten.
    pub(crate) async fn with_session<R, F, Fut>(&self, call: F) -> Result<R, NodeError>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Result<R, Cause>>,
    {
        let mut session = self.session().await?;
        let mut answer = call(session.clone()).await;
        if let Err(Cause::Refused { reason: Some(Reason::TokenExpired), .. }) = answer {
            session = self.renew(&session).await?;
            answer = call(session.clone()).await;
        }
        match answer {
            Ok(answer) => Ok(answer),
            Err(cause) => Err(self.failed(&session, cause).await),
        }
    }

    /// What went wrong in a session, as an error; draws conclusions from it.
    pub(crate) async fn failed(&self, session: &Session, cause: Cause) -> NodeError {
        let error = self.error(cause);
        self.note(session, &error).await;
        error
    }

    /// Draws conclusions from a failure: a node that did not answer in time is left alone for
    /// a while, a broken connection is opened anew by whoever needs it next.
    async fn note(&self, session: &Session, error: &NodeError) {
        let next = match error.cause {
            Cause::Timeout { .. } => State::Down { since: Instant::now(), error: error.clone() },
            Cause::Broken(_) | Cause::Refused { reason: Some(Reason::ShuttingDown), .. } => {
                State::Idle
            }
            _ => return,
        };
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Up(current) if current.number == session.number) {
            if matches!(next, State::Down { .. }) {
                self.notify(Notice::LeftOut(error.clone()));
            }
            *state = next;
        }
    }

    /// Asks for a page of a listing.
    pub(crate) async fn list(&self, request: &pb::ListRequest) -> Result<Received, NodeError> {
        self.with_session(|session| {
            let mut request = session.request(request.clone());
            request.set_timeout(UNARY_LIMIT);
            within(UNARY_LIMIT, "List", page::list(session.channel, request))
        })
        .await
    }

    /// Makes a unary call within its limit.
    pub(crate) async fn unary<Q, R, F, Fut>(
        &self,
        what: &'static str,
        message: Q,
        rpc: F,
    ) -> Result<R, NodeError>
    where
        Q: Clone,
        F: Fn(DfsServiceClient<Channel>, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.with_session(|session| {
            let mut request = session.request(message.clone());
            request.set_timeout(UNARY_LIMIT);
            let call = within(UNARY_LIMIT, what, rpc(session.client(), request));
            async { Ok(call.await?.into_inner()) }
        })
        .await
    }
}

/// Whether this is how it ends to speak plaintext to a node that speaks TLS: its alert is taken
/// for a frame, or it is gone before that.
fn looks_like_tls(text: &str) -> bool {
    text.contains("frame with invalid size") || text.contains("connection closed")
}

fn config_of(tls: &Tls) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
    let config = match &tls.identity {
        Some((cert, key)) => config.identity(tonic::transport::Identity::from_pem(cert, key)),
        None => config,
    };
    match &tls.server_name {
        Some(name) => config.domain_name(name),
        None => config,
    }
}

/// Names a request after the operation that it is part of.
fn name<T>(request: &mut Request<T>) {
    if let Some(name) = trace::current().and_then(|name| name.as_str().parse().ok()) {
        request.metadata_mut().insert("x-request-id", name);
    }
}

/// Waits for an answer until the limit.
pub(crate) async fn within<R>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<R, Status>>,
) -> Result<R, Cause> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(cause(&status, what, limit)),
        Err(_) => Err(Cause::Timeout { what, seconds: limit.as_secs() }),
    }
}

/// What a status means.
pub(crate) fn cause(status: &Status, what: &'static str, limit: Duration) -> Cause {
    let reason = Reason::of(status);
    match (reason, status.code()) {
        (Some(Reason::InvalidCredentials), _) => Cause::Credentials,
        (Some(Reason::NodeRejoining), _) => Cause::Rejoining,
        // A fault in the node: its log has more under this name.
        (Some(Reason::Internal), _) => {
            let id = request_id(status).unwrap_or_default();
            Cause::Refused { reason, message: format!("{} (request {id})", status.message()) }
        }
        (Some(_), _) => Cause::Refused { reason, message: status.message().to_owned() },
        (None, Code::DeadlineExceeded) => Cause::Timeout { what, seconds: limit.as_secs() },
        (None, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled) => {
            Cause::Broken(innermost(status))
        }
        // The connection broke by itself: a node's own refusals have a reason.
        (None, Code::ResourceExhausted) if std::error::Error::source(status).is_some() => {
            Cause::Broken(innermost(status))
        }
        (None, code) => {
            Cause::Refused { reason, message: format!("{code:?}: {}", status.message()) }
        }
    }
}

/// The text of the innermost cause: the one that says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
