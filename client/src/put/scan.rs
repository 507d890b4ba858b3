//! The first pass over what is put: its MD5, its checksums and with them its manifest.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use dfs_proto::manifest::{EXPIRES, Manifest};
use dfs_proto::name::FilePath;

use super::{Input, PutOptions};
use crate::error::Error;
use crate::nodes::Nodes;
use crate::source::{Source, Sums, shown};
use crate::upload::{PASSES, Traffic, Upload};

/// What is in memory and up to this long is summed up where it is, in bytes: that takes 0.1 ms.
const SHORT_BYTES: usize = 64 << 10;

/// Pass one, on a blocking thread: one of a few, but for a stream, which may take its time. What is
/// short and in memory takes less than it would to hand it over.
pub(super) async fn prepare(
    nodes: &Nodes,
    path: FilePath,
    input: Input<'_>,
    options: PutOptions,
) -> Result<Upload, Error> {
    let short = matches!(&input, Input::Bytes(bytes) if bytes.len() <= SHORT_BYTES);
    let _turn = match &input {
        Input::Stream(_) => None,
        Input::Bytes(_) if short => None,
        Input::File(_) | Input::Bytes(_) => nodes.room().to_scan().await,
    };
    let local = match &input {
        Input::File(local) => Some((*local).to_owned()),
        Input::Bytes(_) | Input::Stream(_) => None,
    };
    let bytes = match input {
        Input::Bytes(bytes) => Ok(bytes),
        Input::File(_) => Err(None),
        Input::Stream(stream) => Err(Some(stream)),
    };
    let (id, buffers) = (nodes.next_upload(), Arc::clone(nodes.room().buffers()));
    let scan = move || -> Result<Upload, Error> {
        let (source, modified) = match (bytes, &local) {
            (Ok(bytes), _) => (Source::Bytes(bytes), SystemTime::now()),
            (Err(Some(stream)), _) => (Source::spool(stream, &buffers)?, SystemTime::now()),
            (Err(None), Some(local)) => Source::open(local, &buffers)?,
            (Err(None), None) => (Source::Bytes(Bytes::new()), SystemTime::now()),
        };
        let shown = shown(local.as_deref());
        let scanned = |bytes| {
            if let Some(progress) = &options.progress {
                progress.advance(bytes / PASSES);
            }
        };
        let (source, sums) = source.scan(&path, &shown, &scanned)?;
        let Sums { size, md5, crcs, .. } = sums;
        let modified = rfc3339(options.modified.unwrap_or(modified));
        let mut notes = options.metadata;
        notes.extend(options.expires.map(|end| (EXPIRES.to_owned(), rfc3339(end))));
        let manifest = Manifest::new(md5, size, crcs, modified, notes)
            .map_err(|source| Error::Manifest { path: path.clone(), source })?;
        Ok(Upload {
            path,
            id,
            manifest,
            source,
            sums: Arc::new(sums),
            resumed: false,
            traffic: Traffic::default(),
            progress: options.progress,
        })
    };
    if short {
        scan()
    } else {
        tokio::task::spawn_blocking(scan).await.unwrap_or(Err(Error::Interrupted))
    }
}

/// The time as it goes into a manifest.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
