//! Manifests and records: what a version is, and what a node keeps of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::chunk::{ChunkId, ChunkSet, MAX_FILE_BYTES};
use crate::digest::{Crc32c, Md5Digest, Residue};
use crate::tag::Tag;

/// Most entries of user metadata.
pub const MAX_METADATA_ENTRIES: usize = 16;
/// Longest key of user metadata, in bytes.
pub const MAX_METADATA_KEY_BYTES: usize = 64;
/// Longest value of user metadata, in bytes.
pub const MAX_METADATA_VALUE_BYTES: usize = 1024;
/// The key of user metadata that says when a file is to go: an RFC 3339 time with a zone. A node's
/// healing removes it then.
pub const EXPIRES: &str = "dfs-expires";

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_FILE_BYTES`].
    #[error("the file has {0} bytes, at most 2^50 are allowed")]
    TooLarge(u64),
    /// A chunk's length is not what the split of the size gives.
    #[error("chunk {chunk} has {found} bytes, the size asks for {expected}")]
    ChunkLength {
        /// Which chunk.
        chunk: ChunkId,
        /// The length given.
        found: u64,
        /// The length by the split.
        expected: u64,
    },
    /// An empty chunk with a checksum other than 0.
    #[error("chunk {0} is empty but its checksum is not 0")]
    EmptyChunkSum(ChunkId),
    /// x is not the MD5 mod 4.
    #[error("x is {found}, the MD5 gives {expected}")]
    Residue {
        /// The x given.
        found: u8,
        /// The x of the MD5.
        expected: u8,
    },
    /// The modification time is not RFC 3339.
    #[error("'{0}' is no RFC 3339 time with a zone")]
    Modified(String),
    /// What stands under [`EXPIRES`] is not RFC 3339.
    #[error("'{0}' under dfs-expires is no RFC 3339 time with a zone")]
    Expires(String),
    /// Too many, too long or unprintable user metadata.
    #[error("user metadata is limited to 16 entries, keys of 1..64 and values of 0..1024 bytes")]
    Metadata,
}

/// Length and checksum of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSum {
    /// Length in bytes.
    pub length: u64,
    /// CRC32C of the chunk.
    pub crc: Crc32c,
}

/// Describes the content of one upload. Cannot contradict itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    size: u64,
    md5: Md5Digest,
    chunks: [ChunkSum; 4],
    modified: String,
    metadata: BTreeMap<String, String>,
}

impl Manifest {
    /// Takes what was found out about a file; `crcs` are those of its chunks.
    pub fn new(
        md5: Md5Digest,
        size: u64,
        crcs: [Crc32c; 4],
        modified: impl Into<String>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, ManifestError> {
        let modified = modified.into();
        if size > MAX_FILE_BYTES {
            return Err(ManifestError::TooLarge(size));
        }
        if modified.len() > 64 || modified.parse::<jiff::Timestamp>().is_err() {
            return Err(ManifestError::Modified(modified));
        }
        let fits = |(key, value): (&String, &String)| {
            (1..=MAX_METADATA_KEY_BYTES).contains(&key.len())
                && value.len() <= MAX_METADATA_VALUE_BYTES
        };
        if metadata.len() > MAX_METADATA_ENTRIES || !metadata.iter().all(fits) {
            return Err(ManifestError::Metadata);
        }
        if let Some(expires) = metadata.get(EXPIRES)
            && expires.parse::<jiff::Timestamp>().is_err()
        {
            return Err(ManifestError::Expires(expires.clone()));
        }
        let chunks = ChunkId::ALL
            .map(|chunk| ChunkSum { length: chunk.length(size), crc: crcs[chunk.index()] });
        for chunk in ChunkId::ALL {
            let sum = chunks[chunk.index()];
            if sum.length == 0 && sum.crc != Crc32c::default() {
                return Err(ManifestError::EmptyChunkSum(chunk));
            }
        }
        Ok(Self { size, md5, chunks, modified, metadata })
    }

    /// Length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// MD5 of the file.
    pub fn md5(&self) -> Md5Digest {
        self.md5
    }

    /// The turn of the placement table.
    pub fn x(&self) -> Residue {
        self.md5.residue()
    }

    /// Length and checksum of `chunk`.
    pub fn chunk(&self, chunk: ChunkId) -> ChunkSum {
        self.chunks[chunk.index()]
    }

    /// Checksum of the whole file, combined from its chunks'.
    pub fn crc(&self) -> Crc32c {
        self.chunks.iter().fold(Crc32c::default(), |crc, chunk| crc.then(chunk.crc, chunk.length))
    }

    /// Modification time, RFC 3339.
    pub fn modified(&self) -> &str {
        &self.modified
    }

    /// The user's own notes.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// When the file is to go, in milliseconds since 1970; `None`: it stays.
    pub fn expires_ms(&self) -> Option<u64> {
        let time: jiff::Timestamp = self.metadata.get(EXPIRES)?.parse().ok()?;
        Some(u64::try_from(time.as_millisecond()).unwrap_or(0))
    }
}

macro_rules! random_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Takes 16 random bytes.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// 32 hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

random_id!(UploadId, "Names the immutable data of one upload; chosen at random by its client.");
random_id!(Incarnation, "Names one life of a node's disk; chosen at random by init and rejoin.");

/// What a version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file.
    File(Manifest),
    /// A removal.
    Tombstone,
}

/// One version of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its place in the order.
    pub tag: Tag,
    /// Its data; for a tombstone, the removal's own id.
    pub upload: UploadId,
    /// File or tombstone.
    pub content: Content,
}

impl Version {
    /// The manifest of a file, `None` for a tombstone.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.content {
            Content::File(manifest) => Some(manifest),
            Content::Tombstone => None,
        }
    }
}

/// One version of a path as one node holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version.
    pub version: Version,
    /// Chunks of it on this node.
    pub have: ChunkSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(size: u64, crcs: [u32; 4], modified: &str) -> Result<Manifest, ManifestError> {
        Manifest::new(Md5Digest::of(b"abc"), size, crcs.map(Crc32c::new), modified, BTreeMap::new())
    }

    #[test]
    fn refuses_contradictions() {
        let time = "2026-11-22T10:00:00Z";
        assert!(manifest(5, [1, 2, 3, 4], time).is_ok());
        assert_eq!(manifest(1, [1, 0, 0, 4], time), Err(ManifestError::EmptyChunkSum(ChunkId::C1)));
        let huge = MAX_FILE_BYTES + 1;
        assert_eq!(manifest(huge, [0; 4], time), Err(ManifestError::TooLarge(huge)));
        for bad in ["", "yesterday", "2026-11-22", "2026-11-22T10:00:00"] {
            assert_eq!(manifest(5, [0; 4], bad), Err(ManifestError::Modified(bad.into())), "{bad}");
        }
    }

    #[test]
    fn limits_user_metadata() {
        let with = |metadata| {
            Manifest::new(
                Md5Digest::of(b""),
                0,
                [Crc32c::default(); 4],
                "2026-11-22T10:00:00Z",
                metadata,
            )
        };
        let entry =
            |key: usize, value: usize| BTreeMap::from([("k".repeat(key), "v".repeat(value))]);
        assert!(with(entry(64, 1024)).is_ok());
        assert_eq!(with(entry(65, 0)), Err(ManifestError::Metadata));
        assert_eq!(with(entry(0, 0)), Err(ManifestError::Metadata));
        assert_eq!(with(entry(1, 1025)), Err(ManifestError::Metadata));
        let many = (0..17).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(with(many), Err(ManifestError::Metadata));
    }

    #[test]
    fn knows_when_a_file_is_to_go() {
        let with = |expires: &str| {
            let notes = BTreeMap::from([(EXPIRES.to_owned(), expires.to_owned())]);
            let time = "2026-11-22T10:00:00Z";
            Manifest::new(Md5Digest::of(b""), 0, [Crc32c::default(); 4], time, notes)
        };
        assert_eq!(manifest(5, [1; 4], "2026-11-22T10:00:00Z").unwrap().expires_ms(), None);
        assert_eq!(with("1970-01-01T01:00:01.5+01:00").unwrap().expires_ms(), Some(1_500));
        assert_eq!(with("1969-01-01T00:00:00Z").unwrap().expires_ms(), Some(0));
        for bad in ["", "tomorrow", "2026-11-22T10:00:00"] {
            assert_eq!(with(bad), Err(ManifestError::Expires(bad.into())));
        }
    }

    #[test]
    fn the_files_checksum_is_that_of_its_content() {
        let content = b"twelve bytes and some more";
        let size = content.len() as u64;
        let crcs = ChunkId::ALL.map(|chunk| {
            let range = chunk.range(size);
            Crc32c::of(&content[range.start as usize..range.end as usize])
        });
        let manifest = Manifest::new(
            Md5Digest::of(content),
            size,
            crcs,
            "2026-11-22T10:00:00Z",
            BTreeMap::new(),
        );
        assert_eq!(manifest.unwrap().crc(), Crc32c::of(content));
    }
}
