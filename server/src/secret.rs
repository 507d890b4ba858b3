//! Reading files that hold secrets: keys, the cluster's secret, the hashes of passwords. One
//! that others can read is no secret, and not used.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file that is taken.
const MAX_BYTES: u64 = 64 << 20;

/// Why a file with a secret is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{}: others can read or change it (mode {mode:04o}) and it holds secrets; run 'chmod \
         600 {}'", path.display(), path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
}

impl SecretError {
    /// Whether the file is not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a text that nobody but its owner can read. A group may where the owner is root: so
/// secrets are mounted into containers.
pub(crate) fn read(path: &Path) -> Result<String, SecretError> {
    let wrong = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrong)?;
    // Of the open file: the name may mean another one by now.
    let found = file.metadata().map_err(wrong)?;
    let allowed = if found.uid() == 0 { 0o740 } else { 0o700 };
    let mode = found.mode() & 0o777;
    if mode & !allowed != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

/// From now on nobody but its owner can read what this process writes, whoever of its libraries
/// writes it.
pub(crate) fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_read_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read(&path).unwrap_err().is_absent());
        write(&path, "s").unwrap();
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o644, false), (0o604, false), (0o620, false)]
        {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), good, "{mode:o}");
        }
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0620") && error.contains("chmod 600"), "{error}");
    }
}
