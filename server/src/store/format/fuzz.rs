//! Headers and trailers of chunk files from any bytes.

use super::*;

/// The first byte chooses: a file's front, fields, a trailer, or checksums of blocks. Fields
/// and checksums of blocks are given their own right checksum.
pub(crate) fn chunk_file(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    match kind % 4 {
        0 => header(bytes),
        1 => match sealed(bytes) {
            Some(front) => header(&front),
            None => false,
        },
        2 => trailer(bytes),
        _ => trailer(&[bytes, &Crc32c::of(bytes).get().to_be_bytes()].concat()),
    }
}

/// Reads the front of a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Header, CodecError> {
    let front = bytes.first_chunk().ok_or(CodecError::Short)?;
    let preamble = Preamble::decode(front)?;
    let fields = bytes.get(PREAMBLE_BYTES..PREAMBLE_BYTES + preamble.field_bytes);
    Header::decode(&preamble, fields.ok_or(CodecError::Short)?)
}

/// A preamble and these fields.
fn sealed(fields: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(fields.len()).ok()?.to_be_bytes();
    let crc = Crc32c::of(fields).get().to_be_bytes();
    Some([&MAGIC[..], &FORMAT.to_be_bytes(), &[0; 2], &length, &crc, fields].concat())
}

fn header(bytes: &[u8]) -> bool {
    let Ok(found) = decode(bytes) else { return false };
    let written = found.encode();
    assert_eq!(written.len() % ALIGNMENT, 0);
    assert_eq!(decode(&written).as_ref(), Ok(&found));
    let fields = written.iter().zip(bytes).skip(PREAMBLE_BYTES).take(found_bytes(bytes));
    assert!(fields.into_iter().all(|(a, b)| a == b), "the fields have no other encoding");

    let front = PREAMBLE_BYTES + found_bytes(bytes);
    for (index, flip) in bytes.iter().filter(|flip| **flip != 0).take(16).enumerate() {
        let at = (index * 1009 + usize::from(*flip)) % front;
        let mut damaged = written.clone();
        damaged[at] ^= flip;
        if let Ok(other) = decode(&damaged) {
            assert_eq!(other, found, "byte {at} is damaged");
            assert!((10..12).contains(&at), "byte {at} is damaged and nobody sees it");
        }
    }
    true
}

fn found_bytes(bytes: &[u8]) -> usize {
    let front = bytes.first_chunk().expect("a header was read");
    Preamble::decode(front).expect("a header was read").field_bytes
}

fn trailer(bytes: &[u8]) -> bool {
    let Ok(sums) = decode_trailer(bytes) else { return false };
    let written = encode_trailer(&sums);
    assert_eq!(written, bytes, "a trailer has no other encoding");
    for (index, flip) in bytes.iter().filter(|flip| **flip != 0).take(16).enumerate() {
        let mut damaged = written.clone();
        let at = (index * 1009 + usize::from(*flip)) % damaged.len();
        damaged[at] ^= flip;
        assert!(decode_trailer(&damaged).is_err(), "byte {at} is damaged");
    }
    true
}
