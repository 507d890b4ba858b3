//! How long the rules take that every file or every block goes through.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, ChunkSet};
use dfs_proto::digest::{Crc32c, Md5Digest, Residue};
use dfs_proto::manifest::UploadId;
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, home_chunks, homes};
use dfs_proto::protocol::listing::{Entry, FileEntry, Listing};
use dfs_proto::tag::{Hlc, Tag};
use dfs_proto::wire::frames::Frames;
use dfs_proto::wire::page::{Row, Writer};
use dfs_proto::wire::pb;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use http_body::Body;
use prost::Message;
use tonic::Status;

fn main() {
    divan::main();
}

fn block() -> Vec<u8> {
    (0..BLOCK_BYTES).map(|byte| (byte.wrapping_mul(0x9e37_79b9) >> 8) as u8).collect()
}

/// Residue, the four ranges, and where each chunk lives.
#[divan::bench]
fn place_a_file(bencher: Bencher) {
    let digest = Md5Digest::of(b"a file");
    bencher.bench(|| {
        let x = black_box(&digest).residue();
        let size = black_box((1 << 30) + 3);
        let ranges = ChunkId::ALL.map(|chunk| chunk.range(size));
        (ranges, ChunkId::ALL.map(|chunk| homes(x, chunk)), NodeId::ALL.map(|n| home_chunks(x, n)))
    });
}

#[divan::bench]
fn checksum_of_a_block(bencher: Bencher) {
    let block = block();
    bencher.counter(BytesCount::new(BLOCK_BYTES)).bench(|| Crc32c::of(black_box(&block)));
}

#[divan::bench]
fn digest_of_a_block(bencher: Bencher) {
    let block = block();
    bencher.counter(BytesCount::new(BLOCK_BYTES)).bench(|| Md5Digest::of(black_box(&block)));
}

#[divan::bench]
fn join_two_checksums(bencher: Bencher) {
    let (a, b) = (Crc32c::of(b"a"), Crc32c::of(b"b"));
    bencher.bench(|| black_box(a).then(black_box(b), BLOCK_BYTES));
}

fn message() -> pb::PutChunkRequest {
    let data = block();
    let crc32c = Crc32c::of(&data).get();
    let block = pb::Block { chunk: 1, index: 0, crc32c, data: data.into() };
    pb::PutChunkRequest { message: Some(pb::put_chunk_request::Message::Block(block)) }
}

/// As it goes out: what is before the payload is written, the payload is passed on.
#[divan::bench]
fn encode_a_block(bencher: Bencher) {
    let bencher = bencher.counter(BytesCount::new(BLOCK_BYTES)).with_inputs(message);
    bencher.bench_values(|message| {
        let messages = tokio_stream::iter([Ok::<_, Status>(message)]);
        let (mut body, mut bytes) = (Frames::request(messages), 0);
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            bytes += frame.expect("it is encoded").data_ref().map_or(0, Bytes::len);
        }
        assert!(bytes as u64 > BLOCK_BYTES);
    });
}

#[divan::bench]
fn decode_a_block(bencher: Bencher) {
    let bytes = Bytes::from(message().encode_to_vec());
    bencher
        .counter(BytesCount::new(BLOCK_BYTES))
        .bench(|| pb::PutChunkRequest::decode(black_box(bytes.clone())).expect("it was encoded"));
}

const FILES: usize = 100_000;
const PAGE: usize = 4000;

fn entry(number: usize) -> Entry {
    Entry {
        path: FilePath::new(format!("folder/{number:06}")).expect("a path"),
        tag: Tag { hlc: Hlc::new(number as u64 + 1), writer: [7; 16] },
        confirmed: true,
        file: Some(FileEntry {
            upload: UploadId::new([3; 16]),
            size: 1024,
            x: Residue::R0,
            have: ChunkSet::ALL,
            manifest: None,
        }),
    }
}

fn row_of(entry: &Entry) -> Row<'_> {
    Row {
        path: &entry.path,
        tag: entry.tag,
        upload: UploadId::new([3; 16]),
        have: ChunkSet::ALL,
        confirmed: entry.confirmed,
        file: Some((1024, Residue::R0)),
        manifest: None,
    }
}

/// A page of a list, as a node writes it.
#[divan::bench]
fn write_a_page(bencher: Bencher) {
    let entries: Vec<Entry> = (0..PAGE).map(entry).collect();
    let rows: Vec<Row<'_>> = entries.iter().map(row_of).collect();
    bencher.counter(ItemsCount::new(PAGE)).bench(|| {
        let mut page = Writer::new(PAGE * 80);
        black_box(&rows).iter().for_each(|row| page.put(row));
        page.end(&pb::ListResponse::default())
    });
}

/// The four listings of 100,000 files, as they come in pages, into one.
#[divan::bench(sample_count = 10)]
fn merge_four_lists(bencher: Bencher) {
    let pages = || -> Vec<Vec<Entry>> {
        let starts = (0..FILES).step_by(PAGE);
        starts.map(|start| (start..start + PAGE).map(entry).collect()).collect()
    };
    let four = || NodeId::ALL.map(|_| pages().into_iter());
    bencher.counter(ItemsCount::new(FILES)).with_inputs(four).bench_values(|mut nodes| {
        let (mut merge, mut count) = (Listing::start(), 0);
        loop {
            while merge.next_file().is_some() {
                count += 1;
            }
            let wanted = merge.wants();
            if wanted.is_empty() {
                break;
            }
            for id in wanted {
                let page = nodes[id.index()].next().unwrap_or_default();
                let more = nodes[id.index()].len() > 0;
                merge.page(id, page, more);
            }
        }
        assert_eq!(count, FILES);
    });
}
