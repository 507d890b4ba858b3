//! Rows and keys from any bytes: what is read has no other encoding.

use std::fmt::Debug;

use bytes::Bytes;
use dfs_proto::chunk::ChunkSet;

use super::*;

/// The first byte chooses a kind of row.
pub(crate) fn rows(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind % 7 {
        0 => only(bytes, read_current, put_current),
        1 => only(bytes, read_upload, put_upload),
        2 => only(bytes, |bytes| read_chunk(&Bytes::copy_from_slice(bytes)), put_chunk),
        3 => only(bytes, read_node, |life| put_node(*life)),
        4 => only(bytes, read_group, |group| put_group(*group)),
        5 => only(bytes, read_peer, put_peer),
        _ => only(bytes, read_scrub, put_scrub),
    }
}

/// The first byte chooses a kind of key.
pub(crate) fn keys(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind % 3 {
        0 => {
            let read = only(bytes, read_path_key, |(user, path)| path_key(user, path.as_str()));
            if let Ok((user, path)) = read_path_key(bytes) {
                assert_eq!(path_of_key(bytes, &user_prefix(&user)), Ok(path.clone()));
                assert!(uploads_prefix(&user, &path).starts_with(bytes));
            }
            read
        }
        1 => {
            if let Ok(ChunkKey { user, upload, .. }) = read_chunk_key(bytes) {
                let keys = ChunkKey::each(&user, upload, ChunkSet::ALL);
                assert!(keys.iter().any(|key| chunk_key(key) == bytes));
            }
            only(bytes, read_chunk_key, chunk_key)
        }
        _ => only(bytes, read_upload_key, |(user, path, upload)| upload_key(user, path, *upload)),
    }
}

/// Reads bytes: they are what the value is written as, and without the last one they are none.
fn only<T: Debug + PartialEq>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, CodecError>,
    put: impl Fn(&T) -> Vec<u8>,
) -> bool {
    let Ok(value) = read(bytes) else { return false };
    assert_eq!(put(&value), bytes, "{value:?}");
    if let Some((_, torn)) = bytes.split_last() {
        assert_ne!(read(torn), Ok(value), "a byte is missing");
    }
    true
}
