//! Answers of blocks leave the node without being copied, and pages of listings as they were
//! written: the method puts them beside an empty answer, and a layer around the services makes them
//! the answer's body.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use dfs_proto::wire::frames::Frames;
use dfs_proto::wire::page::Page;
use dfs_proto::wire::pb::{GetChunksResponse, ListResponse};
use futures_util::future::{FutureExt, Map};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::get::Messages;

/// The body of an answer, as an extension of it. Taken once: the lock is held for that only.
#[derive(Clone)]
pub(super) struct Beside(Arc<Mutex<Option<Body>>>);

impl Beside {
    /// An empty answer with `messages` beside it.
    pub(super) fn answer(
        messages: Messages,
    ) -> tonic::Response<tokio_stream::Empty<Result<GetChunksResponse, Status>>> {
        Self::put(tokio_stream::empty(), Body::new(Frames::answer(messages)))
    }

    /// An empty answer with a page beside it.
    pub(super) fn page(page: Page) -> tonic::Response<ListResponse> {
        Self::put(ListResponse::default(), Body::new(page))
    }

    fn put<T>(answer: T, body: Body) -> tonic::Response<T> {
        let mut response = tonic::Response::new(answer);
        response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(body)))));
        response
    }

    fn take(self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Wraps a server's services into [`Whole`].
#[derive(Clone, Copy)]
pub(crate) struct WholeLayer;

impl<S> Layer<S> for WholeLayer {
    type Service = Whole<S>;

    fn layer(&self, inner: S) -> Whole<S> {
        Whole { inner }
    }
}

/// Makes what is beside an answer its body.
#[derive(Clone)]
pub(crate) struct Whole<S> {
    inner: S,
}

type Answered<E> = Result<Response<Body>, E>;

impl<S, B> Service<Request<B>> for Whole<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Map<S::Future, fn(Answered<S::Error>) -> Answered<S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let made: fn(Answered<S::Error>) -> Answered<S::Error> = |answer| answer.map(made_whole);
        self.inner.call(request).map(made)
    }
}

fn made_whole(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Beside>().and_then(Beside::take) {
        Some(body) => response.map(|_| body),
        None => response,
    }
}
