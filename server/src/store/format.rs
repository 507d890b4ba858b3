//! A chunk file, byte by byte.
//!
//! ```text
//! 0        8  magic "dfschunk"
//! 8        2  format version: 1
//! 10       2  0
//! 12       4  length F of the fields
//! 16       4  CRC32C of the fields
//! 20       F  fields: 8   time of writing, ms since 1970
//!                     16  upload id
//!                     1   chunk, 1..4
//!                     1   length of the user name, then it
//!                     2   length of the path, then it
//!                     …   manifest, as drawn in `crate::codec`
//! …           0 up to D, the first multiple of 4096 that is not less than 20 + F
//! D        L  the chunk; the manifest has its length L
//! D+L     4n  CRC32C of each of its n blocks of 1 MiB, the last one shorter
//! D+L+4n   4  CRC32C of those 4n bytes
//! ```
//!
//! All numbers are big-endian. A file says itself what it is: an index that was lost can be
//! made again from the files, as far as large chunks go.

use dfs_proto::chunk::{ChunkId, block_count};
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{ChunkSum, Manifest, UploadId};
use dfs_proto::name::{FilePath, UserName};

use crate::chunk_key::ChunkKey;
use crate::codec::{self, CodecError, Input, length8, length16};

const MAGIC: &[u8; 8] = b"dfschunk";
const FORMAT: u16 = 1;
/// Length of what is in front of the fields, in bytes.
pub(super) const PREAMBLE_BYTES: usize = 20;
/// Data starts at a multiple of this.
const ALIGNMENT: usize = 4096;
/// Longer fields cannot be right: a path, a user and a manifest with all its metadata fit.
const MAX_FIELD_BYTES: usize = 1 << 16;

/// What a chunk file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: ChunkKey,
    pub(crate) path: FilePath,
    pub(crate) manifest: Manifest,
    pub(crate) written_ms: u64,
}

impl Header {
    /// Length and checksum of the chunk.
    pub(crate) fn sum(&self) -> ChunkSum {
        self.manifest.chunk(self.key.chunk)
    }

    /// The bytes in front of the data.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        fields.extend(self.written_ms.to_be_bytes());
        fields.extend(self.key.upload.bytes());
        fields.push(self.key.chunk.get());
        let (user, path) = (self.key.user.as_str(), self.path.as_str());
        fields.push(length8(user.as_bytes()));
        fields.extend(user.as_bytes());
        fields.extend(length16(path.as_bytes()).to_be_bytes());
        fields.extend(path.as_bytes());
        codec::put_manifest(&mut fields, &self.manifest);

        let length = u32::try_from(fields.len()).expect("the fields are shorter than 64 KiB");
        let mut out = Vec::with_capacity(data_offset(fields.len()));
        out.extend(MAGIC);
        out.extend(FORMAT.to_be_bytes());
        out.extend([0; 2]);
        out.extend(length.to_be_bytes());
        out.extend(Crc32c::of(&fields).get().to_be_bytes());
        out.extend(&fields);
        out.resize(data_offset(fields.len()), 0);
        out
    }

    /// Reads the fields that a preamble announced.
    pub(super) fn decode(preamble: &Preamble, fields: &[u8]) -> Result<Self, CodecError> {
        if Crc32c::of(fields) != preamble.crc {
            return Err(CodecError::Value("header checksum"));
        }
        let mut input = Input::new(fields);
        let written_ms = input.u64()?;
        let upload = UploadId::new(input.array()?);
        let chunk = ChunkId::new(input.u8()?.into()).ok_or(CodecError::Value("chunk"))?;
        let length = input.u8()?;
        let user = UserName::new(input.text(length.into(), "user")?)
            .map_err(|_| CodecError::Value("user"))?;
        let length = input.u16()?;
        let path = FilePath::new(input.text(length.into(), "path")?)
            .map_err(|_| CodecError::Value("path"))?;
        let manifest = codec::manifest(&mut input)?;
        input.end()?;
        Ok(Self { key: ChunkKey { user, upload, chunk }, path, manifest, written_ms })
    }
}

/// The fixed front of a chunk file.
pub(super) struct Preamble {
    pub(super) field_bytes: usize,
    crc: Crc32c,
}

impl Preamble {
    pub(super) fn decode(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Self, CodecError> {
        let mut input = Input::new(bytes);
        if input.array()? != *MAGIC {
            return Err(CodecError::Value("magic"));
        }
        match input.u16()? {
            FORMAT => {}
            other => {
                return Err(CodecError::Version(u8::try_from(other).unwrap_or(u8::MAX)));
            }
        }
        input.u16()?;
        let field_bytes = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
        if field_bytes > MAX_FIELD_BYTES {
            return Err(CodecError::Value("header length"));
        }
        let crc = Crc32c::new(input.u32()?);
        Ok(Self { field_bytes, crc })
    }

    /// Where the data starts.
    pub(super) fn data_offset(&self) -> u64 {
        u64::try_from(data_offset(self.field_bytes)).expect("a header is short")
    }
}

fn data_offset(field_bytes: usize) -> usize {
    (PREAMBLE_BYTES + field_bytes).next_multiple_of(ALIGNMENT)
}

/// Length of the trailer of a chunk of `length` bytes.
pub(super) fn trailer_bytes(length: u64) -> u64 {
    4 * block_count(length) + 4
}

/// The bytes behind the data.
pub(super) fn encode_trailer(blocks: &[Crc32c]) -> Vec<u8> {
    let mut out: Vec<u8> = blocks.iter().flat_map(|crc| crc.get().to_be_bytes()).collect();
    out.extend(Crc32c::of(&out).get().to_be_bytes());
    out
}

/// Reads the checksums of the blocks.
pub(super) fn decode_trailer(bytes: &[u8]) -> Result<Vec<Crc32c>, CodecError> {
    let (sums, own) = bytes.split_last_chunk::<4>().ok_or(CodecError::Short)?;
    if Crc32c::of(sums).get() != u32::from_be_bytes(*own) {
        return Err(CodecError::Value("trailer checksum"));
    }
    if sums.len() % 4 != 0 {
        return Err(CodecError::Value("trailer length"));
    }
    let mut input = Input::new(sums);
    (0..sums.len() / 4).map(|_| Ok(Crc32c::new(input.u32()?))).collect()
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::fuzz::decode;
    use super::*;
    use crate::codec::tests::versions;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_survive_and_damage_is_found(
            version in versions(), chunk in 1u32..=4, written_ms: u64, path in "[a-z]{1,255}",
            at: prop::sample::Index, flip in 1u8..,
        ) {
            let Some(manifest) = version.manifest().cloned() else { return Ok(()) };
            let header = Header {
                key: ChunkKey {
                    user: UserName::new("alice").unwrap(),
                    upload: version.upload,
                    chunk: ChunkId::new(chunk).unwrap(),
                },
                path: FilePath::new(path).unwrap(),
                manifest,
                written_ms,
            };
            let mut bytes = header.encode();
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            prop_assert_eq!(decode(&bytes), Ok(header.clone()));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(found) = decode(&bytes) {
                prop_assert_eq!(found, header, "only padding may differ");
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&[&MAGIC[..], &[0, 1, 0, 0, 0, 0, 0, 9], &bytes].concat());
            let _ = decode(&bytes);
            let _ = decode_trailer(&bytes);
        }

        #[test]
        fn trailers_survive(sums: Vec<u32>) {
            let sums: Vec<Crc32c> = sums.into_iter().map(Crc32c::new).collect();
            prop_assert_eq!(decode_trailer(&encode_trailer(&sums)), Ok(sums));
        }
    }
}
