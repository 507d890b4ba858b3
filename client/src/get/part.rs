//! GET of some bytes of a file: of each chunk only the blocks that they are in, in order.

use std::ops::Range;
use std::sync::Arc;

use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, block_range};
use dfs_proto::manifest::{Manifest, UploadId, Version};
use dfs_proto::name::FilePath;

use super::{Get, GetOptions, GetReport, Here};
use crate::error::Error;
use crate::look::Look;
use crate::nodes::Nodes;
use crate::range::ByteRange;
use crate::sink::StreamSink;

pub(crate) async fn get_range(
    nodes: &Arc<Nodes>,
    path: FilePath,
    range: ByteRange,
    stream: Box<dyn std::io::Write + Send>,
    options: GetOptions,
) -> Result<GetReport, Error> {
    let cancel = options.cancel.clone();
    let read = Get::start(nodes, path, options);
    tokio::select! {
        report = run(read, range, stream) => report,
        () = cancel.cancelled() => Err(Error::Interrupted),
    }
}

async fn run(
    mut read: Get,
    range: ByteRange,
    stream: Box<dyn std::io::Write + Send>,
) -> Result<GetReport, Error> {
    let mut sink = StreamSink::new(stream, false);
    let mut failed: Option<(UploadId, Error)> = None;
    loop {
        let (mut look, version, unconfirmed) = match read.decide().await {
            Err(Error::NotFound { path, .. }) if sink.began() => {
                return Err(Error::Replaced { path });
            }
            decided => decided?,
        };
        let Some(manifest) = version.manifest() else {
            return Err(Error::NotFound { path: read.path, unconfirmed });
        };
        match failed.take() {
            Some((upload, error)) if upload == version.upload => return Err(error),
            Some(_) if sink.began() => return Err(Error::Replaced { path: read.path }),
            _ => {}
        }
        let size = manifest.size();
        let Some(wanted) = range.of(size) else {
            return Err(Error::Range { path: read.path, size });
        };
        if let Some(progress) = &read.options.progress
            && !read.begun_again
        {
            progress.start(moved(manifest, &wanted));
        }
        let here = read.gather(&mut look, &version).await;
        match fetch(&read, &mut look, &version, here, &wanted, &mut sink).await {
            Ok(asked) => {
                sink.close().await?;
                read.rounds += u32::from(asked);
                let mut report = read.report(version.tag, manifest, unconfirmed);
                report.range = wanted;
                return Ok(report);
            }
            // It may have been replaced meanwhile: once more with the newest version.
            Err(error @ Error::Incomplete { .. }) if !read.begun_again => {
                read.begun_again = true;
                failed = Some((version.upload, error));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes the bytes in their order; tells whether some had to be asked for.
async fn fetch(
    read: &Get,
    look: &mut Look,
    version: &Version,
    here: Here,
    wanted: &Range<u64>,
    sink: &mut StreamSink,
) -> Result<bool, Error> {
    let Some(manifest) = version.manifest() else {
        return Ok(false);
    };
    let mut job = read.job(look, version, manifest);
    let mut asked = false;
    for chunk in ChunkId::ALL {
        let window = part(chunk, manifest.size(), wanted);
        if window.is_empty() {
            continue;
        }
        match here.iter().find(|(come, _)| *come == chunk) {
            Some((_, data)) => {
                let place = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
                sink.write(data.slice(place(window.start)..place(window.end))).await?;
                job.advance(data.len() as u64);
            }
            None => {
                asked = true;
                job.fetch_part(chunk, window, sink).await?;
            }
        }
    }
    Ok(asked)
}

/// The part of a chunk that is wanted, counted from the chunk's first byte.
fn part(chunk: ChunkId, size: u64, wanted: &Range<u64>) -> Range<u64> {
    let all = chunk.range(size);
    let within = |place: u64| place.clamp(all.start, all.end) - all.start;
    within(wanted.start)..within(wanted.end)
}

/// The blocks of a chunk that a part of it is in.
pub(super) fn blocks(part: &Range<u64>) -> Range<u64> {
    part.start / BLOCK_BYTES..part.end.div_ceil(BLOCK_BYTES)
}

/// How many bytes have to come.
fn moved(manifest: &Manifest, wanted: &Range<u64>) -> u64 {
    let of_chunk = |chunk: ChunkId| {
        let length = manifest.chunk(chunk).length;
        let part = part(chunk, manifest.size(), wanted);
        let blocks = if part.is_empty() { 0..0 } else { blocks(&part) };
        let bytes = |block| block_range(length, block);
        blocks.map(|block| bytes(block).end - bytes(block).start).sum::<u64>()
    };
    ChunkId::ALL.into_iter().map(of_chunk).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::chunk::block_count;

    #[test]
    fn every_range_is_cut_into_parts_of_chunks_that_make_it_up() {
        for size in [1, 3, 4, 5, 8, 4 * BLOCK_BYTES + 3] {
            let places = [0, 1, 2, size / 4, size / 2, size - 1, size];
            for (start, end) in places.iter().flat_map(|a| places.map(|b| (*a, b))) {
                if start >= end || end > size {
                    continue;
                }
                let mut next = start;
                for chunk in ChunkId::ALL {
                    let part = part(chunk, size, &(start..end));
                    if !part.is_empty() {
                        let first = chunk.range(size).start;
                        assert_eq!(first + part.start, next, "{size} {start}..{end}");
                        next = first + part.end;
                        let blocks = blocks(&part);
                        assert!(blocks.end <= block_count(chunk.range(size).end - first));
                        assert!(blocks.start * BLOCK_BYTES <= part.start);
                        assert!(part.end <= blocks.end * BLOCK_BYTES);
                    }
                }
                assert_eq!(next, end, "{size} {start}..{end}");
            }
        }
    }
}
