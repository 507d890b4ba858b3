//! `--expire`: how long a file shall live, as people say it.

use jiff::{Span, SpanRelativeTo, Timestamp};

/// The end of a file's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expire {
    /// So long after the put, in seconds.
    After(i64),
    /// Then.
    At(Timestamp),
}

impl Expire {
    /// Takes `30m`, `12h`, `7d`, `2w`, combinations of them, or an RFC 3339 time.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::At(time));
        }
        let wrong = "is neither a time like 2026-12-31T00:00:00Z nor a span like 12h, 7d or 2w";
        let span: Span = text.parse().map_err(|_| wrong.to_owned())?;
        let days = SpanRelativeTo::days_are_24_hours();
        let seconds = span.to_duration(days).map_err(|_| wrong.to_owned())?.as_secs();
        if seconds < 1 {
            return Err(
                "is not in the future; give how long the file shall be kept, like 12h".to_owned()
            );
        }
        Ok(Self::After(seconds))
    }

    /// The time of a put that begins now; `None` after the year 9999.
    pub(super) fn end(self) -> Option<Timestamp> {
        match self {
            Self::At(time) => Some(time),
            Self::After(seconds) => {
                Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_people_write() {
        let seconds = [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)];
        let more = [("2w", 1_209_600), ("1d 12h", 129_600), ("1h30m", 5_400)];
        for (text, expected) in seconds.into_iter().chain(more) {
            assert_eq!(Expire::parse(text), Ok(Expire::After(expected)), "{text}");
        }
        let time = Expire::parse("2026-12-31T01:00:00+01:00");
        assert_eq!(time, Ok(Expire::At("2026-12-31T00:00:00Z".parse().unwrap())));
    }

    #[test]
    fn refuses_what_has_no_end_or_none_in_the_future() {
        // How long a month is depends on which.
        for bad in ["", "7", "soon", "0s", "-1h", "1mo", "1y", "2026-12-31", "0.5s"] {
            assert!(Expire::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Expire::After(i64::MAX).end(), None);
    }
}
