//! Ctrl+C and SIGTERM: the first asks for a clean end, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::talk::complain;

/// Starts listening; the token is cancelled by the first signal.
pub(super) fn listen() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    match signals {
        Ok((interrupt, terminate)) => {
            tokio::spawn(wait(interrupt, terminate, cancel));
        }
        Err(error) => complain(&format!("cannot listen for Ctrl+C: {error}")),
    }
    token
}

async fn wait(mut interrupt: Signal, mut terminate: Signal, cancel: CancellationToken) {
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            cancel.cancel();
        } else {
            std::process::exit(Exit::Interrupted as i32);
        }
    }
}
