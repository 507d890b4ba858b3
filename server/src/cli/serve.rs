//! `dfsd serve`: signals, the runtime, and a node in it.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dfs_proto::wire::network;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use super::log::{self, LogFormat};
use crate::config::Config;
use crate::serve::{Parts, ServeError, run};

/// Exit code of a process that was told twice to stop.
const KILLED: i32 = 130;

#[derive(Args)]
pub(super) struct ServeArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines look. What is logged: DFS_LOG, such as `debug`.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Stop when stdin ends: a node must not outlive the `dfsd dev` that started it.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

pub(super) fn serve(args: &ServeArgs) -> Result<(), CliError> {
    log::start(args.log_format);
    let config = Config::load(&args.config)?;
    raise_file_limit();
    let parts = Parts::open(config, network::system())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(network_threads())
        .enable_all()
        .build()
        .map_err(|_| ServeError::System("threads"))?;
    let stop = CancellationToken::new();
    if args.stop_with_stdin {
        stop_with_stdin(stop.clone());
    }
    let outcome = runtime.block_on(async {
        let signals = Signals::listen().map_err(|_| ServeError::System("signals"))?;
        tokio::spawn(signals.stop_twice(stop.clone()));
        run(parts, stop).await
    });
    // Requests that did not end in time may still block a thread.
    runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(outcome?)
}

/// Threads that speak with the network: as many as half of the processors, at least one. The index's
/// writer and those that read and write files have the rest; with more, they wake each other up for
/// nothing. On two processors that takes 11 % off a node's time for a small put.
fn network_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Stops the node at the first signal and ends the process at the second. Runs as long as
    /// the process does.
    async fn stop_twice(mut self, stop: CancellationToken) {
        self.next().await;
        stop.cancel();
        self.next().await;
        std::process::exit(KILLED);
    }
}

/// Watches stdin on a thread of its own: a read of it cannot be cancelled.
fn stop_with_stdin(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(stdin.read(&mut buffer), Ok(1..)) {}
        stop.cancel();
    });
}

/// Every connection and every open chunk takes a descriptor; the usual soft limit is 1024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
