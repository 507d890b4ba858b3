//! Password hashes: argon2id in the PHC text form.

use std::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;

/// Longest password, in bytes.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;

/// Memory of one hash in KiB, as OWASP advises for argon2id with two passes.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A hash in the users file that asks for more memory than this is a mistake.
const MAX_MEMORY_KIB: u32 = 1 << 18;

/// What an unknown user's password is compared with, so that the answer takes as long as for
/// a known one. Made with the parameters above; no password is known for it.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password, or its hash, was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("a password has 1..{MAX_PASSWORD_BYTES} bytes, this one has {0}")]
    Length(usize),
    #[error("hashing the password failed: {0}")]
    Failed(argon2::password_hash::Error),
    #[error("password_hash is no argon2id hash; 'dfsd user passwd' makes one")]
    Malformed,
}

/// The hash of a user's password. Has no `Debug`.
pub(crate) struct StoredPassword {
    text: String,
    params: Params,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// Memory to compute hashes in, 19 MiB once it was used. Kept and used again: allocated and
/// freed on ever other threads, it would stay with each of them.
#[derive(Default)]
pub(crate) struct HashMemory(Vec<Block>);

impl StoredPassword {
    /// Hashes a new password with a random salt.
    pub(crate) fn new(password: &str) -> Result<Self, PasswordError> {
        if !fits(password) {
            return Err(PasswordError::Length(password.len()));
        }
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
        let params = params.expect("the fixed parameters are in argon2's limits");
        let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password.as_bytes())
            .map_err(PasswordError::Failed)?;
        Self::parse(&hash.to_string())
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Result<Self, PasswordError> {
        let hash = PasswordHash::new(text).map_err(|_| PasswordError::Malformed)?;
        let params = Params::try_from(&hash).map_err(|_| PasswordError::Malformed)?;
        let known = hash.algorithm == ARGON2ID_IDENT
            && hash.version == Some(Version::V0x13.into())
            && params.m_cost() <= MAX_MEMORY_KIB;
        match (hash.salt, hash.hash) {
            (Some(salt), Some(output)) if known => Ok(Self {
                text: text.to_owned(),
                params,
                salt: salt.to_vec(),
                output: output.as_bytes().to_vec(),
            }),
            _ => Err(PasswordError::Malformed),
        }
    }

    /// Matches no password, but takes as long as one that could.
    pub(crate) fn nobody() -> Self {
        Self::parse(NOBODY).expect("the fixed hash is well-formed")
    }

    /// Whether this is the hash of `password`. Takes tens of milliseconds of a core.
    pub(crate) fn matches(&self, password: &str, memory: &mut HashMemory) -> bool {
        // One that does not fit is compared as well: same time, same answer.
        let offered = if fits(password) { password } else { "" };
        memory.0.resize(self.params.block_count(), Block::new());
        let mut output = vec![0; self.output.len()];
        let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone())
            .hash_password_into_with_memory(
                offered.as_bytes(),
                &self.salt,
                &mut output,
                &mut memory.0,
            );
        let same: bool = output.ct_eq(&self.output).into();
        hashed.is_ok() && same && fits(password)
    }
}

impl fmt::Display for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn fits(password: &str) -> bool {
    (1..=MAX_PASSWORD_BYTES).contains(&password.len())
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let mut memory = HashMemory::default();
        let longest = "x".repeat(1024);
        for password in ["secret ✓", &longest] {
            let stored = StoredPassword::new(password).unwrap();
            assert!(stored.to_string().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
            let read = StoredPassword::parse(&stored.to_string()).unwrap();
            assert!(read.matches(password, &mut memory));
            for other in ["", "secret", "secret ✓ ", &format!("{longest}x")] {
                assert!(!read.matches(other, &mut memory), "{other}");
            }
        }
        assert!(!StoredPassword::nobody().matches("", &mut memory));
    }

    #[test]
    fn the_same_password_has_another_hash_each_time() {
        let hash = || StoredPassword::new("x").unwrap().to_string();
        assert_ne!(hash(), hash());
    }

    #[test]
    fn hashes_with_other_parameters_are_taken() {
        let mut memory = HashMemory::default();
        let params = Params::new(64, 3, 2, Some(24)).unwrap();
        let made: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(b"hunter42")
            .unwrap();
        let stored = StoredPassword::parse(&made.to_string()).unwrap();
        assert!(stored.matches("hunter42", &mut memory));
        assert!(!stored.matches("hunter43", &mut memory));
        assert!(StoredPassword::new("y").unwrap().matches("y", &mut memory), "other sizes after");
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused() {
        let salt_and_output = NOBODY.rsplit_once("p=1").unwrap().1;
        for text in [
            "",
            "x",
            "$argon2id$v=19$m=19456,t=2,p=1",
            &format!("$argon2i$v=19$m=19456,t=2,p=1{salt_and_output}"),
            &format!("$argon2id$v=16$m=19456,t=2,p=1{salt_and_output}"),
            &format!("$argon2id$v=19$m=4000000000,t=2,p=1{salt_and_output}"),
            &format!("$argon2id$v=19$m=0,t=2,p=1{salt_and_output}"),
        ] {
            assert!(StoredPassword::parse(text).is_err(), "{text}");
        }
        assert!(matches!(StoredPassword::new(""), Err(PasswordError::Length(0))));
        assert!(StoredPassword::new(&"x".repeat(1025)).is_err());
    }
}
