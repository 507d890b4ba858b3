//! Identity files from any bytes.

use super::*;

/// The first byte chooses: a whole file, or one that is given its right checksum.
pub(crate) fn identity(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let sealed = format!("{text}checksum {:08x}\n", Crc32c::of(bytes).get());
    let Ok(found) = decode(if kind % 2 == 0 { text } else { &sealed }) else { return false };
    let written = encode(&found);
    assert_eq!(decode(&written).as_ref(), Ok(&found));
    assert!(decode(&written[..written.len() - 1]).is_err());

    for (index, flip) in bytes.iter().filter(|flip| **flip != 0).take(16).enumerate() {
        let mut damaged = written.clone().into_bytes();
        let at = (index * 31 + usize::from(*flip)) % damaged.len();
        damaged[at] ^= flip;
        // Digits in capitals are the same digits.
        if let Ok(other) = String::from_utf8(damaged).map_or(Err(""), |text| decode(&text)) {
            assert_eq!(other, found, "byte {at} is damaged");
        }
    }
    true
}
