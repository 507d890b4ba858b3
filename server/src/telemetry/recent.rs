//! The last warnings and errors of this node, for its status page.
//!
//! A layer of `tracing` that keeps what was said, where and when. Of an event's fields only
//! those of a short list are kept: names of files and users are not among them, and where an
//! error's text repeats one that came with the same event it is taken out.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::TELEMETRY;
use crate::clock::now_ms;

/// Events that are remembered.
const KEPT: usize = 50;
/// Longest text that is kept of an event, in characters.
const LONGEST: usize = 300;
/// Fields that may be shown.
const SHOWN: [&str; 16] = [
    "node", "chunk", "block", "upload", "error", "reason", "meeting", "address", "peer", "method",
    "limit", "tasks", "staged", "unknown", "foreign", "id",
];
/// Fields whose values must not be shown, wherever they are.
const HIDDEN: [&str; 2] = ["path", "user"];

/// Held for a push or a copy of what is kept.
static RECENT: Mutex<VecDeque<Noted>> = Mutex::new(VecDeque::new());

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Milliseconds since 1970 at which it was last said.
    pub(crate) at_ms: u64,
    /// Whether it is an error.
    pub(crate) is_error: bool,
    pub(crate) text: String,
    /// How often it was said in a row.
    pub(crate) times: u64,
}

/// The last warnings and errors, the newest first.
pub(crate) fn recent() -> Vec<Noted> {
    noted().iter().rev().cloned().collect()
}

fn noted() -> MutexGuard<'static, VecDeque<Noted>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers warnings and errors of this program.
pub(crate) struct RecentLayer;

impl<S: Subscriber> Layer<S> for RecentLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !metadata.target().starts_with("dfs") {
            return;
        }
        let is_error = *metadata.level() == Level::ERROR;
        TELEMETRY.events[usize::from(!is_error)].inc();
        let mut words = Words::default();
        event.record(&mut words);
        keep(&mut noted(), now_ms(), is_error, words.text());
    }
}

fn keep(kept: &mut VecDeque<Noted>, at_ms: u64, is_error: bool, text: String) {
    if let Some(last) = kept.back_mut().filter(|last| last.text == text) {
        last.at_ms = at_ms;
        last.times += 1;
        return;
    }
    if kept.len() >= KEPT {
        kept.pop_front();
    }
    kept.push_back(Noted { at_ms, is_error, text, times: 1 });
}

/// The words of an event.
#[derive(Default)]
struct Words {
    message: String,
    shown: Vec<(&'static str, String)>,
    hidden: Vec<String>,
}

impl Words {
    fn text(self) -> String {
        let mut text = self.message;
        for (name, mut value) in self.shown {
            for hidden in self.hidden.iter().filter(|hidden| !hidden.is_empty()) {
                value = value.replace(hidden, "…");
            }
            // Writing to a text does not fail.
            let _ = write!(text, "; {name} {value}");
        }
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn take(&mut self, field: &Field, value: &dyn fmt::Display) {
        match field.name() {
            "message" => self.message = value.to_string(),
            name if HIDDEN.contains(&name) => self.hidden.push(value.to_string()),
            name if SHOWN.contains(&name) => self.shown.push((name, value.to_string())),
            _ => {}
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn names_of_files_and_users_are_left_out() {
        let subscriber = tracing_subscriber::registry().with(RecentLayer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(
                user = %"canary-user", path = %"canary/file", chunk = 3, secret = "canary",
                error = "canary/file of canary-user: no such thing", "a chunk is bad"
            );
        });
        let found = recent().into_iter().find(|noted| noted.text.starts_with("a chunk is bad"));
        let found = found.expect("it is kept");
        assert!(found.is_error);
        assert_eq!(found.text, "a chunk is bad; chunk 3; error … of …: no such thing");
    }

    #[test]
    fn what_is_kept_has_an_end_and_repetitions_count_as_one() {
        let mut kept = VecDeque::new();
        for number in 0..200 {
            keep(&mut kept, number, false, format!("event {number}"));
        }
        assert_eq!(kept.len(), KEPT);
        keep(&mut kept, 900, false, "event 199".into());
        assert_eq!(kept.len(), KEPT);
        let last = kept.back().expect("some are kept");
        assert_eq!((last.times, last.at_ms), (2, 900));
        let words = Words { message: "x\n".repeat(1000), ..Words::default() };
        let text = words.text();
        assert_eq!(text.chars().count(), LONGEST);
        assert!(!text.contains('\n'));
    }
}
