//! Finding chunk files without an index: each says itself what it is.

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

/// The chunk files under a data directory, those in quarantine too, as far as their headers can
/// be read. What directories cannot be read is passed over.
pub(crate) fn find(root: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut dirs = vec![root.join(CHUNKS), root.join(QUARANTINE)];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let file = entry.path();
                    if let Ok((header, _)) = ChunkReader::open(&file) {
                        found.push(Found { file, header });
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// Whether this is a data directory at all, by what is in it.
pub(crate) fn looks_like_data(root: &Path) -> io::Result<bool> {
    Ok(fs::metadata(root)?.is_dir() && root.join(CHUNKS).is_dir())
}
