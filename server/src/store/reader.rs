//! Reading a chunk file back.
//!
//! A read serves blocks with the checksums that were stored beside them: who gets them checks
//! them, end to end. [`ChunkReader::verify`] reads everything and checks it here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use dfs_proto::chunk::block_range;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::ChunkSum;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::ChunkStore;
use super::format::{Header, PREAMBLE_BYTES, Preamble, decode_trailer, trailer_bytes};
use crate::chunk_key::ChunkKey;
use crate::codec::CodecError;

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("its file is missing")]
    Missing,
    #[error("its header or trailer is damaged: {0}")]
    Damaged(#[from] CodecError),
    #[error("its file is of another chunk")]
    Foreign,
    #[error("its file has {found} bytes, not {expected}")]
    Length { found: u64, expected: u64 },
    #[error("block {0} does not match its checksum")]
    Checksum(u64),
    #[error("the blocks do not make up the chunk that was stored")]
    Sum,
    #[error("there is no block {0}")]
    NoBlock(u64),
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl ReadError {
    /// Whether the chunk is bad, as opposed to this node being unable to look just now.
    pub(crate) fn is_bad_chunk(&self) -> bool {
        match self {
            Self::Missing
            | Self::Damaged(_)
            | Self::Foreign
            | Self::Length { .. }
            | Self::Checksum(_)
            | Self::Sum => true,
            Self::NoBlock(_) => false,
            Self::Io(error) => {
                // Out of descriptors or memory says nothing about the disk.
                let busy = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS];
                let code = error.raw_os_error();
                !busy.iter().any(|errno| code == Some(errno.raw_os_error()))
            }
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// An open chunk file whose header and trailer are right.
pub(crate) struct ChunkReader {
    file: File,
    data_offset: u64,
    sum: ChunkSum,
    blocks: Vec<Crc32c>,
}

impl ChunkStore {
    /// Opens the file of a chunk that the index knows with this length and checksum.
    pub(crate) fn open_chunk(
        &self,
        key: &ChunkKey,
        sum: ChunkSum,
    ) -> Result<ChunkReader, ReadError> {
        let (header, reader) = ChunkReader::open(&self.path(key))?;
        if header.key == *key && header.sum() == sum { Ok(reader) } else { Err(ReadError::Foreign) }
    }
}

/// Reads `length` bytes from `offset` on into memory that nobody has to fill with zeros first.
fn read_exactly(file: &File, length: usize, offset: u64) -> Result<Vec<u8>, ReadError> {
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        let at = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        match pread(file, spare_capacity(&mut data), at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    // More room than was asked for may have been there, and filled.
    data.truncate(length);
    Ok(data)
}

impl ChunkReader {
    /// Opens a chunk file, whichever chunk it is of.
    pub(crate) fn open(path: &Path) -> Result<(Header, Self), ReadError> {
        let file = File::open(path)?;
        let mut front = [0; PREAMBLE_BYTES];
        let found = file.metadata()?.len();
        let short = |expected| ReadError::Length { found, expected };
        let preamble_bytes = u64::try_from(PREAMBLE_BYTES).unwrap_or(u64::MAX);
        if found < preamble_bytes {
            return Err(short(preamble_bytes));
        }
        file.read_exact_at(&mut front, 0)?;
        let preamble = Preamble::decode(&front)?;
        let data_offset = preamble.data_offset();
        if found < data_offset {
            return Err(short(data_offset));
        }
        let mut fields = vec![0; preamble.field_bytes];
        file.read_exact_at(&mut fields, preamble_bytes)?;
        let header = Header::decode(&preamble, &fields)?;
        let sum = header.sum();
        let behind_data = data_offset.saturating_add(sum.length);
        let expected = behind_data.saturating_add(trailer_bytes(sum.length));
        if found != expected {
            return Err(short(expected));
        }
        let trailer_bytes = usize::try_from(trailer_bytes(sum.length));
        let mut trailer = vec![0; trailer_bytes.map_err(|_| short(expected))?];
        file.read_exact_at(&mut trailer, behind_data)?;
        let blocks = decode_trailer(&trailer)?;
        Ok((header, Self { file, data_offset, sum, blocks }))
    }

    /// Reads a block and its stored checksum, without comparing the two.
    pub(crate) fn read_block(&self, index: u64) -> Result<(Bytes, Crc32c), ReadError> {
        let crc = usize::try_from(index).ok().and_then(|i| self.blocks.get(i));
        let crc = *crc.ok_or(ReadError::NoBlock(index))?;
        let range = block_range(self.sum.length, index);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        let data = read_exactly(&self.file, length, self.data_offset + range.start)?;
        Ok((data.into(), crc))
    }

    /// Reads the whole chunk and checks every checksum.
    pub(crate) fn verify(&self) -> Result<(), ReadError> {
        let mut whole = Crc32c::default();
        for index in (0u64..).take(self.blocks.len()) {
            let (data, crc) = self.read_block(index)?;
            if Crc32c::of(&data) != crc {
                return Err(ReadError::Checksum(index));
            }
            whole = whole.then(crc, u64::try_from(data.len()).unwrap_or(0));
        }
        if whole == self.sum.crc { Ok(()) } else { Err(ReadError::Sum) }
    }
}
