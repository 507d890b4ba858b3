//! Carries out an operation that a machine decides: its messages are under way at the same time,
//! each answer goes to the machine, and a user who stops it is heard in between.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::error::NodeError;
use crate::stop::{Stop, Stopped};

/// Messages that have not been answered; an answer is an event, and what a user may be told.
pub(crate) type Open<E> = FuturesUnordered<BoxFuture<'static, (E, Option<NodeError>)>>;

/// A machine with its messages.
pub(crate) trait Drive {
    /// What the machine is told.
    type Event: From<Stopped>;
    /// How it ends.
    type Outcome;

    /// The messages that are under way.
    fn open(&mut self) -> &mut Open<Self::Event>;

    /// Tells the machine of an event and does what it asks for; returns how it ended if it did.
    fn on(&mut self, event: Self::Event, error: Option<NodeError>) -> Option<Self::Outcome>;
}

/// Carries messages until the machine has ended. Others may still be under way then.
pub(crate) async fn drive<D: Drive>(run: &mut D, cancel: &CancellationToken) -> D::Outcome {
    let mut stop = Stop::on(cancel);
    loop {
        let (event, error) = tokio::select! {
            Some(answer) = run.open().next() => answer,
            stopped = stop.next() => (stopped.into(), None),
        };
        if let Some(outcome) = run.on(event, error) {
            return outcome;
        }
    }
}

/// After the end: carries what is still under way, such as the fourth Commit, and what follows.
pub(crate) async fn finish_behind<D: Drive>(mut run: D) {
    while let Some((event, error)) = run.open().next().await {
        run.on(event, error);
    }
}
