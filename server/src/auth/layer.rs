//! The gate: a layer over the whole server that decides by the method's full path, before the
//! body is read. What is not named here is refused.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use dfs_proto::wire::status::Reason;
use futures_util::future::Either;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::{Auth, Principal};
use crate::audit::Event;
use crate::connections::Caller;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    User,
    Peer,
    Nobody,
}

/// Who may call the method with this path.
pub(crate) fn access(path: &str) -> Access {
    let Some((service, method)) = path.strip_prefix('/').and_then(|p| p.split_once('/')) else {
        return Access::Nobody;
    };
    match (service, method) {
        ("dfs.v1.DfsService", "Authenticate") => Access::Public,
        (
            "dfs.v1.DfsService",
            "PutChunk" | "GetChunks" | "List" | "Stat" | "Commit" | "Confirm" | "Fence" | "Drop"
            | "QueryUpload" | "CheckChunks" | "Repair" | "GetNodeInfo" | "Logout",
        ) => Access::User,
        ("dfs.v1.PeerService", "Hello" | "ListRecords" | "Heal" | "ReadChunk" | "Describe") => {
            Access::Peer
        }
        ("grpc.health.v1.Health", _)
        | ("grpc.reflection.v1.ServerReflection", _)
        | ("grpc.reflection.v1alpha.ServerReflection", _) => Access::Public,
        _ => Access::Nobody,
    }
}

/// Wraps a server's services into [`Gate`].
#[derive(Clone)]
pub(crate) struct AuthLayer(pub(crate) Arc<Auth>);

impl<S> Layer<S> for AuthLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        let auth = Arc::clone(&self.0);
        Gate { auth, inner }
    }
}

/// Lets requests through that their caller may make.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    auth: Arc<Auth>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<R>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Only this layer speaks for a user.
        request.extensions_mut().remove::<Principal>();
        match self.auth.admit(request.uri().path(), request.headers()) {
            Ok(principal) => {
                tracing::debug!(
                    method = request.uri().path(),
                    user = principal.as_ref().map(|principal| principal.user.as_str()),
                    "request"
                );
                if let Some(principal) = principal {
                    request.extensions_mut().insert(principal);
                }
                Either::Left(self.inner.call(request))
            }
            Err(status) => {
                self.auth.tell_refused(&request, &status);
                tracing::debug!(
                    method = request.uri().path(),
                    reason = status.message(),
                    "request refused"
                );
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

impl Auth {
    /// Tells the audit log of a call that was refused. A token that has ended is no event: its
    /// user logs in again.
    fn tell_refused<B>(&self, request: &Request<B>, status: &Status) {
        if self.audit.is_on() && Reason::of(status) != Some(Reason::TokenExpired) {
            let from = request.extensions().get::<Caller>().map(Caller::address);
            let (method, why) = (request.uri().path(), status.message());
            self.audit.tell(from, &Event::Refused { user: None, method, why });
        }
    }

    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Principal>, Status> {
        match access(path) {
            Access::Public => Ok(None),
            Access::User => {
                let token = credential(headers, "Bearer")?;
                let principal = self.principal(token).ok_or_else(|| {
                    let text = "the token is not known here or its time is over; log in again";
                    Reason::TokenExpired.status(text)
                })?;
                Ok(Some(principal))
            }
            Access::Peer => {
                if self.is_peer(credential(headers, "Peer")?) {
                    Ok(None)
                } else {
                    Err(Reason::NotAllowed.status("the secret of another cluster"))
                }
            }
            Access::Nobody => Err(Reason::UnknownMethod.status("no such method here")),
        }
    }
}

/// What follows the scheme in the authorization header.
fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a str, Status> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header
        .and_then(|text| text.split_once(' '))
        .filter(|(found, _)| found.eq_ignore_ascii_case(scheme))
        .map(|(_, credential)| credential)
        .ok_or_else(|| {
            let text = format!("metadata 'authorization: {scheme} …' is missing");
            Reason::TokenMissing.status(text)
        })
}

#[cfg(test)]
mod tests;
