//! Progress bars on a terminal, nothing in a pipe.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Progress;

/// Files shorter than this show no bar, in bytes: it would only flicker.
const MIN_BYTES: u64 = 4 << 20;

/// How often the bar is drawn, also while nothing moves.
const REDRAW: Duration = Duration::from_millis(200);

/// One bar over all files of a command.
#[derive(Clone)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Starts a bar over `total` bytes, if somebody looks.
    pub(super) fn start(total: u64, what: &str) -> Self {
        if total < MIN_BYTES || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}",
        );
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(REDRAW);
        Self(Some(bar))
    }

    /// What the client reports to.
    pub(super) fn handle(&self) -> Option<Arc<dyn Progress>> {
        self.0.is_some().then(|| Arc::new(self.clone()) as Arc<dyn Progress>)
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }
}
