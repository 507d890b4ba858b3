//! The name of an operation, by which its traces on the four nodes are found: it goes along
//! with each of its requests as `x-request-id`, and a node's error repeats it.
//!
//! Requests of several operations that share a round trip go under the name of the first.

#[cfg(feature = "otlp")]
mod otlp;

use std::future::Future;
use std::sync::Arc;

use crate::random::random;

tokio::task_local! {
    static OPERATION: Name;
}

/// The name of an operation: 16 hexadecimal digits, random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(Arc<str>);

impl Name {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random())).into())
    }

    /// Its characters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The operation that this is part of.
pub(crate) fn current() -> Option<Name> {
    OPERATION.try_with(Clone::clone).ok()
}

/// Runs an operation under a new name, or as a part of the one that it is in.
pub(crate) async fn operation<F: Future>(work: F) -> F::Output {
    match current() {
        Some(name) => under(name, work).await,
        None => {
            let name = Name::new();
            #[cfg(feature = "otlp")]
            let work = otlp::told(name.clone(), work);
            under(name, work).await
        }
    }
}

/// Runs `work` under a name.
pub(crate) async fn under<F: Future>(name: Name, work: F) -> F::Output {
    OPERATION.scope(name, work).await
}

/// Takes the current name along to another task.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    under(current().unwrap_or_else(Name::new), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_operation_keeps_its_name_in_all_its_tasks() {
        assert_eq!(current(), None);
        let (own, inner, along) = operation(async {
            let inner = operation(async { current() }).await;
            let along = tokio::spawn(carried(async { current() })).await;
            (current(), inner, along.unwrap())
        })
        .await;
        assert_eq!(own.as_ref().map(|name| name.as_str().len()), Some(16));
        assert_eq!((&inner, &along), (&own, &own));
        assert_ne!(operation(async { current() }).await, own);
    }
}
