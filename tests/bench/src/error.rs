//! Why something could not be measured.

use std::path::Path;
use std::time::Duration;

/// One failure; it becomes a line in the table, and the other systems are measured on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call of the system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A server or a tool said no.
    #[error("{who}: {what}")]
    Refused {
        /// Who.
        who: String,
        /// What it said.
        what: String,
    },
    /// It took too long.
    #[error("{what}: not within {} s", limit.as_secs())]
    Late {
        /// What did.
        what: String,
        /// The limit.
        limit: Duration,
    },
}

impl Error {
    /// For `map_err`, where a file or a connection fails.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`, where a file fails.
    pub(crate) fn file(verb: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }

    /// An answer that is not a success.
    pub(crate) fn refused(who: impl Into<String>, what: impl ToString) -> Self {
        Self::Refused { who: who.into(), what: what.to_string() }
    }
}
