//! Finding chunk files without an index: each says itself what it is.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::format::Header;
use super::reader::ChunkReader;
use super::{CHUNKS, QUARANTINE};

/// A file that says that it is a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) file: PathBuf,
    pub(crate) header: Header,
}

/// The chunk files under a data directory, those in quarantine too. `pass_over` hears of each file
/// and directory that cannot be read, and why.
pub(crate) fn find(root: &Path, pass_over: &mut dyn FnMut(&Path, &dyn Display)) -> Vec<Found> {
    let mut found = Vec::new();
    let mut dirs = vec![root.join(CHUNKS)];
    let quarantine = root.join(QUARANTINE);
    // One that is not there has nothing.
    if fs::symlink_metadata(&quarantine).is_ok() {
        dirs.push(quarantine);
    }
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => {
                pass_over(&dir, &error);
                continue;
            }
        };
        for entry in entries {
            let entry = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
            match entry {
                Ok((path, kind)) if kind.is_dir() => dirs.push(path),
                Ok((other, kind)) if !kind.is_file() => {
                    pass_over(&other, &"neither a file nor a directory");
                }
                Ok((file, _)) => match ChunkReader::open(&file) {
                    Ok((header, _)) => found.push(Found { file, header }),
                    Err(error) => pass_over(&file, &error),
                },
                Err(error) => pass_over(&dir, &error),
            }
        }
    }
    found
}

/// Whether this is a data directory at all, by what is in it.
pub(crate) fn looks_like_data(root: &Path) -> io::Result<bool> {
    Ok(fs::metadata(root)?.is_dir() && root.join(CHUNKS).is_dir())
}
