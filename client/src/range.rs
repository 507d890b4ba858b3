//! Parts of files, as people and HTTP name them.

use std::ops::Range;
use std::str::FromStr;

/// Which bytes of a file; the first one is number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From one to another, both included. Where the file ends before that, to its end.
    Between(u64, u64),
    /// From one to the end.
    From(u64),
    /// So many at the end; the whole file if it is shorter.
    Last(u64),
}

impl ByteRange {
    /// The bytes meant of a file of `size` bytes; `None` where there is none of them.
    pub fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A text that names no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bytes are named as FIRST-LAST, FIRST- or -COUNT, the first byte is 0")]
pub struct RangeError;

impl FromStr for ByteRange {
    type Err = RangeError;

    /// Takes `FIRST-LAST`, `FIRST-` or `-COUNT`, as HTTP does.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (first, last) = text.split_once('-').ok_or(RangeError)?;
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map_err(|_| RangeError),
            false => Err(RangeError),
        };
        match (first, last) {
            ("", count) => Ok(Self::Last(number(count)?)),
            (first, "") => Ok(Self::From(number(first)?)),
            (first, last) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(Self::Between(first, last)),
                _ => Err(RangeError),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_in_http() {
        for (text, range) in [
            ("0-0", ByteRange::Between(0, 0)),
            ("10-19", ByteRange::Between(10, 19)),
            ("10-", ByteRange::From(10)),
            ("-10", ByteRange::Last(10)),
        ] {
            assert_eq!(text.parse(), Ok(range), "{text}");
        }
        for text in [
            "",
            "-",
            "5",
            "9-3",
            "a-b",
            "1-b",
            "+1-2",
            "-+1",
            " 1-2",
            "1-2-3",
            "99999999999999999999-",
        ] {
            assert_eq!(text.parse::<ByteRange>(), Err(RangeError), "{text}");
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_left_out() {
        let of = |text: &str, size| text.parse::<ByteRange>().unwrap().of(size);
        assert_eq!(of("0-3", 10), Some(0..4));
        assert_eq!(of("8-30", 10), Some(8..10));
        assert_eq!(of("9-", 10), Some(9..10));
        assert_eq!(of("-3", 10), Some(7..10));
        assert_eq!(of("-30", 10), Some(0..10));
        assert_eq!(of(&format!("0-{}", u64::MAX), 10), Some(0..10));
        for (text, size) in [("10-", 10), ("10-12", 10), ("-0", 10), ("0-", 0), ("-1", 0)] {
            assert_eq!(of(text, size), None, "{text} of {size}");
        }
    }
}
