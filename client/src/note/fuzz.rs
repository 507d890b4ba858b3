//! Notes from any bytes.

use super::*;

/// The first byte chooses: a whole note, or one that is given its right checksum.
pub(crate) fn note(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let found = if kind % 2 == 0 { decode(text) } else { decode(&sealed(text)) };
    let Some(found) = found else { return false };
    let written = encode(&found).expect("what was read can be written");
    assert_eq!(decode(&written).as_ref(), Some(&found));
    assert_eq!(decode(&written[..written.len() - 1]), None, "its end is missing");

    for (index, flip) in bytes.iter().filter(|flip| **flip != 0).take(16).enumerate() {
        let mut damaged = written.clone().into_bytes();
        let at = (index * 31 + usize::from(*flip)) % damaged.len();
        damaged[at] ^= flip;
        if let Ok(text) = String::from_utf8(damaged) {
            assert_eq!(decode(&text), None, "byte {at} is damaged");
        }
    }
    true
}
