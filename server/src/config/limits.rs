//! The part of the configuration that says how much others may ask of a node.

use std::time::Duration;

use serde_yaml::Value;

use super::checker::{Checker, duration};

const KNOWN: &[&str] = &[
    "connections",
    "connections_per_address",
    "handshakes",
    "streams",
    "handshake_time",
    "first_call",
    "keepalive",
    "put_idle",
    "slow_reads",
    "slow_reads_per_user",
];

/// How much others may ask of a node. Each default says for whom it is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitSettings {
    /// Connections in all. A client has one to each node: two thousand clients at once.
    pub(crate) connections: usize,
    /// Connections of one address: several hundred programs on one host, and never all places.
    pub(crate) connections_per_address: usize,
    /// TLS handshakes at a time. Each takes about a millisecond of a core; the rest of its time
    /// it waits for the other side.
    pub(crate) handshakes: usize,
    /// Calls at a time on one connection; more wait in the client. Sixty-four operations on one
    /// connection, each reading four chunks.
    pub(crate) streams: u32,
    /// How long a handshake may take. Clients give up after 1 s.
    pub(crate) handshake_time: Duration,
    /// How long a connection may stay without a call that it may make. Clients log in at once.
    pub(crate) first_call: Duration,
    /// Pause between two questions whether the other side is still there.
    pub(crate) keepalive: Duration,
    /// How long the next message of a PutChunk may take: 1 MiB at 35 kB/s.
    pub(crate) put_idle: Duration,
    /// Reads of which the client takes nothing; each keeps up to 5 MiB waiting.
    pub(crate) slow_reads: usize,
    /// The same of one user: downloads that he has paused.
    pub(crate) slow_reads_per_user: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_per_address: 512,
            handshakes: 512,
            streams: 256,
            handshake_time: Duration::from_secs(5),
            first_call: Duration::from_secs(10),
            keepalive: Duration::from_secs(20),
            put_idle: Duration::from_secs(30),
            slow_reads: 96,
            slow_reads_per_user: 32,
        }
    }
}

impl Checker<'_> {
    pub(super) fn limits(&mut self, value: Option<&Value>) -> Option<LimitSettings> {
        let usual = LimitSettings::default();
        let Some(value) = value else { return Some(usual) };
        let entries = self.section("limits", value, KNOWN)?;
        let mut time = |key: &str, usual: Duration| {
            let name = format!("limits.{key}");
            Some(self.optional(&name, entries.get(key), some_time)?.unwrap_or(usual))
        };
        let handshake_time = time("handshake_time", usual.handshake_time);
        let first_call = time("first_call", usual.first_call);
        let keepalive = time("keepalive", usual.keepalive);
        let put_idle = time("put_idle", usual.put_idle);
        let mut count = |key: &str, usual: usize| {
            let name = format!("limits.{key}");
            Some(self.optional(&name, entries.get(key), number)?.unwrap_or(usual))
        };
        let connections = count("connections", usual.connections);
        let per_address = count("connections_per_address", usual.connections_per_address);
        let handshakes = count("handshakes", usual.handshakes);
        let slow_reads = count("slow_reads", usual.slow_reads);
        let slow_reads_per_user = count("slow_reads_per_user", usual.slow_reads_per_user);
        let streams = count("streams", usual.streams.try_into().ok()?);
        Some(LimitSettings {
            connections: connections?,
            connections_per_address: per_address?,
            handshakes: handshakes?,
            streams: streams?.try_into().ok()?,
            handshake_time: handshake_time?,
            first_call: first_call?,
            keepalive: keepalive?,
            put_idle: put_idle?,
            slow_reads: slow_reads?,
            slow_reads_per_user: slow_reads_per_user?,
        })
    }
}

fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| format!("'{text}' is no number from 1 to 1000000"))
}

fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("is 0; nothing would ever be in time".to_owned()),
        time => Ok(time),
    }
}
