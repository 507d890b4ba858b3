//! What a node counts of itself, for `/metrics` and the status page. One for the process: a
//! process is one node.
//!
//! Whoever has something to count calls a function here; labels are enums ([`labels`]), so that
//! there is a bounded number of them and never a name of a user or a file among them. To count is
//! one or two atomic additions. [`state`] is what is not counted but looked up when somebody
//! asks, [`recent`] keeps the last warnings and errors.

pub(crate) mod labels;
pub(crate) mod recent;
pub(crate) mod state;
#[cfg(feature = "otlp")]
pub(crate) mod traces;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use labels::{AuthFailure, Limit, Synced};
use state::StateMetrics;

/// Upper bounds of the classes of durations, in seconds: from an answer out of memory to a
/// stream that takes minutes.
const SECONDS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];
/// Upper bounds of the classes of group sizes.
const GROUPS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// The format of the answer to `/metrics`.
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A name twice, or one with odd characters: every run of a node would meet it.
const INVARIANT: &str = "names of metrics are valid and used once";

static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(Telemetry::new);

/// All that is counted.
struct Telemetry {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    running: IntGauge,
    received_bytes: IntCounterVec,
    sent_bytes: IntCounterVec,
    blocks_received: IntCounter,
    blocks_sent: IntCounter,
    syncs: [Histogram; Synced::ALL.len()],
    group_size: Histogram,
    auth_failures: [IntCounter; AuthFailure::ALL.len()],
    limits_hit: [IntCounter; Limit::ALL.len()],
    events: [IntCounter; 2],
    state: StateMetrics,
}

impl Telemetry {
    fn new() -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let blocks = make.counters("dfs_blocks_total", "Blocks of chunks, by direction", &["way"]);
        let syncs = make.histograms(
            "dfs_fsync_seconds",
            "Time to make written data durable, by what was synced",
            &["of"],
            &SECONDS,
        );
        let auth = make.counters(
            "dfs_auth_failures_total",
            "Requests refused for who made them, by reason",
            &["reason"],
        );
        let limits = make.counters(
            "dfs_limits_hit_total",
            "Times that a limit refused, delayed or ended something, by limit",
            &["limit"],
        );
        let events =
            make.counters("dfs_log_events_total", "Warnings and errors logged", &["level"]);
        let state = StateMetrics::new(&make);
        let requests = make.counters(
            "dfs_requests_total",
            "Requests answered, by method and gRPC status code",
            &["method", "code"],
        );
        let request_seconds = make.histograms(
            "dfs_request_seconds",
            "Time from a request's head to the end of its answer, by method",
            &["method"],
            &SECONDS,
        );
        let received_bytes = make.counters(
            "dfs_received_bytes_total",
            "Bytes of request bodies, by method",
            &["method"],
        );
        let sent_bytes = make.counters(
            "dfs_sent_bytes_total",
            "Bytes of answers' bodies, by method",
            &["method"],
        );
        Self {
            requests,
            request_seconds,
            running: make.gauge("dfs_requests_running", "Requests that are being answered"),
            received_bytes,
            sent_bytes,
            blocks_received: blocks.with_label_values(&["received"]),
            blocks_sent: blocks.with_label_values(&["sent"]),
            syncs: Synced::ALL.map(|of| syncs.with_label_values(&[of.name()])),
            group_size: make.histogram(
                "dfs_commit_group_size",
                "Changes of the index that shared one commit",
                &GROUPS,
            ),
            auth_failures: AuthFailure::ALL.map(|why| auth.with_label_values(&[why.name()])),
            limits_hit: Limit::ALL.map(|limit| limits.with_label_values(&[limit.name()])),
            events: ["error", "warn"].map(|level| events.with_label_values(&[level])),
            state,
            registry,
        }
    }
}

/// Makes metrics of a registry.
struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn known<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<M>,
    ) -> M {
        let metric = metric.expect(INVARIANT);
        self.registry.register(Box::new(metric.clone())).expect(INVARIANT);
        metric
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.known(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.known(IntGauge::with_opts(Opts::new(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.known(Histogram::with_opts(opts))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.known(HistogramVec::new(opts, labels))
    }
}

/// A request that is being answered. It counts as ended when this is dropped.
pub(crate) struct RequestMeter {
    code: &'static str,
    method: &'static str,
    started: Instant,
    received: IntCounter,
    sent: IntCounter,
}

impl RequestMeter {
    /// Starts to measure a request. `method` has to be one of few.
    pub(crate) fn start(method: &'static str) -> Self {
        TELEMETRY.running.inc();
        Self {
            // Until something else is known: whoever called has gone.
            code: "CANCELLED",
            method,
            started: Instant::now(),
            received: TELEMETRY.received_bytes.with_label_values(&[method]),
            sent: TELEMETRY.sent_bytes.with_label_values(&[method]),
        }
    }

    /// What counts the bytes of the request's body.
    pub(crate) fn received(&self) -> ByteCounter {
        ByteCounter(self.received.clone())
    }

    /// Counts bytes of the answer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Says how it ends: the name of a gRPC status code.
    pub(crate) fn set_code(&mut self, code: &'static str) {
        self.code = code;
    }
}

/// Counts bytes that come in.
pub(crate) struct ByteCounter(IntCounter);

impl ByteCounter {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

impl Drop for RequestMeter {
    fn drop(&mut self) {
        TELEMETRY.running.dec();
        TELEMETRY.requests.with_label_values(&[self.method, self.code]).inc();
        let seconds = self.started.elapsed().as_secs_f64();
        TELEMETRY.request_seconds.with_label_values(&[self.method]).observe(seconds);
    }
}

/// Counts a block that came whole.
pub(crate) fn block_received() {
    TELEMETRY.blocks_received.inc();
}

/// Counts blocks that were read to be sent.
pub(crate) fn blocks_sent(blocks: usize) {
    TELEMETRY.blocks_sent.inc_by(u64::try_from(blocks).unwrap_or(u64::MAX));
}

/// Makes something durable and measures how long that takes.
pub(crate) fn timed<R>(of: Synced, sync: impl FnOnce() -> R) -> R {
    let started = Instant::now();
    let done = sync();
    TELEMETRY.syncs[of as usize].observe(started.elapsed().as_secs_f64());
    done
}

/// Counts a group of changes of the index with its size.
pub(crate) fn group_committed(changes: usize) {
    TELEMETRY.group_size.observe(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
}

/// Counts a caller who was refused.
pub(crate) fn auth_failed(why: AuthFailure) {
    TELEMETRY.auth_failures[why as usize].inc();
}

/// Counts that a limit was hit.
pub(crate) fn limit_hit(limit: Limit) {
    TELEMETRY.limits_hit[limit as usize].inc();
}

/// Everything as Prometheus text, with the state as it was looked up.
pub(crate) fn render(state: &state::State) -> String {
    TELEMETRY.state.show(state);
    let mut text = Vec::new();
    // Writing to memory does not fail, and a family without a metric is left out.
    let families = TELEMETRY.registry.gather();
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "the metrics cannot be written");
    }
    String::from_utf8(text).unwrap_or_default()
}

/// How many milliseconds a duration has.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
