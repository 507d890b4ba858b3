//! status

use std::fmt::Write;

use dfs_proto::placement::{NodeId, PerNode};
use serde_json::{Value, json};

use super::Context;
use super::args::Output;
use super::exit::Exit;
use super::style::{Role, Style};
use super::talk::say;
use crate::{Limited, NodeError, NodeInfo, Usage};

/// Reads and writes need this many nodes.
const ENOUGH: usize = 3;

pub(super) async fn run(context: &Context) -> Exit {
    let infos = tokio::select! {
        infos = context.client.node_info() => infos,
        () = context.cancel.cancelled() => return Exit::Interrupted,
    };
    let said = match context.settings.output {
        Output::Json => say(&format!("{}\n", status_json(&infos))),
        Output::Text => say(&status_text(&infos, context.style)),
    };
    if said != Exit::Ok {
        return said;
    }
    let serving = infos.iter().flatten().filter(|info| !info.identity.rejoining).count();
    if serving >= ENOUGH { Exit::Ok } else { Exit::Nodes }
}

/// For people.
fn status_text(infos: &PerNode<Result<NodeInfo, NodeError>>, style: Style) -> String {
    let mut text = String::new();
    for (id, info) in NodeId::ALL.into_iter().zip(infos) {
        let line = match info {
            Ok(info) => {
                let status = if info.identity.rejoining {
                    style.paint(Role::Warning, "rejoining")
                } else {
                    style.paint(Role::Good, "serving")
                };
                format!(
                    "node {id}  {status:<9}  version {}  up {} s  free {} of {}  pending {}  life {}",
                    info.version,
                    info.uptime_seconds,
                    gib(info.disk_free_bytes),
                    gib(info.disk_total_bytes),
                    info.pending_uploads,
                    &info.identity.incarnation.to_string()[..8],
                )
            }
            Err(error) => {
                let down = style.paint(Role::Bad, "down");
                format!("node {id}  {down:<9}  {}: {}", error.address, error.cause)
            }
        };
        writeln!(text, "{line}").expect("a string takes all text");
        if let Ok(info) = info {
            let mut more = |line: String| {
                writeln!(text, "        {line}").expect("a string takes all text");
            };
            if !info.rejoin.is_empty() {
                more(format!("rejoin: {}", info.rejoin));
            }
            if info.backlog > 0 {
                more(format!("files that need healing: {}", info.backlog));
            }
            if info.bad_chunks > 0 {
                more(format!("bad chunks found: {}", info.bad_chunks));
            }
            if let Some(quota) = quota_text(&info.usage) {
                more(quota);
            }
        }
    }
    text
}

fn limited(figure: Limited) -> Value {
    json!({ "used": figure.used, "allowed": figure.allowed })
}

/// What of a quota is used, where there is one.
fn quota_text(usage: &Usage) -> Option<String> {
    let bytes = |shown: u64| format!("{shown} bytes");
    let limits = [
        (usage.bytes, bytes as fn(u64) -> String, "used"),
        (usage.files, |shown| format!("{shown} files"), "used"),
        (usage.staged_bytes, bytes, "staged"),
    ];
    let each = limits.into_iter().filter_map(|(limited, shown, what)| {
        let allowed = shown(limited.allowed?);
        Some(format!("{} of {allowed} {what}", limited.used))
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| format!("quota: {}", each.join(", ")))
}

fn gib(bytes: u64) -> String {
    const TENTH: u64 = (1 << 30) / 10;
    format!("{}.{} GiB", bytes / TENTH / 10, bytes / TENTH % 10)
}

/// As JSON: an array of four.
fn status_json(infos: &PerNode<Result<NodeInfo, NodeError>>) -> Value {
    let node = |(id, info): (NodeId, &Result<NodeInfo, NodeError>)| match info {
        Ok(info) => json!({
            "node": id.get(),
            "status": if info.identity.rejoining { "rejoining" } else { "serving" },
            "cluster": info.identity.cluster.as_str(),
            "incarnation": info.identity.incarnation.to_string(),
            "boot": info.identity.boot.count,
            "version": info.version,
            "uptime_seconds": info.uptime_seconds,
            "disk_total_bytes": info.disk_total_bytes,
            "disk_free_bytes": info.disk_free_bytes,
            "clock_ms": info.clock_ms,
            "pending_uploads": info.pending_uploads,
            "usage": {
                "bytes": limited(info.usage.bytes),
                "files": limited(info.usage.files),
                "staged_bytes": limited(info.usage.staged_bytes),
            },
            "rejoin": info.rejoin,
            "heals": info.heals,
            "backlog": info.backlog,
            "healed_paths": info.healed_paths,
            "copied_bytes": info.copied_bytes,
            "bad_chunks": info.bad_chunks,
            "last_scrub_ms": info.last_scrub_ms,
        }),
        Err(error) => json!({
            "node": id.get(),
            "status": "down",
            "error": error.to_string(),
        }),
    };
    NodeId::ALL.into_iter().zip(infos).map(node).collect()
}
