//! Progress bars on a terminal, nothing in a pipe.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::talk::{Verbosity, verbosity};
use crate::Progress;

/// Files shorter than this show no bar, in bytes: it would only flicker.
const MIN_BYTES: u64 = 4 << 20;

/// How often the bar is drawn, also while nothing moves.
const REDRAW: Duration = Duration::from_millis(200);

/// One bar over all files of a command.
#[derive(Clone)]
pub(super) struct Bar(Option<Arc<Shown>>);

struct Shown {
    what: String,
    bar: OnceLock<Option<ProgressBar>>,
}

impl Bar {
    /// Starts a bar over `total` bytes, if somebody looks.
    pub(super) fn start(total: u64, what: &str) -> Self {
        let bar = Self::later(what);
        bar.show(total);
        bar
    }

    /// A bar that starts when the length is known.
    pub(super) fn later(what: &str) -> Self {
        let shown = || Arc::new(Shown { what: what.to_owned(), bar: OnceLock::new() });
        let wanted = verbosity() >= Verbosity::Normal && std::io::stderr().is_terminal();
        Self(wanted.then(shown))
    }

    /// No bar: it is over before one is drawn.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// A bar over what is not known yet and grows.
    pub(super) fn growing(what: &str) -> Self {
        let bar = Self::later(what);
        if let Some(shown) = &bar.0 {
            shown.bar.get_or_init(|| Some(draw(0, &shown.what)));
        }
        bar
    }

    /// A number that grows, with no end known.
    pub(super) fn counting(what: &str) -> Self {
        let bar = Self::later(what);
        if let Some(shown) = &bar.0 {
            shown.bar.get_or_init(|| {
                let style = ProgressStyle::with_template("{spinner} {msg}: {pos} paths");
                let spinner = ProgressBar::no_length().with_message(shown.what.clone());
                spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                spinner.enable_steady_tick(REDRAW);
                Some(spinner)
            });
        }
        bar
    }

    /// Shows a number.
    pub(super) fn count(&self, number: u64) {
        if let Some(bar) = self.bar() {
            bar.set_position(number);
        }
    }

    /// Prints something while the bar steps aside.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match self.bar() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn show(&self, total: u64) {
        if let Some(shown) = &self.0 {
            shown.bar.get_or_init(|| (total >= MIN_BYTES).then(|| draw(total, &shown.what)));
        }
    }

    fn bar(&self) -> Option<&ProgressBar> {
        self.0.as_ref()?.bar.get()?.as_ref()
    }

    /// What the client reports to.
    pub(super) fn handle(&self) -> Option<Arc<dyn Progress>> {
        self.0.is_some().then(|| Arc::new(self.clone()) as Arc<dyn Progress>)
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = self.bar() {
            bar.finish_and_clear();
        }
    }
}

fn draw(total: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}",
    );
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REDRAW);
    bar
}

impl Progress for Bar {
    fn start(&self, total: u64) {
        self.show(total);
    }

    fn grow(&self, bytes: u64) {
        if let Some(bar) = self.bar() {
            bar.inc_length(bytes);
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar() {
            bar.inc(bytes);
        }
    }
}
