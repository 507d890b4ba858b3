//! Exit codes, and which error has which.

use std::io::ErrorKind;
use std::process::ExitCode;

use super::heard::text_of;
use super::talk::{complain, tell};
use crate::Error;

/// What scripts see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Ok = 0,
    /// A failure with no code of its own.
    Other = 1,
    /// Usage, configuration, or a bad remote path.
    Usage = 2,
    /// No such file.
    NotFound = 3,
    /// User or password refused.
    Credentials = 4,
    /// Not enough nodes.
    Nodes = 5,
    /// Corrupt or lost data.
    Corrupt = 6,
    /// It may have taken effect or not.
    Unknown = 7,
    /// Some of several files failed.
    Some = 8,
    /// Stopped by the user.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Config(_) | Error::WrongNode { .. } | Error::Name { .. } => Self::Usage,
            Error::NotFound { .. } => Self::NotFound,
            Error::Credentials => Self::Credentials,
            Error::Unavailable { .. }
            | Error::Quota { .. }
            | Error::Incomplete { .. }
            | Error::Unconfirmed { .. } => Self::Nodes,
            Error::Corrupt { .. } => Self::Corrupt,
            Error::Unknown { .. } => Self::Unknown,
            Error::Interrupted => Self::Interrupted,
            Error::Refused { .. }
            | Error::NotAllowed { .. }
            | Error::Changed { .. }
            | Error::Replaced { .. }
            | Error::Range { .. }
            | Error::TooLarge { .. }
            | Error::Manifest { .. }
            | Error::Local { .. } => Self::Other,
        }
    }
}

/// Tells people an error and returns its code.
pub(super) fn report(error: &Error) -> Exit {
    match error {
        // The words of the original, as they are.
        Error::Credentials => tell(&error.to_string()),
        Error::Local { source, .. } if source.kind() == ErrorKind::BrokenPipe => {}
        _ => complain(&text_of(error)),
    }
    error.into()
}

/// Sums up what became of several files.
pub(super) fn sum_up(exits: &[Exit]) -> Exit {
    let failed: Vec<Exit> = exits.iter().copied().filter(|exit| *exit != Exit::Ok).collect();
    match failed[..] {
        [] => Exit::Ok,
        _ if failed.contains(&Exit::Interrupted) => Exit::Interrupted,
        [first, ..] if failed.len() == exits.len() && failed.iter().all(|exit| *exit == first) => {
            first
        }
        _ => Exit::Some,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_are_summed_up() {
        assert_eq!(sum_up(&[]), Exit::Ok);
        assert_eq!(sum_up(&[Exit::Ok, Exit::Ok]), Exit::Ok);
        assert_eq!(sum_up(&[Exit::NotFound]), Exit::NotFound);
        assert_eq!(sum_up(&[Exit::Nodes, Exit::Nodes]), Exit::Nodes);
        assert_eq!(sum_up(&[Exit::Ok, Exit::Nodes]), Exit::Some);
        assert_eq!(sum_up(&[Exit::NotFound, Exit::Nodes]), Exit::Some);
        assert_eq!(sum_up(&[Exit::Ok, Exit::Interrupted]), Exit::Interrupted);
    }
}
