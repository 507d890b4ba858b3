//! The node's configuration file: what it says, and what the program may rely on.
//!
//! Every mistake is reported, with its file and line, what is wrong and what would be right;
//! nothing is opened or bound before a whole [`Config`] exists.

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

pub(crate) use limits::LimitSettings;
pub(crate) use tls::TlsSettings;

use crate::secret;
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
    /// Where metrics and the status page are.
    pub(crate) admin_listen: Option<SocketAddr>,
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

/// What is in a map of the file.
type Section = BTreeMap<String, Value>;

struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<String>,
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
        let admin_listen = self.optional("admin_listen", raw.admin_listen.as_ref(), socket);
        let tls = self.tls(raw.tls.as_ref());
        let insecure = self.insecure(raw.insecure.as_ref());
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
        if let Some(Some(admin)) = admin_listen
            && !admin.ip().is_loopback()
            && !insecure
        {
            let why = format!(
                "{admin} is not a loopback address, and passwords would come there unencrypted; \
                 listen on 127.0.0.1 or, in a network that you trust, add 'insecure: true'"
            );
            self.wrong("admin_listen", &why);
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
            admin_listen: admin_listen?,
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

    fn wrong(&mut self, key: &str, why: &str) {
        let file = self.file.display();
        self.mistakes.push(match line_of(self.text, key) {
            Some(line) => format!("{file}:{line}: {key}: {why}"),
            None => format!("{file}: {key}: {why}"),
        });
    }

    /// A text that has to be there and to be read by `parse`.
    fn parsed<T>(
        &mut self,
        key: &str,
        value: Option<&Value>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match value {
            None | Some(Value::Null) => Err("is missing".to_owned()),
            Some(Value::String(text)) => parse(text),
            Some(Value::Number(number)) => parse(&number.to_string()),
            Some(Value::Bool(bool)) => parse(&bool.to_string()),
            Some(_) => Err("is a text, not a list or a map".to_owned()),
        };
        parsed.map_err(|why| self.wrong(key, &why)).ok()
    }

    /// Like `parsed`, for what may be absent. The outer `None` is a mistake.
    fn optional<T>(
        &mut self,
        key: &str,
        value: Option<&Value>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match value {
            None => Some(None),
            value => self.parsed(key, value, parse).map(Some),
        }
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

    fn insecure(&mut self, value: Option<&Value>) -> bool {
        match value {
            None => false,
            Some(Value::Bool(insecure)) => *insecure,
            Some(_) => {
                self.wrong("insecure", "is true or false");
                false
            }
        }
    }

    /// The entries of a map, of which only these are known.
    fn section(&mut self, key: &str, value: &Value, known: &[&str]) -> Option<Section> {
        let Ok(entries) = serde_yaml::from_value::<Section>(value.clone()) else {
            self.wrong(key, &format!("is a map of {}", known.join(", ")));
            return None;
        };
        for unknown in entries.keys().filter(|entry| !known.contains(&entry.as_str())) {
            self.wrong(&format!("{key}.{unknown}"), "is not known; correct or remove it");
        }
        Some(entries)
    }

    fn path(&mut self, key: &str, value: Option<&Value>) -> Option<PathBuf> {
        let dir = self.file.parent().unwrap_or(Path::new("")).to_owned();
        self.parsed(key, value, |text| match text {
            "" => Err("is empty".to_owned()),
            text => Ok(dir.join(text)),
        })
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

/// The line of a top-level key, or of an entry below one (`tls.cert`), from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str, key: &str| {
        let rest = line.strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    let (top, below) = key.split_once('.').unwrap_or((key, ""));
    let line = text.lines().position(|line| is_key(line, top))?;
    let block = text.lines().skip(line + 1).take_while(|line| line.starts_with([' ', '#']));
    let inside = block.into_iter().position(|line| is_key(line.trim_start(), below));
    Some(line + 1 + inside.map_or(0, |inside| inside + 1))
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no IP:PORT, such as 127.0.0.1:10001"))
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

/// Reads a duration, or `off`.
fn or_off(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" { Ok(None) } else { duration(text).map(Some) }
}

/// Reads a number of bytes: `1000`, `64KiB`, `8MiB`, `1GiB` or `2TiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("'{text}' is no number of bytes, such as 1000, 64KiB, 8MiB, 1GiB or 2TiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Reads `500ms`, `30s`, `15m`, `2h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration, such as 500ms, 30s, 15m, 2h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests;
