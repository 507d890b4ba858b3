//! The node's configuration file: what it says, and what the program may rely on.
//!
//! Every mistake is reported, with its file and line, what is wrong and what would be right;
//! nothing is opened or bound before a whole [`Config`] exists.

mod admin;
mod checker;
mod limits;
pub(crate) mod quota;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dfs_proto::name::ClusterName;
use dfs_proto::placement::{NodeId, PerNode};
use serde::Deserialize;
use serde_yaml::Value;

pub(crate) use admin::{AdminSettings, PairSettings};
pub(crate) use limits::LimitSettings;
pub(crate) use tls::TlsSettings;

use crate::secret;
use checker::{Checker, bytes, duration, or_off, socket};
use quota::Quotas;

/// How long the data of superseded versions is kept if the file does not say.
const DEFAULT_PRUNE_GRACE: Duration = Duration::from_secs(15 * 60);
/// How long unfinished chunks are kept.
const DEFAULT_STAGING_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest secret of a cluster, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// What the file says, before any of it is believed.
#[derive(Debug, Default, Deserialize)]
struct RawConfig {
    cluster: Option<Value>,
    node: Option<Value>,
    listen: Option<Value>,
    data_dir: Option<Value>,
    users_file: Option<Value>,
    peers: Option<Value>,
    cluster_secret_file: Option<Value>,
    admin_listen: Option<Value>,
    admin_tls: Option<Value>,
    admin_insecure: Option<Value>,
    tls: Option<Value>,
    insecure: Option<Value>,
    limits: Option<Value>,
    prune_grace: Option<Value>,
    heal_every: Option<Value>,
    heal_rate: Option<Value>,
    scrub_every: Option<Value>,
    scrub_rate: Option<Value>,
    staging_ttl: Option<Value>,
    disk_reserve: Option<Value>,
    quota: Option<Value>,
    audit_log: Option<Value>,
    /// Not `deny_unknown_fields`: that would report the first one and nothing else.
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

/// A configuration without mistakes. Paths are absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) file: PathBuf,
    pub(crate) cluster: ClusterName,
    pub(crate) node: NodeId,
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) users_file: PathBuf,
    /// `HOST:PORT` of all four nodes, in order.
    pub(crate) peers: PerNode<String>,
    pub(crate) cluster_secret_file: PathBuf,
    /// Where metrics and the status page are; `None`: nowhere.
    pub(crate) admin: Option<AdminSettings>,
    /// How connections are encrypted; `None`: not at all.
    pub(crate) tls: Option<TlsSettings>,
    /// Whether plaintext off the loopback interface was asked for.
    pub(crate) insecure: bool,
    pub(crate) limits: LimitSettings,
    pub(crate) prune_grace: Duration,
    /// How long unfinished chunks are kept for one who goes on with them, and uploads without
    /// a Commit until they count as abandoned.
    pub(crate) staging_ttl: Duration,
    /// Bytes of the disk that chunks leave free; absent: what is usual for its size.
    pub(crate) disk_reserve: Option<u64>,
    pub(crate) quotas: Quotas,
    /// Where it is written who did what; `None`: nowhere.
    pub(crate) audit_log: Option<PathBuf>,
    pub(crate) healing: HealSettings,
}

/// How a node looks after what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealSettings {
    /// Time between two passes; `None`: it does not heal by itself.
    pub(crate) every: Option<Duration>,
    /// Most bytes copied a second by a pass; 0: as fast as it goes.
    pub(crate) bytes_per_second: u64,
    /// Time from the end of a scrub to the next; `None`: no scrub.
    pub(crate) scrub_every: Option<Duration>,
    /// Most bytes that a scrub reads a second.
    pub(crate) scrub_bytes_per_second: u64,
}

impl Default for HealSettings {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(10 * 60)),
            bytes_per_second: 64 << 20,
            scrub_every: Some(Duration::from_secs(7 * 24 * 3600)),
            scrub_bytes_per_second: 8 << 20,
        }
    }
}

/// All that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ConfigError {
    pub(crate) mistakes: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))
    }
}

impl Config {
    /// Reads and checks a configuration file.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let one = |mistake| ConfigError { mistakes: vec![mistake] };
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|error| {
            one(format!("{shown}: cannot be read: {error}; 'dfsd dev' makes sample files"))
        })?;
        let raw: Option<RawConfig> = serde_yaml::from_str(&text)
            .map_err(|error| one(format!("{shown}: is no valid configuration: {error}")))?;
        let Some(raw) = raw else {
            return Err(one(format!(
                "{shown}: is empty; it has to say at least cluster, node, listen, data_dir, \
                 users_file, peers and cluster_secret_file"
            )));
        };
        let mut checker = Checker { file, text: &text, mistakes: Vec::new() };
        match checker.config(&raw) {
            Some(config) if checker.mistakes.is_empty() => Ok(config),
            _ => Err(ConfigError { mistakes: checker.mistakes }),
        }
    }

    /// Reads the secret that the nodes of the cluster share.
    pub(crate) fn read_secret(&self) -> Result<String, ConfigError> {
        let shown = self.cluster_secret_file.display();
        let wrong = |why: String| ConfigError { mistakes: vec![format!("{shown}: {why}")] };
        let text = secret::read(&self.cluster_secret_file)
            .map_err(|error| ConfigError { mistakes: vec![error.to_string()] })?;
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let visible = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if secret.len() < MIN_SECRET_BYTES || !visible {
            let text = format!(
                "a cluster secret is one line of at least {MIN_SECRET_BYTES} visible ASCII \
                 characters, the same on all four nodes"
            );
            return Err(wrong(text));
        }
        Ok(secret.to_owned())
    }
}

impl Checker<'_> {
    fn config(&mut self, raw: &RawConfig) -> Option<Config> {
        for key in raw.unknown.keys() {
            self.wrong(key, "is not known; correct or remove it");
        }
        let cluster = self.parsed("cluster", raw.cluster.as_ref(), |text| {
            ClusterName::new(text).map_err(|error| error.to_string())
        });
        let node = self.node(raw.node.as_ref());
        let listen = self.parsed("listen", raw.listen.as_ref(), socket);
        let data_dir = self.path("data_dir", raw.data_dir.as_ref());
        let users_file = self.path("users_file", raw.users_file.as_ref());
        let peers = self.peers(raw.peers.as_ref());
        let secret = self.path("cluster_secret_file", raw.cluster_secret_file.as_ref());
        let tls = self.tls(raw.tls.as_ref());
        let admin = self.admin(raw, tls.as_ref());
        let insecure = self.flag("insecure", raw.insecure.as_ref());
        let limits = self.limits(raw.limits.as_ref());
        let prune_grace = self.optional("prune_grace", raw.prune_grace.as_ref(), duration);
        let staging_ttl = self.optional("staging_ttl", raw.staging_ttl.as_ref(), duration);
        let disk_reserve = self.optional("disk_reserve", raw.disk_reserve.as_ref(), bytes);
        let quotas = self.quotas(raw.quota.as_ref());
        let audit_log = raw.audit_log.as_ref().and_then(|v| self.path("audit_log", Some(v)));
        let healing = self.healing(raw);
        if let Some(listen) = listen
            && !listen.ip().is_loopback()
            && raw.tls.is_none()
            && !insecure
        {
            let why = format!(
                "{listen} is not a loopback address and traffic is not encrypted; add 'tls' \
                 ('dfsd cert' makes certificates), listen on 127.0.0.1 or, in a network that you \
                 trust, add 'insecure: true'"
            );
            self.wrong("listen", &why);
        }
        Some(Config {
            file: self.file.to_owned(),
            cluster: cluster?,
            node: node?,
            listen: listen?,
            data_dir: data_dir?,
            users_file: users_file?,
            peers: peers?,
            cluster_secret_file: secret?,
            admin: admin?,
            tls: tls?,
            insecure,
            limits: limits?,
            prune_grace: prune_grace?.unwrap_or(DEFAULT_PRUNE_GRACE),
            staging_ttl: staging_ttl?.unwrap_or(DEFAULT_STAGING_TTL),
            disk_reserve: disk_reserve?,
            quotas,
            audit_log,
            healing: healing?,
        })
    }

    fn healing(&mut self, raw: &RawConfig) -> Option<HealSettings> {
        let usual = HealSettings::default();
        let every = self.optional("heal_every", raw.heal_every.as_ref(), or_off);
        let rate = self.optional("heal_rate", raw.heal_rate.as_ref(), bytes);
        let scrub_every = self.optional("scrub_every", raw.scrub_every.as_ref(), or_off);
        let scrub_rate = self.optional("scrub_rate", raw.scrub_rate.as_ref(), bytes);
        Some(HealSettings {
            every: every?.unwrap_or(usual.every),
            bytes_per_second: rate?.unwrap_or(usual.bytes_per_second),
            scrub_every: scrub_every?.unwrap_or(usual.scrub_every),
            scrub_bytes_per_second: scrub_rate?.unwrap_or(usual.scrub_bytes_per_second),
        })
    }

    fn node(&mut self, value: Option<&Value>) -> Option<NodeId> {
        let number = value.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let node = number.and_then(NodeId::new);
        if node.is_none() {
            let why = match value {
                None => "is missing; it is this node's position, 1, 2, 3 or 4",
                Some(_) => "is this node's position, 1, 2, 3 or 4",
            };
            self.wrong("node", why);
        }
        node
    }

    fn peers(&mut self, value: Option<&Value>) -> Option<PerNode<String>> {
        let why = "lists the HOST:PORT of all four nodes, in order, this one included";
        let texts = value.and_then(Value::as_sequence).map(|peers| {
            let texts = peers.iter().filter_map(Value::as_str).map(str::to_owned);
            texts.collect::<Vec<String>>()
        });
        let Some(peers) = texts.and_then(|texts| PerNode::try_from(texts).ok()) else {
            self.wrong("peers", why);
            return None;
        };
        let mut good = true;
        for (peer, earlier) in peers.iter().zip(0..) {
            if let Err(error) = host_and_port(peer) {
                self.wrong("peers", &format!("'{peer}' {error}"));
                good = false;
            }
            if peers.iter().take(earlier).any(|other| other == peer) {
                self.wrong("peers", &format!("'{peer}' is listed twice"));
                good = false;
            }
        }
        good.then_some(peers)
    }
}

fn host_and_port(text: &str) -> Result<(), String> {
    let wrong = || "is no HOST:PORT, such as 127.0.0.1:10001".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || text.contains('/') {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
