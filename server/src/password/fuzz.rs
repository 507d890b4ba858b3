//! Hashes of passwords from any bytes.

use super::*;

/// A hash is kept as it was written, and asks for no more memory than is allowed.
pub(crate) fn password(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(found) = StoredPassword::parse(text) else { return false };
    assert_eq!(found.to_string(), text);
    assert!(found.params.m_cost() <= MAX_MEMORY_KIB);
    assert!(!found.output.is_empty() && !found.salt.is_empty());
    let Ok(again) = StoredPassword::parse(&found.to_string()) else {
        panic!("it was read before");
    };
    assert!(again.params == found.params);
    assert!(again.salt == found.salt && again.output == found.output);
    true
}
