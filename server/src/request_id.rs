//! The name of a request, by which its traces on all nodes are found: `x-request-id`.
//!
//! Who calls chooses it; a node makes one where none came or it is not a plain word. It goes
//! into the span of the request, into the error that may answer it and into the calls of other
//! nodes that it causes.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName};
use tracing::Instrument;

/// Where it is in a request.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name that is taken, in bytes.
const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// 1..64 of the characters `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The name that came with a request, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
        sent.and_then(Self::parse).unwrap_or_else(Self::new)
    }

    fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        good.then(|| Self(text.into()))
    }

    /// A name of this node's own: the process by chance, the request by number.
    fn new() -> Self {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_default());
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("n{:08x}-{number}", *PROCESS).into())
    }

    /// Its characters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `work` under this name.
    pub(crate) async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}

/// The request under whose name this runs.
pub(crate) fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Takes the current request's name and span along to another task.
pub(crate) fn carried<F: Future + Send>(work: F) -> impl Future<Output = F::Output> + Send {
    let id = current();
    async move {
        match id {
            Some(id) => id.scope(work).await,
            None => work.await,
        }
    }
    .in_current_span()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_are_taken() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().expect("a header"));
            RequestId::of(&headers)
        };
        assert_eq!(of("a1.B_-").as_str(), "a1.B_-");
        assert_eq!(of(&"x".repeat(64)).as_str(), "x".repeat(64));
        for odd in ["", "a b", "a/b", "a\"b", "ä", &"x".repeat(65)] {
            let own = of(odd);
            assert_ne!(own.as_str(), odd);
            assert!(RequestId::parse(own.as_str()).is_some(), "{odd:?}");
        }
        assert_ne!(of(""), of(""));
    }

    #[tokio::test]
    async fn it_goes_along_to_other_tasks() {
        let id = RequestId::new();
        let found = id.clone().scope(async {
            let alone = tokio::spawn(async { current() }).await.unwrap();
            let along = tokio::spawn(carried(async { current() })).await.unwrap();
            (alone, along)
        });
        assert_eq!(found.await, (None, Some(id)));
        assert_eq!(current(), None);
    }
}
