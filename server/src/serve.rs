//! A node from its configuration to its end: open all, bind, serve, drain, close.

mod calls;
pub(crate) mod certificates;
mod port;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dfs_proto::identity::Identity;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::network::Network;
use dfs_proto::wire::pb::dfs_service_server::DfsServiceServer;
use dfs_proto::wire::pb::peer_service_server::PeerServiceServer;
use dfs_proto::wire::{
    CONNECTION_WINDOW_BYTES, ERROR_DESCRIPTOR_SET, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES,
    STREAM_WINDOW_BYTES, pb,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin::{self, Admin};
use crate::audit::Audit;
use crate::auth::Auth;
use crate::auth::layer::AuthLayer;
use crate::config::{Config, ConfigError, LimitSettings};
use crate::connections::Connections;
use crate::connections::door::{self, Door, Incoming};
use crate::connections::stream::Line;
use crate::disk::{Disk, DiskError};
use crate::heal::Healer;
use crate::identity::{DataDir, Rejoin};
use crate::meter::MeterLayer;
use crate::node::{Node, NodeError};
use crate::peers::Peers;
use crate::peers::dial::Dial;
use crate::peers::hello::{self, StaleDisk};
use crate::poison::Poison;
use crate::rpc::readers::Readers;
use crate::rpc::whole::WholeLayer;
use crate::rpc::{Api, PeerApi};
use crate::tls::TlsError;
use crate::users::{Stamp, Users, UsersError};
use calls::CallsLayer;
use certificates::Certificates;
use port::Port;

/// How long running requests may take to end once the node stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long what has begun to change the disk may then still take.
const FINISH: Duration = Duration::from_secs(3);

/// How long the other side may take to say that it is still there.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that a client opened and reset before they were looked at; more end the connection.
/// A client that gives up a call resets one.
const PENDING_RESETS: usize = 20;
/// Streams that this side had to reset; more end the connection. A client that makes no
/// mistakes causes none.
const LOCAL_RESETS: usize = 128;
/// Headers of a request, in bytes: a path, a token and what a proxy may add.
const HEADER_BYTES: u32 = 8 << 10;

/// Services whose health is told, beside "" for the whole node.
const SERVICES: [&str; 3] = ["", "dfs.v1.DfsService", "dfs.v1.PeerService"];

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{0}")]
    Node(#[from] NodeError),
    #[error(
        "{file}: {key}: {address} cannot be used: {source}; stop what uses it or choose another \
         port"
    )]
    Bind { file: PathBuf, key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("{file}: the audit log cannot be opened: {source}; correct 'audit_log'")]
    AuditLog { file: PathBuf, source: std::io::Error },
    #[error("the system gives no {0}")]
    System(&'static str),
    #[error(transparent)]
    Stale(#[from] StaleDisk),
    #[error("the disk failed: {0}")]
    Poisoned(String),
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

impl ServeError {
    /// Whether the operator has to change something before another start can succeed.
    pub(crate) fn needs_operator(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Users(_)
            | Self::Tls(_)
            | Self::Disk(_)
            | Self::Bind { .. }
            | Self::AuditLog { .. }
            | Self::Stale(_) => true,
            Self::Node(_) | Self::System(_) | Self::Poisoned(_) | Self::Server(_) => false,
        }
    }
}

/// Everything a node needs before it binds its port.
pub(crate) struct Parts {
    config: Config,
    secret: String,
    certificates: Certificates,
    node: Arc<Node>,
    auth: Arc<Auth>,
    /// Of the users file as it was read.
    users_stamp: Option<Stamp>,
    poison: Poison,
    /// Holds the lock on the data directory.
    data_dir: Arc<DataDir>,
    rejoin: Option<Rejoin>,
    /// By which it reaches the other nodes.
    network: Arc<dyn Network>,
    /// Where metrics and the status page are asked for, once it is bound.
    admin: Option<TcpListener>,
}

impl Parts {
    /// Opens all parts. Blocks. Writes nothing yet that a start that fails would have to undo.
    pub(crate) fn open(config: Config, network: Arc<dyn Network>) -> Result<Self, ServeError> {
        let nonce = getrandom::u64().map_err(|_| ServeError::System("random numbers"))?;
        let secret = config.read_secret()?;
        // Before it is read: a change meanwhile is seen later.
        let users_stamp = Users::stamp(&config.users_file);
        let users = Users::load(&config.users_file)?;
        let certificates = Certificates::of(&config)?;
        let audit = Audit::open(config.audit_log.as_deref()).map_err(|source| {
            let file = config.audit_log.clone().unwrap_or_default();
            ServeError::AuditLog { file, source }
        })?;
        let Disk { data_dir, identity, index, store, poison, rejoin } = Disk::open(&config, nonce)?;
        let node = Node::new(
            identity,
            index,
            store,
            poison.clone(),
            (config.prune_grace, config.quotas.clone()),
            rejoin.is_some(),
        )?;
        Ok(Self {
            auth: Arc::new(Auth::new(users, &secret, audit)),
            users_stamp,
            config,
            secret,
            certificates,
            node,
            poison,
            data_dir: Arc::new(data_dir),
            rejoin,
            network,
            admin: None,
        })
    }

    /// Counts this start on the disk. Before the first answer: what it promises must not come from
    /// an uncounted start.
    pub(crate) fn count_start(&self) -> Result<(), ServeError> {
        Ok(self.data_dir.write_identity(&self.node.identity()).map_err(DiskError::from)?)
    }

    /// Asks those of the other nodes that are there whether this disk is the one they remember.
    pub(crate) async fn meet_others(&self) -> Result<(), StaleDisk> {
        hello::meet_first(&self.node, &self.dial(), &self.secret).await
    }

    fn dial(&self) -> Dial {
        Dial::new(&self.config.peers, self.certificates.api.clone(), Arc::clone(&self.network))
    }
}

/// Binds the port, counts this start, meets the others and serves until `stop`, or until the node
/// must not go on.
pub(crate) async fn run(mut parts: Parts, stop: CancellationToken) -> Result<(), ServeError> {
    let port = Port::bind(&parts.config, "listen", parts.config.listen)?;
    if let Some(admin) = &parts.config.admin {
        parts.admin = Some(Port::bind(&parts.config, "admin_listen", admin.listen)?.open()?);
        let bound = admin.listen;
        if !bound.ip().is_loopback() && admin.tls.is_none() {
            tracing::warn!(%bound, "'admin_insecure: true': passwords for it are not encrypted");
        }
    }
    let bound = parts.config.listen;
    parts.certificates.warn_of_end();
    if parts.config.insecure && parts.certificates.api.is_none() {
        tracing::warn!(%bound, "'insecure: true': traffic, passwords included, is not encrypted");
    }
    parts.count_start()?;
    parts.meet_others().await?;
    let listener = port.open()?;
    serve(listener.local_addr().ok(), door::tcp(listener), parts, stop).await
}

/// Serves the connections that come in until `stop`, then drains and closes the node.
pub(crate) async fn serve<L: Line>(
    address: Option<SocketAddr>,
    incoming: impl Incoming<L>,
    parts: Parts,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let dial = parts.dial();
    let Parts { config, secret, certificates, node, auth, .. } = parts;
    let Parts { users_stamp, poison, data_dir, rejoin, admin, .. } = parts;
    let Certificates { api: tls, admin: admin_tls } = certificates.clone();
    let tasks = TaskTracker::new();
    let stale = Arc::new(OnceLock::new());
    // Also set when the node stops by itself.
    let ending = stop.child_token();
    tasks.spawn(Arc::clone(&node).keep_pruning(ending.clone()));
    // Listened to in any case: without, it would end the process.
    let hangup = signal(SignalKind::hangup()).map_err(|_| ServeError::System("signals"))?;
    tasks.spawn(ending.clone().run_until_cancelled_owned(certificates.keep_fresh(hangup)));
    hello::keep_meeting(&node, &dial, &secret, &tasks, &ending, &stale);
    let users_file = config.users_file.clone();
    tasks.spawn(Arc::clone(&auth).keep_reading_users(users_file, users_stamp, ending.clone()));
    let identity = node.identity();
    let peers = Peers::new(identity.clone(), dial, &secret);
    let peers = peers.ok_or(ServeError::System("way to call the other nodes"))?;
    let restoring = rejoin.is_some().then(|| Arc::clone(&data_dir));
    let (healing, staging_ttl) = (config.healing, config.staging_ttl);
    let healer = Arc::new(Healer::new(Arc::clone(&node), peers, healing, staging_ttl, restoring));
    tasks.spawn(Arc::clone(&healer).keep_scrubbing(ending.clone()));

    let (health, health_service) = tonic_health::server::health_reporter();
    let healthy =
        if identity.rejoining { ServingStatus::NotServing } else { ServingStatus::Serving };
    set_health(&health, healthy).await;
    if let Some(address) = address {
        tracing::info!(
            node = %identity.node, cluster = %identity.cluster, boot = identity.boot.count,
            incarnation = %identity.incarnation, %address, "ready"
        );
    }
    // Set when running requests have had their time.
    let cut_off = CancellationToken::new();
    let api = Api {
        node: Arc::clone(&node),
        healer: Arc::clone(&healer),
        auth: Arc::clone(&auth),
        readers: Readers::new(config.limits.slow_reads_per_user, config.limits.slow_reads),
        put_idle: config.limits.put_idle,
        stop: cut_off.clone(),
    };
    let peer_api =
        PeerApi { node: Arc::clone(&node), healer: Arc::clone(&healer), stop: cut_off.clone() };
    if let Some(listener) = admin {
        let admin = Admin::new(&node, &healer, &auth, &poison, &ending, admin_tls);
        tasks.spawn(admin::serve(listener, admin, cut_off.clone()));
    }
    let without = rejoin.and_then(|rejoin| rejoin.without);
    let rejoined = come_back(
        Arc::clone(&data_dir),
        Arc::clone(&healer),
        without,
        poison.clone(),
        health.clone(),
    );
    let stopped = ending.clone();
    tasks.spawn(async move {
        if stopped.run_until_cancelled(rejoined).await.is_some() {
            healer.keep_healing(stopped).await;
        }
    });
    let drained = CancellationToken::new();
    let door = Door {
        tls,
        all: Connections::new(config.limits.clone()),
        handshake_time: config.limits.handshake_time,
    };
    let server = builder(&config.limits)
        .layer(MeterLayer(identity.node))
        .layer(AuthLayer(auth))
        .layer(CallsLayer)
        .layer(WholeLayer)
        .add_service(health_service)
        .add_service(reflection_v1()?)
        .add_service(reflection_v1alpha()?)
        .add_service(DfsServiceServer::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(PeerServiceServer::new(peer_api).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(
            door.open(incoming, &tasks, drained.clone()),
            drained.cancelled(),
        );
    let mut server = std::pin::pin!(server);
    let served = tokio::select! {
        result = &mut server => result,
        () = ending.cancelled() => Ok(()),
        () = poison.tripped() => Ok(()),
    };
    ending.cancel();
    // Before anything is refused: who asks first goes elsewhere.
    set_health(&health, ServingStatus::NotServing).await;
    drained.cancel();
    let outcome = match (stale.get(), poison.is_tripped()) {
        (Some(stale), _) => Err(stale.clone().into()),
        (None, true) => Err(ServeError::Poisoned(poison.reason().to_owned())),
        (None, false) => served.map_err(Into::into),
    };
    if poison.is_tripped() {
        // Nothing that still runs may be acknowledged, and nothing can be saved.
        return outcome;
    }
    tracing::info!(node = %node.position(), "stopping");
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut off");
    }
    cut_off.cancel();
    tasks.close();
    if tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await.is_err() {
        tracing::warn!("background work did not end in time");
    }
    node.close(FINISH).await;
    // It is locked to here: until nothing of it is written any more.
    drop(data_dir);
    tracing::info!(node = %node.position(), "stopped");
    outcome
}

/// Has a node with a new disk catch up, and then take part.
async fn come_back(
    data_dir: Arc<DataDir>,
    healer: Arc<Healer>,
    without: Option<NodeId>,
    poison: Poison,
    health: HealthReporter,
) {
    let node = Arc::clone(&healer.node);
    if !node.identity().rejoining {
        return;
    }
    healer.rejoin(without).await;
    let serving = Identity { rejoining: false, ..node.identity() };
    // First on the disk: a node that has served must not start to rejoin again by itself.
    let written = serving.clone();
    let written = spawn_blocking(move || data_dir.write_identity(&written)).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return poison.trip(&error),
        Err(error) => return poison.trip(&error),
    }
    node.end_rejoin();
    healer.tell_restoring();
    set_health(&health, ServingStatus::Serving).await;
    tracing::info!(node = %serving.node, "rejoined: serving, and copying its chunks");
}

fn builder(limits: &LimitSettings) -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(limits.streams)
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS))
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

macro_rules! reflection {
    ($name:ident, $build:ident, $version:ident) => {
        fn $name() -> Result<
            tonic_reflection::server::$version::ServerReflectionServer<
                impl tonic_reflection::server::$version::ServerReflection,
            >,
            ServeError,
        > {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(ERROR_DESCRIPTOR_SET)
                .$build()
                .map_err(|_| ServeError::System("reflection of its own descriptors"))
        }
    };
}

reflection!(reflection_v1, build_v1, v1);
reflection!(reflection_v1alpha, build_v1alpha, v1alpha);

#[cfg(test)]
mod tests;
