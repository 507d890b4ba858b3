//! The span of an operation, for a collector of traces (OTLP over gRPC) that the environment names:
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, such as `http://127.0.0.1:4317`. The nodes' spans follow from the
//! operation's name, so this one is all that the client adds. Names of files are not in it.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use dfs_proto::wire::trace::{root_span, trace_id};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use super::Name;

/// Names the collector; without it nothing is sent.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Longest that the end of an operation is held up by a collector.
const PATIENCE: Duration = Duration::from_secs(2);

/// Made with the first operation, in its runtime.
static EXPORTER: OnceLock<Option<SpanExporter>> = OnceLock::new();

/// Does an operation and tells the collector, if there is one, how long it took.
pub(super) async fn told<F: Future>(name: Name, work: F) -> F::Output {
    let began = SystemTime::now();
    let done = work.await;
    if let Some(exporter) = EXPORTER.get_or_init(exporter) {
        let span = span(name.as_str(), began, SystemTime::now());
        // Whether it comes through is not the operation's business.
        let _ = tokio::time::timeout(PATIENCE, exporter.export(vec![span])).await;
    }
    done
}

fn exporter() -> Option<SpanExporter> {
    std::env::var_os(ENDPOINT)?;
    let mut exporter = SpanExporter::builder().with_tonic().build().ok()?;
    exporter.set_resource(&Resource::builder().with_service_name("dfs-client").build());
    Some(exporter)
}

fn span(name: &str, start_time: SystemTime, end_time: SystemTime) -> SpanData {
    let ids = (TraceId::from_bytes(trace_id(name)), SpanId::from_bytes(root_span(name)));
    let flags = TraceFlags::SAMPLED;
    SpanData {
        span_context: SpanContext::new(ids.0, ids.1, flags, false, TraceState::default()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: "operation".into(),
        start_time,
        end_time,
        attributes: vec![KeyValue::new("id", name.to_owned())],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("dfs-client").build(),
    }
}
