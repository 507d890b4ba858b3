//! Logs: to stderr, as text or as JSON lines.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::telemetry::recent::RecentLayer;

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
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        // It would complain of a stderr that fails on that same stderr, and panic.
        .log_internal_errors(false);
    let logs: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => logs.with_target(false).with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        // Sees every warning, whatever is logged.
        .with(RecentLayer.with_filter(LevelFilter::WARN));
    #[cfg(feature = "otlp")]
    let registry = registry.with(crate::telemetry::traces::layer().and_then(|layer| {
        layer.inspect_err(|error| super::tell(format_args!("dfsd: {error}"))).ok()
    }));
    registry.init();
}
