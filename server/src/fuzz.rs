//! What must hold for whatever is read: each function takes any bytes, panics where something
//! does not hold, and tells whether the bytes were read at all. They are written beside the
//! code that they are about.
//!
//! `fuzz/` feeds them invented bytes, the tests below those kept in `fuzz/corpus`.

/// Rows of the index: the first byte chooses which, the others are its value.
pub fn rows(bytes: &[u8]) -> bool {
    let read = crate::index::codec::fuzz::rows(bytes);
    crate::rpc::fuzz::entry_of_row(bytes.get(1..).unwrap_or_default());
    read
}

/// Keys of the index: the first byte chooses which.
pub fn keys(bytes: &[u8]) -> bool {
    crate::index::codec::fuzz::keys(bytes)
}

/// The mark beside the index.
pub fn mark(bytes: &[u8]) -> bool {
    crate::index::fuzz::mark(bytes)
}

/// A journal of the index.
pub fn journal(bytes: &[u8]) -> bool {
    crate::index::fuzz::journal(bytes)
}

/// Header and trailer of a chunk file: the first byte chooses which.
pub fn chunk_file(bytes: &[u8]) -> bool {
    crate::store::format::fuzz::chunk_file(bytes)
}

/// The identity of a disk.
pub fn identity(bytes: &[u8]) -> bool {
    crate::identity::fuzz::identity(bytes)
}

/// The hash of a password.
pub fn password(bytes: &[u8]) -> bool {
    crate::password::fuzz::password(bytes)
}

/// Tokens of listing pages.
pub fn page_token(bytes: &[u8]) -> bool {
    crate::rpc::fuzz::page_token(bytes)
}

#[cfg(test)]
#[path = "../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_holds_and_so_does_what_is_a_bit_away() {
        kept::feed(&[
            ("rows", rows),
            ("keys", keys),
            ("mark", mark),
            ("journal", journal),
            ("chunk_file", chunk_file),
            ("identity", identity),
            ("password", password),
            ("page_token", page_token),
        ]);
    }
}
