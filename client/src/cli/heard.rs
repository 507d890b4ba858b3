//! What the client says about nodes while a command runs: each thing once, and not again by the
//! error that may end it.
//!
//! Holds for the whole program, as the manner of talking does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::talk::{Verbosity, notice, verbosity};
use crate::{Cause, Error, NodeError, Notice, Notify};

/// What has been said.
struct Heard {
    texts: BTreeSet<String>,
    /// Nodes that the command of now did without.
    nodes: Vec<NodeError>,
    /// Nodes of which nobody can say yet whether all of them answer like this; `None` once that is
    /// known.
    waiting: Option<Vec<NodeError>>,
}

// Held for a line to stderr, never across an await.
static HEARD: Mutex<Heard> =
    Mutex::new(Heard { texts: BTreeSet::new(), nodes: Vec::new(), waiting: None });

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to a client that is about to connect; [`connected`] has to follow.
pub(super) fn listen() -> Notify {
    heard().waiting = Some(Vec::new());
    Arc::new(|notice| heard().take(notice))
}

/// Says what waited for the end of connecting, but for what `error`, its end, says of all nodes.
pub(super) fn connected(error: Option<&Error>) {
    let mut heard = heard();
    for node in heard.waiting.take().unwrap_or_default() {
        let said = match error {
            Some(Error::Credentials) => is_refusal(&node.cause),
            Some(Error::WrongNode { error, .. }) => {
                *error == node || error.is_of_other_cluster() && node.is_of_other_cluster()
            }
            _ => false,
        };
        if !said {
            heard.left_out(node);
        }
    }
}

/// Begins another command: what its error says has to be understood without those before.
pub(super) fn begin() {
    heard().nodes.clear();
}

/// The error, without what has been said.
pub(super) fn text_of(error: &Error) -> String {
    let heard = heard();
    let rest = error.without(|node| heard.nodes.contains(node));
    rest.as_ref().unwrap_or(error).to_string()
}

const fn is_refusal(cause: &Cause) -> bool {
    matches!(cause, Cause::Credentials | Cause::LoggedOut)
}

impl Heard {
    fn take(&mut self, heard: Notice) {
        let text = match heard {
            Notice::LeftOut(error) => {
                let of_all = matches!(error.cause, Cause::WrongNode { .. });
                match &mut self.waiting {
                    Some(waiting) if of_all || is_refusal(&error.cause) => waiting.push(error),
                    _ => self.left_out(error),
                }
                return;
            }
            Notice::Skew(node, ms) => {
                format!("the clock of node {node} is {} s off the others'; set it right", ms / 1000)
            }
            Notice::Kept(file) => {
                format!("what has come is kept in {}; the same get goes on", file.display())
            }
            Notice::Staged(path) => {
                format!("what has been sent of {path} is kept; the same put --resume goes on")
            }
            Notice::GoesOn(path) => format!("{path}: going on with what has been sent before"),
            Notice::Resumed(path, bytes) => {
                format!("{path}: {bytes} bytes have come before; going on after them")
            }
        };
        self.say(text);
    }

    fn left_out(&mut self, error: NodeError) {
        self.say(format!("{error}; left out"));
        if verbosity() >= Verbosity::Normal && !self.nodes.contains(&error) {
            self.nodes.push(error);
        }
    }

    fn say(&mut self, text: String) {
        if !self.texts.contains(&text) {
            notice(&text);
            self.texts.insert(text);
        }
    }
}
