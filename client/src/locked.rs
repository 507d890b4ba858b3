//! Files that one program at a time works on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How often the file may be renamed or removed by another program while it is opened here.
const ATTEMPTS: usize = 3;

/// Opens a file, or makes it with this mode, and locks it. `None` where somebody else has the
/// lock, or where the name is taken by something that is no file.
pub(crate) fn open(path: &Path, mode: u32) -> io::Result<Option<File>> {
    for _ in 0..ATTEMPTS {
        if std::fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(mode);
        let file = options.open(path)?;
        // A file system without locks cannot tell whether somebody else is using it.
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // Who had it may have given it another name before the lock was free.
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Whether an open file has this name.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_only_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let first = open(&path, 0o600).unwrap().unwrap();
        assert!(open(&path, 0o600).unwrap().is_none());
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        let second = open(&path, 0o600).unwrap().unwrap();
        assert!(is_at(&second, &path).unwrap() && !is_at(&first, &path).unwrap());
    }
}
