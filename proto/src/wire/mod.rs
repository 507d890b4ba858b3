//! The wire: generated protobuf code, its conversions to and from the rules, and the table of
//! errors. Protobuf types go no further than the modules that talk gRPC.

pub mod convert;

pub mod status;

pub mod frames;

pub mod page;

pub mod trace;

pub mod upload;

pub mod network;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// Generated from `dfs.proto`.
#[allow(missing_docs, clippy::all, rustdoc::all, unreachable_pub, reason = "generated code")]
pub mod pb {
    tonic::include_proto!("dfs.v1");

    /// The encoded descriptors of this package, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/dfs_descriptor.bin"));
}

/// The encoded descriptors of `google.rpc`'s error details, so that tools can show them.
pub const ERROR_DESCRIPTOR_SET: &[u8] = tonic_types::pb::FILE_DESCRIPTOR_SET;

/// Largest message either side takes: a block and its frame, or a full page.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Most entries in one batched request.
pub const MAX_BATCH: usize = 1000;

/// Most paths in one GetChunks.
pub const MAX_GET_PATHS: usize = 64;

/// Most data in the answer to a GetChunks of several paths, in bytes.
pub const MAX_GET_BYTES: u64 = 4 << 20;

/// Entries of a listing page when the request does not say.
pub const DEFAULT_PAGE: usize = 1000;

/// Most entries of a listing page.
pub const MAX_PAGE: usize = 10_000;

/// HTTP/2 flow-control window of a stream, in bytes: two blocks, at 100 MB/s as much as is under way
/// in 20 ms. With 8 MiB a put of 1 GiB took a quarter longer, for what waits in memory has left the
/// processor's cache, and a node with eight of them at once 64 MiB more.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// HTTP/2 flow-control window of a connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Largest HTTP/2 frame, in bytes: a block with its header goes out in two.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;
