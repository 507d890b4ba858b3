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
mod tests {
    use super::*;

    type Target = fn(&[u8]) -> bool;

    const TARGETS: &[(&str, Target)] = &[("note", note), ("partial", partial)];

    #[test]
    fn what_is_kept_holds_and_so_does_what_is_a_byte_away() {
        for (name, target) in TARGETS {
            let dir = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut read = 0;
            for file in std::fs::read_dir(dir).unwrap() {
                let mut bytes = std::fs::read(file.unwrap().path()).unwrap();
                read += u32::from(target(&bytes));
                for at in 0..bytes.len() {
                    target(&bytes[..at]);
                    for flip in [0x01, 0x20, 0x80] {
                        bytes[at] ^= flip;
                        target(&bytes);
                        bytes[at] ^= flip;
                    }
                }
            }
            assert!(read > 0, "no file of {name} is read");
        }
    }
}
