//! Feeds the files that are kept in `corpus` to the targets of a crate, whose tests this is a part
//! of.

/// Takes any bytes, panics where something does not hold, and tells whether they were read.
type Target = fn(&[u8]) -> bool;

/// Requires that all holds for what is kept under the targets' names, for each front of it and for
/// what is a bit away; and that some of what is kept is read.
pub(crate) fn feed(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        let dir = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut read = 0;
        for file in std::fs::read_dir(dir).expect("something is kept") {
            let file = file.expect("a readable folder").path();
            let mut bytes = std::fs::read(file).expect("a readable file");
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
