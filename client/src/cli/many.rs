//! Several files in one command: a bounded number at once, each told on its own.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::unix::ffi::OsStrExt;

use futures_util::stream::{self, StreamExt};

use tokio_util::sync::CancellationToken;

use super::exit::{Exit, report, sum_up};
use crate::{Error, FilePath};

/// Small files at once.
const AT_ONCE: usize = 64;
/// Files at once of up to [`TINY`] bytes: while a batch of them is written others are asked for.
const TINY_AT_ONCE: usize = 192;
const TINY: u64 = 64 << 10;

/// Runs one job per file and sums up. Every error is told; after an interruption no job is
/// started any more, and that is told once.
pub(super) async fn run<T, F, Fut>(
    cancel: &CancellationToken,
    files: impl IntoIterator<Item = T>,
    at_once: usize,
    job: F,
) -> Exit
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let job = &job;
    let exits: Vec<Exit> = stream::iter(files)
        .map(|file| async move {
            if cancel.is_cancelled() {
                return Exit::Interrupted;
            }
            match job(file).await {
                Ok(()) => Exit::Ok,
                Err(Error::Interrupted) => Exit::Interrupted,
                Err(error) => report(&error),
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    if exits.contains(&Exit::Interrupted) {
        return report(&Error::Interrupted);
    }
    sum_up(&exits)
}

/// How many files of this mean length to move at once: many small ones, few large ones.
pub(super) fn at_once(files: usize, bytes: u64) -> usize {
    const LARGE: u64 = 1 << 20;
    match bytes.checked_div(files as u64) {
        Some(mean) if mean > 16 * LARGE => 2,
        Some(mean) if mean > LARGE => 8,
        Some(mean) if mean > TINY => AT_ONCE,
        _ => TINY_AT_ONCE,
    }
}

/// A remote path as the user typed it.
pub(super) fn remote_path(text: &OsStr) -> Result<FilePath, Error> {
    FilePath::from_bytes(text.as_bytes())
        .map_err(|source| Error::Name { path: text.to_string_lossy().into_owned(), source })
}

/// A remote folder as the user typed it, without the slash at its end; `None` is `/`, which holds
/// everything.
pub(super) fn remote_folder(text: &OsStr) -> Result<Option<FilePath>, Error> {
    let bytes = text.as_bytes();
    match bytes.strip_suffix(b"/") {
        Some(b"") => Ok(None),
        Some(bytes) => remote_path(OsStr::from_bytes(bytes)).map(Some),
        None => remote_path(text).map(Some),
    }
}

/// `folder/name`, or `name` without a folder.
pub(super) fn under(folder: Option<&FilePath>, name: &OsStr) -> Result<FilePath, Error> {
    match folder {
        None => remote_path(name),
        Some(folder) => {
            let mut path = OsString::from(folder.as_str());
            path.push("/");
            path.push(name);
            remote_path(&path)
        }
    }
}
