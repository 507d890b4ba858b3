//! What a call may take, once it is through the gate: time for each method, and bytes where
//! everybody may call. Streams have limits of their own where their messages are taken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dfs_proto::wire::status::Reason;
use http::{Request, Response};
use http_body_util::Limited;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::auth::layer::{Access, access};
use crate::connections::Caller;
use crate::telemetry::labels::Limit;
use crate::telemetry::limit_hit;

/// A login waits up to 10 s for its turn.
const LOGIN: Duration = Duration::from_secs(15);
/// Whatever only looks up or records something. Clients give up after 5 s.
const USUAL: Duration = Duration::from_secs(30);
/// Re-reading chunks, at the pace of a disk.
const REREAD: Duration = Duration::from_secs(3600);
/// Copying chunks at a pace that was set: the caller has a limit of its own.
const COPY: Duration = Duration::from_secs(24 * 3600);
/// Longest request that everybody may make: a name and a password of 1024 bytes.
const OPEN_REQUEST_BYTES: usize = 16 << 10;
/// Requests of that kind at a time on one connection. A client makes one.
const OPEN_CALLS: usize = 32;

/// How long a method may take until its answer begins; `None`: as long as it has clients.
fn limit(path: &str) -> Option<Duration> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match (service, method) {
        ("dfs.v1.DfsService", "Authenticate") => Some(LOGIN),
        ("dfs.v1.DfsService", "CheckChunks") => Some(REREAD),
        ("dfs.v1.DfsService", "PutChunk" | "GetChunks" | "Repair") => None,
        ("dfs.v1.PeerService", "Heal") => Some(COPY),
        ("dfs.v1.PeerService", "ReadChunk") => None,
        ("dfs.v1.DfsService" | "dfs.v1.PeerService", _) | ("grpc.health.v1.Health", "Check") => {
            Some(USUAL)
        }
        _ => None,
    }
}

/// Wraps a server's services into [`Calls`].
#[derive(Clone)]
pub(super) struct CallsLayer;

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner }
    }
}

/// Passes calls on that the gate let through.
#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
}

impl<S, R> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let time = limit(request.uri().path());
        let open = access(request.uri().path()) == Access::Public;
        let caller = request.extensions().get::<Caller>().cloned();
        let mut counted = None;
        if open {
            if let Some(caller) = &caller {
                caller.asked();
                counted = caller.open_call(OPEN_CALLS);
                if counted.is_none() {
                    limit_hit(Limit::OpenCalls);
                    let status = Reason::Overloaded.status("too many calls on one connection");
                    return Box::pin(async move { Ok(status.into_http()) });
                }
            }
            request = request.map(|body| Body::new(Limited::new(body, OPEN_REQUEST_BYTES)));
        } else if let Some(caller) = &caller {
            caller.admitted();
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _counted = counted;
            let Some(time) = time else { return answer.await };
            match tokio::time::timeout(time, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    limit_hit(Limit::RequestTime);
                    let text = format!("not done within {} s", time.as_secs());
                    Ok(Reason::RequestTimeout.status(text).into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn every_call_that_is_no_stream_has_a_limit() {
        let set = dfs_proto::wire::pb::FILE_DESCRIPTOR_SET;
        let set = prost_types::FileDescriptorSet::decode(set).unwrap();
        let services = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
        let mut methods = 0;
        for (package, service) in services {
            for method in &service.method {
                let path = format!("/{package}.{}/{}", service.name(), method.name());
                let streams = method.client_streaming() || method.server_streaming();
                assert_eq!(limit(&path).is_none(), streams, "{path}");
                methods += 1;
            }
        }
        assert!(methods > 10);
    }
}
