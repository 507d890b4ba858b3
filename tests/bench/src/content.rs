//! Bytes that no system has seen before: one of the peers stores equal blocks once.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;

use crate::error::Error;

/// How much of a large file is made at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A source of files, each of its own content, the same for the same number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    seed: u64,
}

impl Contents {
    /// Starts where nobody has been.
    pub(crate) fn fresh() -> Result<Self, Error> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::refused("the system's random numbers", error))?;
        Ok(Self { seed: u64::from_ne_bytes(seed) })
    }

    /// The content of file `number`, of `length` bytes.
    pub(crate) fn body(self, number: u64, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        self.stream(number).fill(&mut bytes);
        bytes.into()
    }

    /// Writes file `number`, of `length` bytes.
    pub(crate) fn write(self, number: u64, length: u64, path: &Path) -> Result<(), Error> {
        let failed = || Error::file("write", path);
        let mut file = File::create(path).map_err(failed())?;
        let mut stream = self.stream(number);
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = length;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            stream.fill(&mut piece[..count]);
            file.write_all(&piece[..count]).map_err(failed())?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Makes a folder of `count` files of `length` bytes each, a thousand to a folder in it.
    pub(crate) fn write_tree(self, count: u64, length: usize, root: &Path) -> Result<(), Error> {
        make_folders(count, root)?;
        for number in 0..count {
            let path = root.join(name_in_tree(number));
            fs::write(&path, self.body(number, length)).map_err(Error::file("write", &path))?;
        }
        Ok(())
    }

    fn stream(self, number: u64) -> Stream {
        Stream(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }
}

const FILES_IN_A_FOLDER: u64 = 1000;

/// Where file `number` of a folder is in it.
pub(crate) fn name_in_tree(number: u64) -> String {
    format!("{:03}/{:03}", number / FILES_IN_A_FOLDER, number % FILES_IN_A_FOLDER)
}

/// Makes the folders of so many files below `root`.
pub(crate) fn make_folders(files: u64, root: &Path) -> Result<(), Error> {
    for folder in 0..files.div_ceil(FILES_IN_A_FOLDER) {
        let folder = root.join(format!("{folder:03}"));
        fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
    }
    Ok(())
}

/// SplitMix64.
struct Stream(u64);

impl Stream {
    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..piece.len()]);
        }
    }
}

/// Fails unless two files have the same content.
pub(crate) fn same(a: &Path, b: &Path) -> Result<(), Error> {
    let open = |path: &Path| File::open(path).map_err(Error::file("open", path));
    let (mut left, mut right) = (open(a)?, open(b)?);
    let (mut first, mut second) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        let count = left.read(&mut first).map_err(Error::file("read", a))?;
        let other = right.read_exact(&mut second[..count]);
        if other.is_err() || first[..count] != second[..count] {
            return Err(Error::refused(b.display().to_string(), "is not what was stored"));
        }
        if count == 0 {
            break;
        }
    }
    match right.read(&mut second) {
        Ok(0) => Ok(()),
        _ => Err(Error::refused(b.display().to_string(), "is longer than what was stored")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_content_and_no_two_share_any() {
        let contents = Contents { seed: 7 };
        assert_eq!(contents.body(1, 1001), contents.body(1, 1001));
        assert_ne!(contents.body(1, 1000), contents.body(2, 1000));
        assert_eq!(contents.body(3, 100_000)[..10], contents.body(3, 10)[..]);
    }

    #[test]
    fn files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        let contents = Contents { seed: 7 };
        contents.write(1, 3_000_001, &a).unwrap();
        contents.write(1, 3_000_001, &b).unwrap();
        contents.write(1, 3_000_002, &c).unwrap();
        same(&a, &b).unwrap();
        same(&a, &c).unwrap_err();
        same(&c, &a).unwrap_err();
    }
}
