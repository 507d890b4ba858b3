//! Keys and values of the index, byte by byte.
//!
//! All numbers are big-endian; `version` is drawn in [`crate::codec`]. Neither user names nor
//! paths have a NUL, so keys sort by user, then by path in byte order.
//!
//! ```text
//! keyspace paths: USER NUL PATH                 keyspace chunks: USER NUL UPLOAD(16) CHUNK(1)
//!   1  format version: 1                          1  format version: 1
//!   1  1 confirmed, 0 not                         1  1 data follows, 2 it is in a file
//!   1  chunks held, a mask                        8  length of the chunk
//!   …  version                                    4  CRC32C of the chunk
//!                                                 2  length of the path, then it
//! keyspace uploads: USER NUL PATH NUL UPLOAD(16)  …  the data, if it follows
//!   1  format version: 1
//!   1  1 prepared, 2 fenced, 3 superseded      keyspace meta: "node"
//!   1  chunks held, a mask                        1  format version: 1
//!   8  in this state since, ms since 1970        16  incarnation
//!   …  version, if superseded                  keyspace meta: "peer" POSITION(1)
//!                                                 1  format version: 1
//! keyspace meta: "group"                         16  incarnation
//!   1  format version: 1                          8  boot counter
//!   8  number of the last group of changes       8  nonce of that start
//!                                                 8  last group of changes heard of
//!
//! keyspace meta: "scrub"
//!   1  format version: 1
//!   8  last completed, ms since 1970
//!   …  key of the last chunk read, if any
//! ```

use bytes::Bytes;
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Crc32c;
use dfs_proto::identity::Boot;
use dfs_proto::manifest::{ChunkSum, Incarnation, Record, UploadId};
use dfs_proto::name::{FilePath, UserName};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::{Current, Upload, UploadState};

use crate::chunk_key::ChunkKey;
use crate::codec::{CodecError, Input, VersionHead, length16, put_version, version, version_head};

const FORMAT: u8 = 1;
const ID_BYTES: usize = 16;

/// The key of the sentinel row.
pub(crate) const NODE_KEY: &[u8] = b"node";

/// The key of the number of the last group. Every other key but those in `meta` has a NUL.
pub(crate) const GROUP_KEY: &[u8] = b"group";

/// What the index holds of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) path: FilePath,
    pub(crate) sum: ChunkSum,
    /// The bytes of a small chunk; those of a large one are in a file.
    pub(crate) inline: Option<Bytes>,
}

/// What the index remembers of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: Boot,
    /// The largest number of a durable group of its changes that was heard of.
    pub(crate) group: u64,
}

pub(crate) fn user_prefix(user: &UserName) -> Vec<u8> {
    [user.as_str().as_bytes(), &[0]].concat()
}

pub(crate) fn path_key(user: &UserName, path: &str) -> Vec<u8> {
    [user.as_str().as_bytes(), &[0], path.as_bytes()].concat()
}

/// What all upload keys of one path start with.
pub(crate) fn uploads_prefix(user: &UserName, path: &FilePath) -> Vec<u8> {
    let (user, path) = (user.as_str().as_bytes(), path.as_str().as_bytes());
    [user, &[0], path, &[0]].concat()
}

pub(crate) fn upload_key(user: &UserName, path: &FilePath, upload: UploadId) -> Vec<u8> {
    let mut key = uploads_prefix(user, path);
    key.extend(upload.bytes());
    key
}

pub(crate) fn chunk_key(key: &ChunkKey) -> Vec<u8> {
    let user = key.user.as_str().as_bytes();
    [user, &[0], key.upload.bytes(), &[key.chunk.get()]].concat()
}

/// The key of the row in which the scrub remembers where it is.
pub(crate) const SCRUB_KEY: &[u8] = b"scrub";

pub(crate) fn peer_key(node: NodeId) -> Vec<u8> {
    [b"peer", &[node.get()][..]].concat()
}

/// The path in a key of `paths`, given what the key starts with.
pub(crate) fn path_of_key(key: &[u8], user_prefix: &[u8]) -> Result<FilePath, CodecError> {
    let path = key.strip_prefix(user_prefix);
    path.and_then(|path| FilePath::from_bytes(path).ok()).ok_or(CodecError::Value("path"))
}

/// The parts of a key of `paths`.
pub(crate) fn read_path_key(key: &[u8]) -> Result<(UserName, FilePath), CodecError> {
    let text = std::str::from_utf8(key).map_err(|_| CodecError::Value("key"))?;
    let (user, path) = text.split_once('\0').ok_or(CodecError::Value("key"))?;
    Ok((
        UserName::new(user).map_err(|_| CodecError::Value("user"))?,
        FilePath::new(path).map_err(|_| CodecError::Value("path"))?,
    ))
}

/// The parts of a key of `chunks`.
pub(crate) fn read_chunk_key(key: &[u8]) -> Result<ChunkKey, CodecError> {
    let (chunk, front) = key.split_last().ok_or(CodecError::Short)?;
    let (front, upload) = front.split_last_chunk::<ID_BYTES>().ok_or(CodecError::Short)?;
    let user = front.strip_suffix(&[0]).and_then(|user| std::str::from_utf8(user).ok());
    let user = user.and_then(|user| UserName::new(user).ok()).ok_or(CodecError::Value("user"))?;
    let chunk = ChunkId::new(u32::from(*chunk)).ok_or(CodecError::Value("chunk"))?;
    Ok(ChunkKey { user, upload: UploadId::new(*upload), chunk })
}

/// The parts of a key of `uploads`.
pub(crate) fn read_upload_key(key: &[u8]) -> Result<(UserName, FilePath, UploadId), CodecError> {
    let (front, upload) = key.split_last_chunk::<ID_BYTES>().ok_or(CodecError::Short)?;
    let front = front.strip_suffix(&[0]).ok_or(CodecError::Value("key"))?;
    let text = std::str::from_utf8(front).map_err(|_| CodecError::Value("key"))?;
    let (user, path) = text.split_once('\0').ok_or(CodecError::Value("key"))?;
    Ok((
        UserName::new(user).map_err(|_| CodecError::Value("user"))?,
        FilePath::new(path).map_err(|_| CodecError::Value("path"))?,
        UploadId::new(*upload),
    ))
}

pub(crate) fn put_current(current: &Current) -> Vec<u8> {
    let mut out = vec![FORMAT, current.confirmed.into(), current.record.have.mask()];
    put_version(&mut out, &current.record.version);
    out
}

pub(crate) fn read_current(bytes: &[u8]) -> Result<Current, CodecError> {
    let mut input = Input::new(bytes);
    let (confirmed, have) = flags(&mut input)?;
    let version = version(&mut input)?;
    input.end()?;
    let record = Record { version, have };
    Ok(Current { record, confirmed })
}

/// What a listing tells of a row of `paths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CurrentHead {
    pub(crate) version: VersionHead,
    pub(crate) have: ChunkSet,
    pub(crate) confirmed: bool,
}

impl From<&Current> for CurrentHead {
    fn from(current: &Current) -> Self {
        let version = (&current.record.version).into();
        Self { version, have: current.record.have, confirmed: current.confirmed }
    }
}

/// The front of a current version; a manifest's checksums, time and notes are not looked at.
pub(crate) fn read_current_head(bytes: &[u8]) -> Result<CurrentHead, CodecError> {
    let mut input = Input::new(bytes);
    let (confirmed, have) = flags(&mut input)?;
    Ok(CurrentHead { version: version_head(&mut input)?, have, confirmed })
}

fn flags(input: &mut Input<'_>) -> Result<(bool, ChunkSet), CodecError> {
    input.version(FORMAT)?;
    let confirmed = match input.u8()? {
        0 => false,
        1 => true,
        _ => return Err(CodecError::Value("confirmed flag")),
    };
    Ok((confirmed, chunks(input)?))
}

pub(crate) fn put_upload(upload: &Upload) -> Vec<u8> {
    let state = match upload.state {
        UploadState::Prepared => 1,
        UploadState::Fenced => 2,
        UploadState::Superseded(_) => 3,
    };
    let mut out = vec![FORMAT, state, upload.have.mask()];
    out.extend(upload.since_ms.to_be_bytes());
    if let UploadState::Superseded(version) = &upload.state {
        put_version(&mut out, version);
    }
    out
}

pub(crate) fn read_upload(bytes: &[u8]) -> Result<Upload, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let state = input.u8()?;
    let have = chunks(&mut input)?;
    let since_ms = input.u64()?;
    let state = match state {
        1 => UploadState::Prepared,
        2 => UploadState::Fenced,
        3 => UploadState::Superseded(version(&mut input)?),
        _ => return Err(CodecError::Value("state")),
    };
    input.end()?;
    Ok(Upload { have, state, since_ms })
}

fn chunks(input: &mut Input<'_>) -> Result<ChunkSet, CodecError> {
    ChunkSet::from_mask(input.u8()?.into()).ok_or(CodecError::Value("set of chunks"))
}

pub(crate) fn put_chunk(entry: &ChunkEntry) -> Vec<u8> {
    let path = entry.path.as_str().as_bytes();
    let data = entry.inline.as_deref().unwrap_or_default();
    let mut out = Vec::with_capacity(16 + path.len() + data.len());
    out.extend([FORMAT, if entry.inline.is_some() { 1 } else { 2 }]);
    out.extend(entry.sum.length.to_be_bytes());
    out.extend(entry.sum.crc.get().to_be_bytes());
    out.extend(length16(path).to_be_bytes());
    out.extend(path);
    out.extend(data);
    out
}

/// Reads a chunk entry; its data shares the memory of `bytes`.
pub(crate) fn read_chunk(bytes: &Bytes) -> Result<ChunkEntry, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let place = input.u8()?;
    let sum = ChunkSum { length: input.u64()?, crc: Crc32c::new(input.u32()?) };
    let length = input.u16()?;
    let path =
        FilePath::from_bytes(input.take(length.into())?).map_err(|_| CodecError::Value("path"))?;
    let inline = match place {
        1 => {
            let data = input.rest();
            if u64::try_from(data.len()) != Ok(sum.length) {
                return Err(CodecError::Value("length"));
            }
            Some(bytes.slice_ref(data))
        }
        2 => {
            input.end()?;
            None
        }
        _ => return Err(CodecError::Value("place")),
    };
    Ok(ChunkEntry { path, sum, inline })
}

pub(crate) fn put_node(incarnation: Incarnation) -> Vec<u8> {
    [&[FORMAT][..], incarnation.bytes()].concat()
}

pub(crate) fn read_node(bytes: &[u8]) -> Result<Incarnation, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let incarnation = Incarnation::new(input.array()?);
    input.end()?;
    Ok(incarnation)
}

pub(crate) fn put_group(group: u64) -> Vec<u8> {
    [&[FORMAT][..], &group.to_be_bytes()].concat()
}

pub(crate) fn read_group(bytes: &[u8]) -> Result<u64, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let group = input.u64()?;
    input.end()?;
    Ok(group)
}

pub(crate) fn put_peer(peer: &Peer) -> Vec<u8> {
    let Boot { count, nonce } = peer.boot;
    let boot = [count.to_be_bytes(), nonce.to_be_bytes()].concat();
    [&[FORMAT][..], peer.incarnation.bytes(), &boot, &peer.group.to_be_bytes()].concat()
}

pub(crate) fn read_peer(bytes: &[u8]) -> Result<Peer, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let incarnation = Incarnation::new(input.array()?);
    let boot = Boot { count: input.u64()?, nonce: input.u64()? };
    let peer = Peer { incarnation, boot, group: input.u64()? };
    input.end()?;
    Ok(peer)
}

/// Where the scrub is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScrubPlace {
    /// When it last had read everything, milliseconds since 1970; 0: never.
    pub(crate) completed_ms: u64,
    /// The last chunk that this round has read; `None` at its beginning.
    pub(crate) after: Option<ChunkKey>,
}

pub(crate) fn put_scrub(place: &ScrubPlace) -> Vec<u8> {
    let key = place.after.as_ref().map(chunk_key).unwrap_or_default();
    [&[FORMAT][..], &place.completed_ms.to_be_bytes(), &key].concat()
}

pub(crate) fn read_scrub(bytes: &[u8]) -> Result<ScrubPlace, CodecError> {
    let mut input = Input::new(bytes);
    input.version(FORMAT)?;
    let completed_ms = input.u64()?;
    let key = input.rest();
    let after = (!key.is_empty()).then(|| read_chunk_key(key)).transpose()?;
    Ok(ScrubPlace { completed_ms, after })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::versions;
    use proptest::prelude::*;

    fn states() -> impl Strategy<Value = UploadState> {
        prop_oneof![
            Just(UploadState::Prepared),
            Just(UploadState::Fenced),
            versions().prop_map(UploadState::Superseded),
        ]
    }

    fn have(mask: u32) -> ChunkSet {
        ChunkSet::from_mask(mask).unwrap()
    }

    proptest! {
        #[test]
        fn rows_survive(version in versions(), mask in 0u32..16, confirmed: bool) {
            let current = Current { record: Record { version, have: have(mask) }, confirmed };
            let row = put_current(&current);
            prop_assert_eq!(read_current_head(&row), Ok((&current).into()));
            prop_assert_eq!(read_current(&row), Ok(current));
        }

        #[test]
        fn uploads_survive(state in states(), mask in 0u32..16, since_ms: u64) {
            let upload = Upload { have: have(mask), state, since_ms };
            prop_assert_eq!(read_upload(&put_upload(&upload)), Ok(upload));
        }

        #[test]
        fn chunks_survive(
            path in "[a-zü]{1,99}", data in prop::option::of(any::<Vec<u8>>()), crc: u32,
        ) {
            let length = data.as_ref().map_or(1 << 40, |data| data.len() as u64);
            let entry = ChunkEntry {
                path: FilePath::new(path).unwrap(),
                sum: ChunkSum { length, crc: Crc32c::new(crc) },
                inline: data.map(Bytes::from),
            };
            prop_assert_eq!(read_chunk(&put_chunk(&entry).into()), Ok(entry));
        }

        #[test]
        fn keys_survive(user in "[a-z][a-z.]{0,9}", path in "[a-z ]{1,20}(/[a-zü]{1,20}){0,3}",
            upload: [u8; 16]) {
            let (user, path) = (UserName::new(user).unwrap(), FilePath::new(path).unwrap());
            let upload = UploadId::new(upload);
            let key = upload_key(&user, &path, upload);
            prop_assert_eq!(read_upload_key(&key), Ok((user.clone(), path.clone(), upload)));
            let key = path_key(&user, path.as_str());
            prop_assert_eq!(path_of_key(&key, &user_prefix(&user)), Ok(path.clone()));
            prop_assert_eq!(read_path_key(&key), Ok((user.clone(), path)));
            for chunk in ChunkId::ALL {
                let key = ChunkKey { user: user.clone(), upload, chunk };
                prop_assert_eq!(read_chunk_key(&chunk_key(&key)), Ok(key.clone()));
                let place = ScrubPlace { completed_ms: 7, after: Some(key) };
                prop_assert_eq!(read_scrub(&put_scrub(&place)), Ok(place));
            }
            let begin = ScrubPlace::default();
            prop_assert_eq!(read_scrub(&put_scrub(&begin)), Ok(begin));
        }

        #[test]
        fn any_bytes_are_read_or_refused(front in 0u8..4, bytes: Vec<u8>) {
            for bytes in [bytes.clone(), [&[FORMAT, front][..], &bytes].concat()] {
                if let Ok(current) = read_current(&bytes) {
                    assert_eq!(read_current_head(&bytes), Ok((&current).into()));
                }
                let _ = read_current_head(&bytes);
                let _ = read_upload(&bytes);
                let _ = read_chunk(&Bytes::copy_from_slice(&bytes));
                let _ = read_node(&bytes);
                let _ = read_peer(&bytes);
                let _ = read_upload_key(&bytes);
            }
        }
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert_eq!(read_peer(&[2; 25]), Err(CodecError::Version(2)));
        assert_eq!(read_current(&[9]), Err(CodecError::Version(9)));
    }
}
