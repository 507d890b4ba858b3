//! How an operation ends that its user stops: the machine is told at once, and told to give up
//! when what it has sent by then takes too long.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long an operation that was stopped waits for the Commits it has sent.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// What the machine is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The user wants to stop.
    Interrupted,
    /// It has waited long enough.
    GiveUp,
}

/// Waits for the user.
pub(crate) struct Stop<'a> {
    cancel: &'a CancellationToken,
    deadline: Option<Instant>,
}

impl<'a> Stop<'a> {
    /// Listens to a token.
    pub(crate) fn on(cancel: &'a CancellationToken) -> Self {
        Self { cancel, deadline: None }
    }

    /// The next thing that happens. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Stopped {
        match self.deadline {
            None => {
                self.cancel.cancelled().await;
                self.deadline = Some(Instant::now() + FINISH_LIMIT);
                Stopped::Interrupted
            }
            Some(deadline) => {
                tokio::time::sleep_until(deadline).await;
                Stopped::GiveUp
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_operation_is_told_once_and_then_gives_up() {
        let cancel = CancellationToken::new();
        let mut stop = Stop::on(&cancel);
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, stop.next()).await.is_err());
        cancel.cancel();
        assert_eq!(stop.next().await, Stopped::Interrupted);
        assert!(tokio::time::timeout(soon, stop.next()).await.is_err());
        assert_eq!(stop.next().await, Stopped::GiveUp);
    }
}
