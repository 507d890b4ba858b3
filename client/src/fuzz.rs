//! What must hold for whatever is read: each function takes any bytes, panics where something
//! does not hold, and tells whether the bytes were read at all. They are written beside the
//! code that they are about.
//!
//! `fuzz/` feeds them invented bytes, the tests below those kept in `fuzz/corpus`.

/// The note about a PUT: the first byte chooses whether it is given its right checksum.
pub fn note(bytes: &[u8]) -> bool {
    crate::note::fuzz::note(bytes)
}

/// A large file that is being fetched, and what has become of it meanwhile.
pub fn partial(bytes: &[u8]) -> bool {
    crate::partial::fuzz::partial(bytes)
}

#[cfg(test)]
#[path = "../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_holds_and_so_does_what_is_a_bit_away() {
        kept::feed(&[("note", note), ("partial", partial)]);
    }
}
