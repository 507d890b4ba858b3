//! What is not counted but looked up when somebody asks for the metrics.

use dfs_proto::placement::{NodeId, PerNode};
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts};

use super::Maker;

/// A node at one moment. What is not known is `None`, and no metric then.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) cluster: String,
    /// Position, 1..4.
    pub(crate) node: u8,
    pub(crate) ready: bool,
    pub(crate) rejoining: bool,
    /// Its disk was replaced and not every file has been seen whole since.
    pub(crate) restoring: bool,
    pub(crate) poisoned: bool,
    /// Milliseconds since 1970, here and below.
    pub(crate) started_ms: u64,
    pub(crate) disk_total_bytes: Option<u64>,
    pub(crate) disk_free_bytes: Option<u64>,
    pub(crate) index_bytes: Option<u64>,
    pub(crate) uploads: Option<Uploads>,
    pub(crate) healing: HealingState,
    pub(crate) census: Option<CensusState>,
    /// When each other node was last met; 0: not since this node's start.
    pub(crate) last_seen_ms: PerNode<u64>,
}

/// Uploads that are not current versions, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uploads {
    pub(crate) prepared: u64,
    pub(crate) superseded: u64,
    pub(crate) fenced: u64,
}

/// What healing has done since the node's start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HealingState {
    pub(crate) enabled: bool,
    pub(crate) backlog: u64,
    pub(crate) unhealed: u64,
    pub(crate) healed_paths: u64,
    pub(crate) copied_bytes: u64,
    pub(crate) last_pass_ms: u64,
    pub(crate) last_scrub_ms: u64,
    pub(crate) scrubbed_bytes: u64,
    pub(crate) bad_chunks: u64,
}

/// What the last pass saw of all files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CensusState {
    pub(crate) at_ms: u64,
    pub(crate) complete: u64,
    pub(crate) degraded: u64,
    pub(crate) incomplete: u64,
    pub(crate) unknown: u64,
    /// Chunks of this node: where they belong, held for another node, and those it lacks.
    pub(crate) home: u64,
    pub(crate) spilled: u64,
    pub(crate) missing: u64,
}

/// The metrics of a [`State`].
pub(super) struct StateMetrics {
    info: IntGaugeVec,
    ready: IntGauge,
    rejoining: IntGauge,
    restoring: IntGauge,
    poisoned: IntGauge,
    start: GaugeVec,
    disk_total: IntGaugeVec,
    disk_free: IntGaugeVec,
    index: IntGaugeVec,
    uploads: IntGaugeVec,
    files: IntGaugeVec,
    chunks: IntGaugeVec,
    census: GaugeVec,
    healing_enabled: IntGauge,
    backlog: IntGauge,
    unhealed: IntGauge,
    healed: IntCounter,
    copied: IntCounter,
    pass: GaugeVec,
    scrub: GaugeVec,
    scrubbed: IntCounter,
    bad_chunks: IntCounter,
    peers: GaugeVec,
}

impl StateMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        let ints = |name: &str, help: &str, labels: &[&str]| {
            make.known(IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let times = |name: &str, help: &str, labels: &[&str]| {
            make.known(GaugeVec::new(Opts::new(name, help), labels))
        };
        let counter =
            |name: &str, help: &str| make.known(IntCounter::with_opts(Opts::new(name, help)));
        Self {
            info: ints(
                "dfs_node_info",
                "1; says which node this is and what it runs",
                &["cluster", "node", "version"],
            ),
            ready: make.gauge("dfs_ready", "Whether the node takes part in everything"),
            rejoining: make.gauge(
                "dfs_rejoining",
                "Whether the node has a new disk and does not take part yet",
            ),
            restoring: make.gauge(
                "dfs_restoring",
                "Whether the node has a new disk and files are still copied to it",
            ),
            poisoned: make.gauge("dfs_poisoned", "Whether the disk failed and the node stops"),
            start: times("dfs_start_time_seconds", "Start of the node, seconds since 1970", &[]),
            disk_total: ints("dfs_disk_total_bytes", "Size of the file system with the data", &[]),
            disk_free: ints("dfs_disk_free_bytes", "Free bytes of that file system", &[]),
            index: ints("dfs_index_bytes", "Bytes of the index on the disk", &[]),
            uploads: ints(
                "dfs_uploads",
                "Uploads of this node that are not the current version of a file, by state",
                &["state"],
            ),
            files: ints(
                "dfs_files",
                "Files of the cluster by state, as the last pass over all files saw them",
                &["state"],
            ),
            chunks: ints(
                "dfs_chunks",
                "Chunks of this node by state, as the last pass over all files saw them",
                &["state"],
            ),
            census: times(
                "dfs_census_timestamp_seconds",
                "When files and chunks were counted, seconds since 1970",
                &[],
            ),
            healing_enabled: make.gauge("dfs_heal_enabled", "Whether the node heals by itself"),
            backlog: make.gauge("dfs_heal_backlog", "Files known to need healing here, now"),
            unhealed: make.gauge("dfs_heal_unhealed", "Files that the last pass could not heal"),
            healed: counter("dfs_healed_files_total", "Files healed by this node"),
            copied: counter("dfs_heal_copied_bytes_total", "Bytes copied to this node to heal"),
            pass: times(
                "dfs_heal_pass_timestamp_seconds",
                "End of the last pass over all files, seconds since 1970",
                &[],
            ),
            scrub: times(
                "dfs_scrub_timestamp_seconds",
                "When the scrub last had read every chunk, seconds since 1970; 0: never",
                &[],
            ),
            scrubbed: counter("dfs_scrubbed_bytes_total", "Bytes read by the scrub"),
            bad_chunks: counter("dfs_bad_chunks_total", "Chunks found bad on this node"),
            peers: times(
                "dfs_peer_seen_timestamp_seconds",
                "When another node was last met, seconds since 1970; 0: not since the start",
                &["peer"],
            ),
        }
    }

    /// Sets all of them.
    pub(super) fn show(&self, state: &State) {
        let version = env!("CARGO_PKG_VERSION");
        set(&self.info, &[&state.cluster, &state.node.to_string(), version], 1);
        self.ready.set(state.ready.into());
        self.rejoining.set(state.rejoining.into());
        self.restoring.set(state.restoring.into());
        self.poisoned.set(state.poisoned.into());
        set_time(&self.start, &[], state.started_ms);
        let sizes = [
            (&self.disk_total, state.disk_total_bytes),
            (&self.disk_free, state.disk_free_bytes),
            (&self.index, state.index_bytes),
        ];
        for (metric, bytes) in sizes {
            metric.reset();
            if let Some(bytes) = bytes {
                set(metric, &[], bytes);
            }
        }
        if let Some(Uploads { prepared, superseded, fenced }) = state.uploads {
            set(&self.uploads, &["prepared"], prepared);
            set(&self.uploads, &["superseded"], superseded);
            set(&self.uploads, &["fenced"], fenced);
        }
        if let Some(census) = &state.census {
            set(&self.files, &["complete"], census.complete);
            set(&self.files, &["degraded"], census.degraded);
            set(&self.files, &["incomplete"], census.incomplete);
            set(&self.files, &["unknown"], census.unknown);
            set(&self.chunks, &["home"], census.home);
            set(&self.chunks, &["spilled"], census.spilled);
            set(&self.chunks, &["missing"], census.missing);
            set_time(&self.census, &[], census.at_ms);
        }
        self.show_healing(&state.healing);
        for id in NodeId::ALL.into_iter().filter(|id| id.get() != state.node) {
            set_time(&self.peers, &[&id.to_string()], state.last_seen_ms[id.index()]);
        }
    }

    fn show_healing(&self, healing: &HealingState) {
        self.healing_enabled.set(healing.enabled.into());
        self.backlog.set(signed(healing.backlog));
        self.unhealed.set(signed(healing.unhealed));
        catch_up(&self.healed, healing.healed_paths);
        catch_up(&self.copied, healing.copied_bytes);
        catch_up(&self.scrubbed, healing.scrubbed_bytes);
        catch_up(&self.bad_chunks, healing.bad_chunks);
        if healing.last_pass_ms > 0 {
            set_time(&self.pass, &[], healing.last_pass_ms);
        }
        set_time(&self.scrub, &[], healing.last_scrub_ms);
    }
}

fn set(metric: &IntGaugeVec, labels: &[&str], value: u64) {
    metric.with_label_values(labels).set(signed(value));
}

fn set_time(metric: &GaugeVec, labels: &[&str], ms: u64) {
    // Whole seconds are exact in a double, and the fraction to less than a microsecond.
    let seconds = std::time::Duration::from_millis(ms).as_secs_f64();
    metric.with_label_values(labels).set(seconds);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Brings a counter up to a figure that is counted elsewhere.
fn catch_up(counter: &IntCounter, figure: u64) {
    counter.inc_by(figure.saturating_sub(counter.get()));
}
