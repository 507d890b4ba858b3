//! Traces to a collector, by programs that were built with the feature `otlp`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_proto::wire::trace::{root_span, trace_id};
use harness::cluster::NODES;
use harness::{Cluster, wait};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::PROGRAMS;

/// Batches go out within this time.
const SOON: Duration = Duration::from_secs(20);

/// All spans that have come.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|of_one| of_one.scope_spans);
        self.0.lock().expect("nobody panics with it").extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start(&self, runtime: &Runtime) -> SocketAddr {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

/// An attribute of a span, as text.
fn attribute(span: &Span, key: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_spans_of_a_put_are_one_trace_over_client_and_nodes() {
    let runtime = Runtime::new().expect("a runtime");
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.start(&runtime));
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("DFS_LOG", "trace"),
    ];
    let mut cluster = Cluster::written(PROGRAMS);
    for node in NODES {
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        cluster.set_env(node, &env);
    }
    let cluster = cluster.started();
    let put = cluster.dfsctl().args(["put", "-", "file"]).stdin(vec![7; 300_000]);
    put.env(env[0].0, env[0].1).run().ok();

    let root = || collector.spans().into_iter().find(|span| span.name == "operation");
    wait::until_true("the client's span is there", SOON, || root().is_some());
    let root = root().expect("it is there");
    let id = attribute(&root, "id");
    assert_eq!((&root.trace_id[..], &root.span_id[..]), (&trace_id(&id)[..], &root_span(&id)[..]));
    assert!(root.parent_span_id.is_empty() && root.end_time_unix_nano > root.start_time_unix_nano);
    let of = |method: &str| {
        let spans = collector.spans().into_iter();
        let spans = spans.filter(|span| span.trace_id == root.trace_id && span.name == "request");
        let spans: Vec<Span> = spans.filter(|span| attribute(span, "method") == method).collect();
        assert!(spans.iter().all(|span| span.parent_span_id == root.span_id), "{spans:?}");
        spans.len()
    };
    for method in ["DfsService/PutChunk", "DfsService/Commit"] {
        wait::until_true(&format!("{method} of four nodes"), SOON, || of(method) == 4);
    }

    // What is sent away has no secrets in it, nor names of files.
    let all = format!("{:?}", collector.spans());
    for secret in [&*cluster.password(), "authorization", "Bearer"] {
        assert!(!all.contains(secret), "{secret}");
    }
    let tokens = cluster.work_dir().join("../cache/dfs/tokens.yaml");
    let tokens = std::fs::read_to_string(tokens).expect("tokens are kept");
    for token in tokens.lines().filter_map(|line| line.trim().strip_prefix("token: ")) {
        assert!(!all.contains(token));
    }
}
