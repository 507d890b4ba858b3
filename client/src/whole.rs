//! Files that have come as a whole with the first answers: written on a thread that may block,
//! several at a time, while the next ones are being asked for.

use std::path::PathBuf;

use bytes::Bytes;
use dfs_proto::digest::Md5Hasher;
use dfs_proto::manifest::Manifest;

use crate::error::Error;
use crate::lane::Caller;
use crate::sink::{PartFile, WrongDigest};

/// Most files that one thread writes without a pause.
pub(crate) const BATCH: usize = 64;

/// A file to be written.
pub(crate) struct Whole {
    pub(crate) target: PathBuf,
    pub(crate) manifest: Manifest,
    /// All of its bytes, in their order.
    pub(crate) pieces: Vec<Bytes>,
    /// Check the MD5 first.
    pub(crate) verify: bool,
}

/// Whether it was written, or has another digest than it should.
pub(crate) type Written = Result<Result<(), WrongDigest>, Error>;

/// Writes files, and tells of all of them together: what the callers ask for next goes to the
/// nodes together then.
pub(crate) async fn write(files: Vec<(Whole, Caller<Written>)>) {
    let write = move || {
        // A caller that went away needs no answer, and no file.
        let wanted = files.into_iter().filter(|(_, caller)| !caller.is_closed());
        let written: Vec<_> = wanted.map(|(file, caller)| (file.write(), caller)).collect();
        for (written, caller) in written {
            let _ = caller.send(written);
        }
    };
    // After a panic the callers see that nobody answers.
    let _ = tokio::task::spawn_blocking(write).await;
}

impl Whole {
    fn write(&self) -> Written {
        if self.verify {
            let mut md5 = Md5Hasher::new();
            self.pieces.iter().for_each(|piece| md5.update(piece));
            let found = md5.finish();
            if found != self.manifest.md5() {
                return Ok(Err(WrongDigest(found)));
            }
        }
        PartFile::write_whole(&self.target, &self.manifest, &self.pieces).map(Ok)
    }
}
