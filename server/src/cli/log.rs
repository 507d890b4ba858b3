//! Logs: to stderr, as text or as JSON lines.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. What is logged: `DFS_LOG`, such as `debug` or `dfs_server=debug`.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("DFS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // It would complain of a stderr that fails on that same stderr, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_target(false).with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
