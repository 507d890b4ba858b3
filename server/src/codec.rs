//! Bytes on disk of what index rows and chunk headers share: manifests and versions.
//!
//! All numbers are big-endian. A text has its length in front. What is read is input:
//! lengths are checked before use and damage is an error, never a default or a panic.
//!
//! ```text
//! manifest                              version
//!   8  size of the file                   1  kind: 1 file, 2 tombstone
//!  16  MD5                                8  tag: hlc
//!  16  CRC32C of chunks 1..4             16  tag: writer
//!   1  length of modified, then it       16  upload id
//!   1  entries of metadata, then each:    …  manifest, of a file only
//!        1 length of the key, the key
//!        2 length of the value, the value
//! ```

use std::collections::BTreeMap;

use dfs_proto::digest::{Crc32c, Md5Digest, Residue};
use dfs_proto::manifest::{Content, Manifest, UploadId, Version};
use dfs_proto::tag::{Hlc, Tag};

const KIND_FILE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;

/// Why bytes from the disk could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("it ends too early")]
    Short,
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    #[error("format version {0} is not known")]
    Version(u8),
    #[error("its {0} is not valid")]
    Value(&'static str),
}

/// Bytes that are read from the front.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text of `length` bytes; `what` names it in the error.
    pub(crate) fn text(
        &mut self,
        length: usize,
        what: &'static str,
    ) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| CodecError::Value(what))
    }

    /// Refuses a format version other than `known`.
    pub(crate) fn version(&mut self, known: u8) -> Result<(), CodecError> {
        match self.u8()? {
            found if found == known => Ok(()),
            found => Err(CodecError::Version(found)),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), CodecError> {
        match self.0.len() {
            0 => Ok(()),
            more => Err(CodecError::Trailing(more)),
        }
    }
}

/// A length that its type's own limit keeps within one byte.
pub(crate) fn length8(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("names and keys are shorter than 256 bytes")
}

/// A length that its type's own limit keeps within two bytes.
pub(crate) fn length16(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("paths and values are shorter than 64 KiB")
}

pub(crate) fn put_manifest(out: &mut Vec<u8>, manifest: &Manifest) {
    out.extend(manifest.size().to_be_bytes());
    out.extend(manifest.md5().bytes());
    for chunk in dfs_proto::chunk::ChunkId::ALL {
        out.extend(manifest.chunk(chunk).crc.get().to_be_bytes());
    }
    out.push(length8(manifest.modified().as_bytes()));
    out.extend(manifest.modified().as_bytes());
    let entries = u8::try_from(manifest.metadata().len()).expect("metadata has at most 16 entries");
    out.push(entries);
    for (key, value) in manifest.metadata() {
        out.push(length8(key.as_bytes()));
        out.extend(key.as_bytes());
        out.extend(length16(value.as_bytes()).to_be_bytes());
        out.extend(value.as_bytes());
    }
}

pub(crate) fn manifest(input: &mut Input<'_>) -> Result<Manifest, CodecError> {
    let size = input.u64()?;
    let md5 = Md5Digest::new(input.array()?);
    let mut crcs = [Crc32c::default(); 4];
    for crc in &mut crcs {
        *crc = Crc32c::new(input.u32()?);
    }
    let length = input.u8()?;
    let modified = input.text(length.into(), "modification time")?.to_owned();
    let mut metadata = BTreeMap::new();
    for _ in 0..input.u8()? {
        let length = input.u8()?;
        let key = input.text(length.into(), "metadata key")?.to_owned();
        let length = input.u16()?;
        let value = input.text(length.into(), "metadata value")?.to_owned();
        // They are written in order: of two with one name neither would be the right one.
        if metadata.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(CodecError::Value("metadata"));
        }
        metadata.insert(key, value);
    }
    Manifest::new(md5, size, crcs, modified, metadata).map_err(|_| CodecError::Value("manifest"))
}

pub(crate) fn put_version(out: &mut Vec<u8>, version: &Version) {
    out.push(match version.content {
        Content::File(_) => KIND_FILE,
        Content::Tombstone => KIND_TOMBSTONE,
    });
    out.extend(version.tag.hlc.get().to_be_bytes());
    out.extend(version.tag.writer);
    out.extend(version.upload.bytes());
    if let Content::File(manifest) = &version.content {
        put_manifest(out, manifest);
    }
}

/// What a listing tells of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionHead {
    pub(crate) tag: Tag,
    pub(crate) upload: UploadId,
    /// Length and turn of a file; `None` for a tombstone.
    pub(crate) file: Option<(u64, Residue)>,
}

impl From<&Version> for VersionHead {
    fn from(version: &Version) -> Self {
        let file = version.manifest().map(|manifest| (manifest.size(), manifest.x()));
        Self { tag: version.tag, upload: version.upload, file }
    }
}

/// The front of a version; what is behind it is not looked at.
pub(crate) fn version_head(input: &mut Input<'_>) -> Result<VersionHead, CodecError> {
    let kind = input.u8()?;
    let tag = Tag { hlc: Hlc::new(input.u64()?), writer: input.array()? };
    let upload = UploadId::new(input.array()?);
    let file = match kind {
        KIND_FILE => Some((input.u64()?, Md5Digest::new(input.array()?).residue())),
        KIND_TOMBSTONE => None,
        _ => return Err(CodecError::Value("kind")),
    };
    Ok(VersionHead { tag, upload, file })
}

pub(crate) fn version(input: &mut Input<'_>) -> Result<Version, CodecError> {
    let kind = input.u8()?;
    let tag = Tag { hlc: Hlc::new(input.u64()?), writer: input.array()? };
    let upload = UploadId::new(input.array()?);
    let content = match kind {
        KIND_FILE => Content::File(manifest(input)?),
        KIND_TOMBSTONE => Content::Tombstone,
        _ => return Err(CodecError::Value("kind")),
    };
    Ok(Version { tag, upload, content })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any version that the rules allow.
    pub(crate) fn versions() -> impl Strategy<Value = Version> {
        let metadata = prop::collection::btree_map("[a-zü]{1,32}", ".{0,99}", 0..16);
        let manifest = (any::<[u8; 16]>(), 4..1u64 << 50, any::<[u32; 4]>(), metadata).prop_map(
            |(md5, size, crcs, metadata)| {
                let (md5, crcs) = (Md5Digest::new(md5), crcs.map(Crc32c::new));
                let modified = "2026-11-22T10:00:00.123456789+01:00";
                Manifest::new(md5, size, crcs, modified, metadata).unwrap()
            },
        );
        (any::<u64>(), any::<[u8; 16]>(), any::<[u8; 16]>(), prop::option::of(manifest)).prop_map(
            |(hlc, writer, upload, manifest)| Version {
                tag: Tag { hlc: Hlc::new(hlc), writer },
                upload: UploadId::new(upload),
                content: manifest.map_or(Content::Tombstone, Content::File),
            },
        )
    }

    fn read(bytes: &[u8]) -> Result<Version, CodecError> {
        let mut input = Input::new(bytes);
        let read = version(&mut input)?;
        input.end()?;
        Ok(read)
    }

    proptest! {
        #[test]
        fn versions_survive(version in versions(), cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            put_version(&mut bytes, &version);
            prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing(1)));
            prop_assert_eq!(read(&bytes), Ok(version));
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 0u8..4, bytes: Vec<u8>, tail in "[ -~]{0,80}") {
            let _ = read(&[&[kind][..], &bytes, tail.as_bytes()].concat());
        }
    }
}
