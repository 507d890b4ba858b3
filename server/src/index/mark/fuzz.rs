//! Slots of a mark from any bytes.

use super::{SLOT_BYTES, decode, encode};

/// A slot is read only as it was written.
pub(crate) fn mark(bytes: &[u8]) -> bool {
    if let Some(front) = bytes.first_chunk::<8>() {
        let group = u64::from_be_bytes(*front);
        let whole = encode(group);
        assert_eq!(decode(&whole), Some(group));
        for at in 0..SLOT_BYTES {
            for flip in bytes.iter().filter(|flip| **flip != 0).take(4) {
                let mut slot = whole;
                slot[at] ^= flip;
                assert_eq!(decode(&slot), None, "byte {at} is damaged");
            }
        }
    }
    let Some(slot) = bytes.first_chunk::<SLOT_BYTES>() else { return false };
    let Some(group) = decode(slot) else { return false };
    assert_eq!(encode(group), *slot);
    true
}
