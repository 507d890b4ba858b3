//! Traces to a collector over OTLP (gRPC), where the environment names one:
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, such as `http://127.0.0.1:4317`. Only in programs built with
//! the feature `otlp`. Spans go out in batches every few seconds; the last ones of a process that
//! ends are not waited for.

use std::sync::OnceLock;

use dfs_proto::wire::trace::{root_span, trace_id};
use http::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Runtime;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Names the collector; without it nothing is sent.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where other programs say of which trace they are.
const TRACEPARENT: &str = "traceparent";

/// What sends the batches, as long as the process lives.
static SENDING: OnceLock<(Runtime, SdkTracerProvider)> = OnceLock::new();

/// The layer that sends spans, if a collector is named. The error says why one cannot be used.
pub(crate) fn layer<S>() -> Option<Result<Box<dyn Layer<S> + Send + Sync>, String>>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    std::env::var_os(ENDPOINT)?;
    Some(match start() {
        Ok(provider) => {
            let tracer = provider.tracer("dfsd");
            let spans = tracing_opentelemetry::layer().with_tracer(tracer);
            // What the sending itself has to say must not be sent again.
            let ours = filter_fn(|metadata| {
                metadata.target().starts_with("dfs") && *metadata.level() <= Level::INFO
            });
            Ok(spans.with_filter(ours).boxed())
        }
        Err(error) => Err(format!("{ENDPOINT}: no traces are sent: {error}")),
    })
}

fn start() -> Result<SdkTracerProvider, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otlp")
        .enable_all()
        .build()?;
    let provider = {
        // The exporter opens its connection on the runtime it is made in.
        let _here = runtime.enter();
        let exporter = SpanExporter::builder().with_tonic().build()?;
        let resource = Resource::builder().with_service_name("dfsd").build();
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()
    };
    // A second start has a first one's provider to keep; there is none in a process.
    let _ = SENDING.set((runtime, provider.clone()));
    Ok(provider)
}

/// Makes the span of a request part of the trace that its caller began, if he said so or gave the
/// request a name, in the header `name`.
pub(crate) fn link(span: &Span, headers: &HeaderMap, name: &HeaderName) {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let ids = match (said(TRACEPARENT).and_then(parent), said(name.as_str())) {
        (Some(ids), _) => ids,
        (None, Some(name)) => {
            (TraceId::from_bytes(trace_id(name)), SpanId::from_bytes(root_span(name)))
        }
        (None, None) => return,
    };
    let flags = TraceFlags::SAMPLED;
    let parent = SpanContext::new(ids.0, ids.1, flags, true, TraceState::default());
    // Nothing to be linked where nothing is sent.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Trace and span of `00-TRACE-SPAN-FLAGS`.
fn parent(text: &str) -> Option<(TraceId, SpanId)> {
    let [version, trace, span, flags] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    let lengths = [version, trace, span, flags].map(str::len);
    let ids = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let valid = ids.0 != TraceId::INVALID && ids.1 != SpanId::INVALID;
    (version == "00" && lengths == [2, 32, 16, 2] && valid).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_taken_only_as_it_is_written() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span) = parent(good).expect("an example of the specification");
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span.to_string(), "00f067aa0ba902b7");
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf9-00f0-01",
        ] {
            assert_eq!(parent(bad), None, "{bad}");
        }
    }
}
