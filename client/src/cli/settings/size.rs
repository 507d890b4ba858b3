//! Sizes and rates as people write them.

/// Most files at once.
const MAX_JOBS: usize = 256;

/// A limit in bytes per second; `None`: explicitly without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Rate(pub(in super::super) Option<u64>);

/// Reads `1000`, `64K`, `8M`, `8Mi`, `8MiB`, `1.5G` or `10MB`: units of 1024, and of 1000 where
/// only a `B` follows the letter.
pub(in super::super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("'{text}' is no number of bytes, such as 1000, 64K, 8MiB or 1.5G (MiB = 1024 KiB)")
    };
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letter, rest) = unit.split_at(unit.chars().next().map_or(0, char::len_utf8));
    let power: u32 = match letter {
        "" => 0,
        "b" if rest.is_empty() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let base: u64 = match rest {
        "" | "i" | "ib" => 1024,
        "b" => 1000,
        _ => return Err(wrong()),
    };
    let unit = base.checked_pow(power).ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 9 || part.contains('.') {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let tenths: u64 = part.parse().map_err(|_| wrong())?;
    let scale = 10_u64.pow(u32::try_from(part.len()).map_err(|_| wrong())?);
    let part = u128::from(tenths) * u128::from(unit) / u128::from(scale);
    let part = u64::try_from(part).map_err(|_| wrong())?;
    whole.checked_mul(unit).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

/// Reads a rate: bytes, with or without `/s`, or `off`.
pub(in super::super) fn rate(text: &str) -> Result<Rate, String> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    if matches!(text, "off" | "0") {
        return Ok(Rate(None));
    }
    let rate = bytes(text)?;
    let least = crate::Bandwidth::LEAST;
    if rate < least {
        return Err(format!(
            "{text} is too little: at least {}K, or nodes take it for a broken connection",
            least >> 10
        ));
    }
    Ok(Rate(Some(rate)))
}

/// Reads how many files to move at once.
pub(in super::super) fn jobs(text: &str) -> Result<usize, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=MAX_JOBS).contains(jobs));
    jobs.ok_or_else(|| format!("'{text}' is no number of files from 1 to {MAX_JOBS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let good = [
            ("0", 0),
            ("1000", 1000),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("8Mi", 8 << 20),
            ("8 MiB", 8 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
            ("10MB", 10_000_000),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("7B", 7),
        ];
        for (text, expected) in good {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "M", "-1", "1.2.3M", ".5K", "5.", "1X", "1MiBs", "99999999999G", "1µ"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_and_jobs_have_limits() {
        assert_eq!(rate("10M"), Ok(Rate(Some(10 << 20))));
        assert_eq!(rate("10MiB/s"), Ok(Rate(Some(10 << 20))));
        assert_eq!(rate("off"), Ok(Rate(None)));
        assert!(rate("1K").unwrap_err().contains("at least"));
        assert_eq!((jobs("1"), jobs("256")), (Ok(1), Ok(256)));
        assert!(jobs("0").is_err() && jobs("257").is_err() && jobs("many").is_err());
    }
}
