//! Outermost layer of the server: measures each request, gives it a name and a span, and puts
//! the name into the error that answers it.
//!
//! Only here does a request count, whatever refused it. Errors count by their reason too: what
//! the table of errors calls a refused caller or a limit is one for the metrics as well.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use dfs_proto::placement::NodeId;
use dfs_proto::wire::status::{Reason, code_name, complete};
use http::{HeaderMap, HeaderName, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;

use crate::request_id::RequestId;
use crate::telemetry::labels::{AuthFailure, Limit};
use crate::telemetry::{ByteCounter, RequestMeter, auth_failed, limit_hit};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What stands for a method that there is not.
const OTHER: &str = "other";

/// Methods as they are called, and their names in metrics.
const METHODS: [(&str, &str); 22] = [
    ("/dfs.v1.DfsService/Authenticate", "DfsService/Authenticate"),
    ("/dfs.v1.DfsService/PutChunk", "DfsService/PutChunk"),
    ("/dfs.v1.DfsService/GetChunks", "DfsService/GetChunks"),
    ("/dfs.v1.DfsService/List", "DfsService/List"),
    ("/dfs.v1.DfsService/Stat", "DfsService/Stat"),
    ("/dfs.v1.DfsService/Commit", "DfsService/Commit"),
    ("/dfs.v1.DfsService/Confirm", "DfsService/Confirm"),
    ("/dfs.v1.DfsService/Fence", "DfsService/Fence"),
    ("/dfs.v1.DfsService/Drop", "DfsService/Drop"),
    ("/dfs.v1.DfsService/QueryUpload", "DfsService/QueryUpload"),
    ("/dfs.v1.DfsService/CheckChunks", "DfsService/CheckChunks"),
    ("/dfs.v1.DfsService/Repair", "DfsService/Repair"),
    ("/dfs.v1.DfsService/GetNodeInfo", "DfsService/GetNodeInfo"),
    ("/dfs.v1.DfsService/Logout", "DfsService/Logout"),
    ("/dfs.v1.PeerService/Hello", "PeerService/Hello"),
    ("/dfs.v1.PeerService/ListRecords", "PeerService/ListRecords"),
    ("/dfs.v1.PeerService/Heal", "PeerService/Heal"),
    ("/dfs.v1.PeerService/ReadChunk", "PeerService/ReadChunk"),
    ("/dfs.v1.PeerService/Describe", "PeerService/Describe"),
    ("/grpc.health.v1.Health/", "Health"),
    ("/grpc.reflection.v1.ServerReflection/", "Reflection"),
    ("/grpc.reflection.v1alpha.ServerReflection/", "Reflection"),
];

/// The name of a method in metrics: one of few, whatever is called.
fn method(path: &str) -> &'static str {
    let is = |called: &str| match called.ends_with('/') {
        true => path.starts_with(called),
        false => path == called,
    };
    METHODS.iter().find(|(called, _)| is(called)).map_or(OTHER, |(_, name)| name)
}

/// Wraps a server's services into [`Metered`].
#[derive(Clone, Copy)]
pub(crate) struct MeterLayer(pub(crate) NodeId);

impl<S> Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, node: self.0 }
    }
}

/// Measures what its services do.
#[derive(Clone)]
pub(crate) struct Metered<S> {
    inner: S,
    /// Which one this is.
    node: NodeId,
}

type Pending<R, E> = Pin<Box<dyn Future<Output = Result<Response<Answer<R>>, E>> + Send>>;

impl<S, B, R> Service<Request<B>> for Metered<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: Body + Unpin,
{
    type Response = Response<Answer<R>>;
    type Error = S::Error;
    type Future = Pending<R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = method(request.uri().path());
        let id = RequestId::of(request.headers());
        let span = tracing::info_span!("request", method, id = id.as_str());
        #[cfg(feature = "otlp")]
        crate::telemetry::traces::link(&span, request.headers(), &crate::request_id::HEADER);
        let meter = RequestMeter::start(method);
        let received = meter.received();
        let request = request.map(|inner| tonic::body::Body::new(Received { inner, received }));
        let answering = span.in_scope(|| self.inner.call(request));
        let (node, ended) = (self.node, span.clone());
        let answering = id.clone().scope(answering);
        let answered = async move {
            let (mut head, body) = answering.await?.into_parts();
            let open = Open { method, node, meter, id, span: ended };
            let open = if head.headers.contains_key(GRPC_STATUS) {
                // An error, and nothing follows.
                open.end(&mut head.headers);
                None
            } else {
                Some(open)
            };
            Ok(Response::from_parts(head, Answer { inner: body, open }))
        };
        Box::pin(answered.instrument(span))
    }
}

/// A request's body, whose bytes are counted.
struct Received<B> {
    inner: B,
    received: ByteCounter,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &next
            && let Some(data) = frame.data_ref()
        {
            self.received.add(data.len());
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body, whose bytes and end are counted.
pub(crate) struct Answer<R> {
    inner: R,
    /// Taken at its end.
    open: Option<Open>,
}

impl<R: Body + Unpin> Body for Answer<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let mut next = Pin::new(&mut self.inner).poll_frame(context);
        match &mut next {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(open)) = (frame.data_ref(), &self.open) {
                    open.meter.sent(data.remaining());
                } else if let (Some(trailers), Some(open)) =
                    (frame.trailers_mut(), self.open.take())
                {
                    open.end(trailers);
                }
            }
            Poll::Ready(None | Some(Err(_))) => drop(self.open.take()),
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request whose answer is not at its end.
struct Open {
    method: &'static str,
    node: NodeId,
    meter: RequestMeter,
    id: RequestId,
    span: tracing::Span,
}

impl Open {
    /// Ends the request with the status in `trailers`; an error gets the names of the request and
    /// of the node.
    fn end(mut self, trailers: &mut HeaderMap) {
        let Some(status) = Status::from_header_map(trailers) else { return };
        if status.code() == Code::Ok {
            return self.meter.set_code(code_name(Code::Ok));
        }
        let status = complete(&status, self.node, self.id.as_str());
        let code = status.code();
        self.meter.set_code(code_name(code));
        let reason = Reason::of(&status);
        let name = reason.map(Reason::name);
        self.span.in_scope(|| tracing::debug!(code = ?code, reason = name, "ended in an error"));
        if let Some(reason) = reason {
            count(reason, self.method);
        }
        // What cannot be a header stays as it was; it never was one.
        let _ = status.add_header(trailers);
    }
}

/// Counts what an error says of its caller or of a limit.
fn count(reason: Reason, method: &str) {
    match reason {
        Reason::InvalidCredentials => auth_failed(AuthFailure::Password),
        Reason::TokenMissing if method.starts_with("PeerService") => {
            auth_failed(AuthFailure::PeerSecret);
        }
        Reason::TokenMissing => auth_failed(AuthFailure::TokenMissing),
        Reason::TokenExpired => auth_failed(AuthFailure::TokenUnknown),
        Reason::NotAllowed if method.starts_with("PeerService") => {
            auth_failed(AuthFailure::PeerSecret);
        }
        Reason::NotAllowed | Reason::UnknownMethod => auth_failed(AuthFailure::Forbidden),
        Reason::DiskFull => limit_hit(Limit::Disk),
        Reason::QuotaExceeded => limit_hit(Limit::Quota),
        Reason::Overloaded if method.ends_with("Repair") => limit_hit(Limit::Repairs),
        Reason::StreamIdle => limit_hit(Limit::StreamPace),
        // Counted where it is known which one was met.
        Reason::Overloaded
        | Reason::InvalidFileName
        | Reason::InvalidArgument
        | Reason::ChecksumMismatch
        | Reason::ChunkNotFound
        | Reason::ChunkCorrupt
        | Reason::ShuttingDown
        | Reason::NodeRejoining
        | Reason::NotStaged
        | Reason::FutureTag
        | Reason::UploadFenced
        | Reason::UploadNotFenced
        | Reason::NotPrepared
        | Reason::TagConflict
        | Reason::NotCommitted
        | Reason::NotCurrent
        | Reason::ChunksAtHome
        | Reason::PrepareLost
        | Reason::Poisoned
        | Reason::TooFewNodes
        | Reason::WrongNode
        | Reason::MessageTooLarge
        | Reason::MessageMalformed
        | Reason::RequestTimeout
        | Reason::Internal => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_name() {
        use prost::Message;
        let set = prost_types::FileDescriptorSet::decode(dfs_proto::wire::pb::FILE_DESCRIPTOR_SET);
        let set = set.expect("descriptors");
        let mut found = 0;
        for file in set.file.iter().filter(|file| file.package() == "dfs.v1") {
            for service in &file.service {
                for rpc in &service.method {
                    let path = format!("/dfs.v1.{}/{}", service.name(), rpc.name());
                    assert_eq!(method(&path), &path["/dfs.v1.".len()..]);
                    found += 1;
                }
            }
        }
        assert!(found > 10);
        assert_eq!(method("/grpc.health.v1.Health/Watch"), "Health");
        assert_eq!(method("/dfs.v1.DfsService/Stat/alice"), OTHER);
        assert_eq!(method(""), OTHER);
    }
}
