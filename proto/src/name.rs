//! Names: what a path, a prefix, a user and a cluster may be called.
//!
//! A name is refused or taken as it is, never normalised: the bytes that are authorised are
//! the bytes that are stored.

use std::fmt;
use std::sync::Arc;

/// Longest path in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest segment of a path in bytes.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Longest user name in bytes.
pub const MAX_USER_BYTES: usize = 32;
/// Longest cluster name in bytes.
pub const MAX_CLUSTER_BYTES: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The path has no bytes.
    #[error("the path is empty")]
    Empty,
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("the path has {0} bytes, at most {MAX_PATH_BYTES} are allowed")]
    TooLong(usize),
    /// A segment is longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment of the path has {0} bytes, at most {MAX_SEGMENT_BYTES} are allowed")]
    SegmentTooLong(usize),
    /// The path starts with a slash.
    #[error("the path starts with '/'; remote paths have no leading slash")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A `.` or `..` segment.
    #[error("the path has a '{0}' segment")]
    DotSegment(&'static str),
    /// NUL, newline or another control character.
    #[error("the path has a control character (U+{0:04X})")]
    Control(u32),
    /// A backslash.
    #[error("the path has a backslash")]
    Backslash,
    /// Bytes that are not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// A user name outside `[a-z0-9][a-z0-9._-]{0,31}`.
    #[error("user names match [a-z0-9][a-z0-9._-]{{0,31}}")]
    User,
    /// A cluster name outside 1..64 visible ASCII characters.
    #[error("cluster names are 1..{MAX_CLUSTER_BYTES} bytes of a-z, A-Z, 0-9, '.', '_' and '-'")]
    Cluster,
}

/// A valid remote path: 1..1024 bytes of UTF-8 in segments of 1..255 bytes. Clones share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// Takes `path` if it is valid.
    pub fn new(path: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, NameError> {
        let text = path.as_ref();
        check_characters(text)?;
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.starts_with('/') {
            return Err(NameError::Absolute);
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(path.into()))
    }

    /// Takes `path` if it is UTF-8 and valid.
    pub fn from_bytes(path: &[u8]) -> Result<Self, NameError> {
        let text = std::str::from_utf8(path).map_err(|_| NameError::NotUtf8)?;
        Self::new(text)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn base_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

fn check_characters(text: &str) -> Result<(), NameError> {
    if text.len() > MAX_PATH_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    if text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'[' | b']'..=b'~')) {
        return Ok(());
    }
    for character in text.chars() {
        if character.is_control() {
            return Err(NameError::Control(character.into()));
        }
        if character == '\\' {
            return Err(NameError::Backslash);
        }
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), NameError> {
    match segment {
        "" => Err(NameError::EmptySegment),
        "." => Err(NameError::DotSegment(".")),
        ".." => Err(NameError::DotSegment("..")),
        _ if segment.len() > MAX_SEGMENT_BYTES => Err(NameError::SegmentTooLong(segment.len())),
        _ => Ok(()),
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A plain string prefix of paths: 0..1024 bytes, no control characters, no backslash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefix(String);

impl Prefix {
    /// Takes `prefix` if some path could start with it.
    pub fn new(prefix: impl Into<String>) -> Result<Self, NameError> {
        let prefix = prefix.into();
        check_characters(&prefix)?;
        if prefix.starts_with('/') {
            return Err(NameError::Absolute);
        }
        Ok(Self(prefix))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user name: `[a-z0-9][a-z0-9._-]{0,31}`. Safe as the name of a directory. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl UserName {
    /// Takes `name` if it is valid.
    pub fn new(name: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, NameError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let tail = |c: u8| plain(c) || matches!(c, b'.' | b'_' | b'-');
        match name.as_ref().as_bytes() {
            [first, rest @ ..]
                if plain(*first)
                    && rest.len() < MAX_USER_BYTES
                    && rest.iter().all(|c| tail(*c)) =>
            {
                Ok(Self(name.into()))
            }
            _ => Err(NameError::User),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a cluster: 1..64 bytes of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// Takes `name` if it is valid.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let valid = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if (1..=MAX_CLUSTER_BYTES).contains(&name.len()) && name.bytes().all(valid) {
            Ok(Self(name))
        } else {
            Err(NameError::Cluster)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_that_people_use() {
        for path in [
            "a",
            "a/b",
            "-x",
            "my file.txt",
            "it's \"quoted\"",
            "übung/größe",
            "🦀/🙂.png",
            "...",
            "a..b",
            ".hidden",
            "a:b",
            "c*?",
            &"x".repeat(255),
        ] {
            assert!(FilePath::new(path).is_ok(), "{path}");
        }
        let longest = [&"a".repeat(255)[..]; 4].join("/") + "x";
        assert_eq!(longest.len(), MAX_PATH_BYTES);
        let longest_segments = format!("{}/b", &longest[..1022]);
        assert!(FilePath::new(longest_segments).is_ok());
    }

    #[test]
    fn refuses_tricks() {
        let refused: [(&str, NameError); 12] = [
            ("", NameError::Empty),
            ("/x", NameError::Absolute),
            ("../x", NameError::DotSegment("..")),
            ("a/../b", NameError::DotSegment("..")),
            ("a/.", NameError::DotSegment(".")),
            ("a//b", NameError::EmptySegment),
            ("a/", NameError::EmptySegment),
            ("a\0b", NameError::Control(0)),
            ("a\nb", NameError::Control(10)),
            ("a\u{85}b", NameError::Control(0x85)),
            ("a\\b", NameError::Backslash),
            (&"y".repeat(256), NameError::SegmentTooLong(256)),
        ];
        for (path, why) in refused {
            assert_eq!(FilePath::new(path), Err(why), "{path:?}");
        }
        assert_eq!(FilePath::new("x/".repeat(512) + "y"), Err(NameError::TooLong(1025)));
        assert_eq!(FilePath::from_bytes(b"a\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn user_names_are_safe_directory_names() {
        for name in ["a", "alice", "0", "a.b_c-d", &"a".repeat(32)] {
            assert!(UserName::new(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "A", "-a", ".a", "a/b", "a b", "ä", &"a".repeat(33)] {
            assert!(UserName::new(name).is_err(), "{name}");
        }
    }
}
