//! What is said to people on standard error, and results on standard output.
//!
//! How much is said holds for the whole program and is set once, when the flags are known.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use super::exit::{Exit, report};
use super::style::{Role, Style};
use crate::Error;

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Errors.
    Quiet,
    /// Also what somebody should know.
    Normal,
    /// Also what is done.
    Verbose,
}

impl Verbosity {
    /// The word for it in files and the environment.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Normal => "normal",
            Self::Verbose => "verbose",
        }
    }
}

/// Set once, before anything but a mistake in the settings is told.
static MANNER: OnceLock<(Verbosity, Style)> = OnceLock::new();

/// Says how to talk from now on.
pub(super) fn set_manner(verbosity: Verbosity, style: Style) {
    // A second call is one of a test.
    let _ = MANNER.set((verbosity, style));
}

/// How much is said.
pub(super) fn verbosity() -> Verbosity {
    MANNER.get().map_or(Verbosity::Normal, |(verbosity, _)| *verbosity)
}

fn style() -> Style {
    MANNER.get().map_or_else(Style::default, |(_, style)| *style)
}

/// Tells people an error.
pub(super) fn complain(message: &str) {
    tell(&format!("{} {message}", style().paint(Role::Bad, "dfsctl:")));
}

/// Tells people something that they should know, but for which nothing failed.
pub(super) fn notice(message: &str) {
    if verbosity() >= Verbosity::Normal {
        tell(&format!("{} {message}", style().paint(Role::Warning, "dfsctl:")));
    }
}

/// Tells people what they may have meant, or could do, behind an error.
pub(super) fn tip(text: &str) {
    if verbosity() >= Verbosity::Normal {
        tell(&format!("  tip: {text}"));
    }
}

/// Tells people what is done, if they want to know.
pub(super) fn detail(message: &str) {
    if verbosity() >= Verbosity::Verbose {
        tell(&format!("{} {message}", style().paint(Role::Faint, "dfsctl:")));
    }
}

/// Writes a line to stderr; where nobody reads it any more, it is lost.
pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes a result to stdout. A reader that has gone has had enough: no mistake.
pub(super) fn say(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => report(&Error::local("write to", "stdout")(error)),
    }
}
