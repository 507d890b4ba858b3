//! Checksums: MD5 of a whole file, which also turns the placement table, and CRC32C of
//! blocks, chunks and files.

mod md5;

use std::fmt;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// The MD5 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Md5Digest([u8; 16]);

impl Md5Digest {
    /// Takes the 16 bytes of a digest.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Computes the digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Md5Hasher::new();
        hasher.update(content);
        hasher.finish()
    }

    /// The 16 bytes of the digest.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The digest as a big-endian number mod 4: the low two bits of its last byte.
    pub const fn residue(&self) -> Residue {
        match self.0[15] & 3 {
            0 => Residue::R0,
            1 => Residue::R1,
            2 => Residue::R2,
            _ => Residue::R3,
        }
    }
}

impl fmt::Display for Md5Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Md5Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// x = MD5 mod 4: which of the four turns of the placement table a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Residue {
    /// x = 0.
    R0,
    /// x = 1.
    R1,
    /// x = 2.
    R2,
    /// x = 3.
    R3,
}

impl Residue {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::R0, Self::R1, Self::R2, Self::R3];

    /// Takes 0..3.
    pub fn new(x: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(x).ok()?).copied()
    }

    /// The number, 0..3.
    pub const fn get(self) -> u8 {
        self as u8
    }
}

/// Computes an MD5 piece by piece.
#[derive(Clone)]
pub struct Md5Hasher(md5::Context);

impl Md5Hasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self(md5::Context::new())
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.take(bytes);
    }

    /// Ends.
    pub fn finish(self) -> Md5Digest {
        Md5Digest(self.0.finish())
    }
}

impl Default for Md5Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// A CRC32C (Castagnoli) of some bytes. That of no bytes is 0.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Takes a checksum that was computed elsewhere.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Computes the checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(u32::try_from(crc_fast::checksum(Crc32Iscsi, bytes)).expect("a CRC32C has 32 bits"))
    }

    /// The checksum of these bytes followed by `length` bytes whose checksum is `next`.
    pub fn then(self, next: Self, length: u64) -> Self {
        if length == 0 {
            return self;
        }
        // Zeros in front change nothing, and there are none most times: the first block of a
        // chunk is often the only one.
        if self == Self::default() {
            return next;
        }
        Self(times(shift(length), self.0) ^ next.0)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The polynomial of CRC32C without its highest power; the highest bit stands for x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^0.
const ONE: u32 = 1 << 31;

/// `SHIFTS[k]` is x^(8 * 2^k): what 2^k more bytes behind some do to their checksum.
const SHIFTS: [u32; 64] = {
    // x^8.
    let mut shifts = [1 << 23; 64];
    let mut k = 1;
    while k < shifts.len() {
        shifts[k] = times(shifts[k - 1], shifts[k - 1]);
        k += 1;
    }
    shifts
};

/// The product of two polynomials, modulo that of CRC32C.
const fn times(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a & ONE != 0 {
            product ^= b;
        }
        a <<= 1;
        b = (b >> 1) ^ if b & 1 == 0 { 0 } else { POLYNOMIAL };
    }
    product
}

/// x^(8 * `length`).
fn shift(length: u64) -> u32 {
    let used = SHIFTS.iter().enumerate().filter(|(k, _)| (length >> k) & 1 == 1);
    used.fold(ONE, |product, (_, power)| times(product, *power))
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_residues() {
        for (content, x) in [("", 2), ("a", 1), ("b", 3), ("abc", 2), ("message digest", 0)] {
            assert_eq!(Md5Digest::of(content.as_bytes()).residue().get(), x, "{content:?}");
        }
    }

    #[test]
    fn golden_digests() {
        assert_eq!(Md5Digest::of(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(Md5Digest::of(b"abc").to_string(), "900150983cd24fb0d6963f7d28e17f72");
        // RFC 3720, B.4.
        assert_eq!(Crc32c::of(b"123456789").get(), 0xe306_9283);
        assert_eq!(Crc32c::of(&[0; 32]).get(), 0x8a91_36aa);
        assert_eq!(Crc32c::of(b""), Crc32c::default());
    }

    #[test]
    fn residue_is_the_digest_mod_4_for_every_last_byte() {
        for last in 0..=255u8 {
            let mut bytes = [0x5a; 16];
            bytes[15] = last;
            let number = u128::from_be_bytes(bytes);
            assert_eq!(u128::from(Md5Digest::new(bytes).residue().get()), number % 4);
        }
    }

    proptest! {
        #[test]
        fn checksums_combine(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            let whole = [&a[..], &b[..], &c[..]].concat();
            let combined = Crc32c::of(&a)
                .then(Crc32c::of(&b), b.len() as u64)
                .then(Crc32c::of(&c), c.len() as u64);
            prop_assert_eq!(combined, Crc32c::of(&whole));
        }

        #[test]
        fn checksums_of_long_pieces_combine(a: u32, b: u32, length in 1..u64::MAX >> 3) {
            let combine = crc_fast::checksum_combine;
            let sum = combine(Crc32Iscsi, a.into(), b.into(), length);
            let combined = Crc32c::new(a).then(Crc32c::new(b), length).get();
            prop_assert!(a == 0 || u64::from(combined) == sum);
        }

        #[test]
        fn pieces_hash_like_the_whole(a: Vec<u8>, b: Vec<u8>) {
            let mut hasher = Md5Hasher::new();
            hasher.update(&a);
            hasher.update(&b);
            prop_assert_eq!(hasher.finish(), Md5Digest::of(&[a, b].concat()));
        }
    }
}
