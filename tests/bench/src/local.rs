//! Local files and folders that make way for others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// How long an ext4 without a journal looks past each file that was removed before it makes a new
/// one. Work that makes many files waits as long first, and removes none.
pub(crate) const REMOVAL: Duration = Duration::from_secs(36);

/// Removes a file or a folder that may be there.
pub(crate) fn discard(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes way for another folder of this name. The old one goes with all the others at the end.
pub(crate) fn set_aside(folder: &Path) -> Result<(), Error> {
    let free = (0..).map(|n| folder.with_extension(format!("old{n}"))).find(|path| !path.exists());
    match free.filter(|_| folder.exists()) {
        Some(free) => fs::rename(folder, &free).map_err(Error::file("rename", folder)),
        None => Ok(()),
    }
}
