//! Reads values of a configuration file and notes every mistake, with its line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::Value;

/// What is in a map of the file.
pub(super) type Section = BTreeMap<String, Value>;

/// Goes through a file and notes all that is wrong with it.
pub(super) struct Checker<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) mistakes: Vec<String>,
}

impl Checker<'_> {
    pub(super) fn wrong(&mut self, key: &str, why: &str) {
        let file = self.file.display();
        self.mistakes.push(match line_of(self.text, key) {
            Some(line) => format!("{file}:{line}: {key}: {why}"),
            None => format!("{file}: {key}: {why}"),
        });
    }

    /// A text that has to be there and to be read by `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        value: Option<&Value>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match value {
            None | Some(Value::Null) => Err("is missing".to_owned()),
            Some(Value::String(text)) => parse(text),
            Some(Value::Number(number)) => parse(&number.to_string()),
            Some(Value::Bool(bool)) => parse(&bool.to_string()),
            Some(_) => Err("is a text, not a list or a map".to_owned()),
        };
        parsed.map_err(|why| self.wrong(key, &why)).ok()
    }

    /// Like `parsed`, for what may be absent. The outer `None` is a mistake.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        value: Option<&Value>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match value {
            None => Some(None),
            value => self.parsed(key, value, parse).map(Some),
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: Option<&Value>) -> bool {
        match value {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(key, "is true or false");
                false
            }
        }
    }

    /// The entries of a map, of which only these are known.
    pub(super) fn section(&mut self, key: &str, value: &Value, known: &[&str]) -> Option<Section> {
        let Ok(entries) = serde_yaml::from_value::<Section>(value.clone()) else {
            self.wrong(key, &format!("is a map of {}", known.join(", ")));
            return None;
        };
        for unknown in entries.keys().filter(|entry| !known.contains(&entry.as_str())) {
            self.wrong(&format!("{key}.{unknown}"), "is not known; correct or remove it");
        }
        Some(entries)
    }

    pub(super) fn path(&mut self, key: &str, value: Option<&Value>) -> Option<PathBuf> {
        let dir = self.file.parent().unwrap_or(Path::new("")).to_owned();
        self.parsed(key, value, |text| match text {
            "" => Err("is empty".to_owned()),
            text => Ok(dir.join(text)),
        })
    }
}

/// The line of a top-level key, or of an entry below one (`tls.cert`), from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str, key: &str| {
        let rest = line.strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    let (top, below) = key.split_once('.').unwrap_or((key, ""));
    let line = text.lines().position(|line| is_key(line, top))?;
    let block = text.lines().skip(line + 1).take_while(|line| line.starts_with([' ', '#']));
    let inside = block.into_iter().position(|line| is_key(line.trim_start(), below));
    Some(line + 1 + inside.map_or(0, |inside| inside + 1))
}

pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no IP:PORT, such as 127.0.0.1:10001"))
}

/// Reads a duration, or `off`.
pub(super) fn or_off(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" { Ok(None) } else { duration(text).map(Some) }
}

/// Reads a number of bytes: `1000`, `64KiB`, `8MiB`, `1GiB` or `2TiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("'{text}' is no number of bytes, such as 1000, 64KiB, 8MiB, 1GiB or 2TiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Reads `500ms`, `30s`, `15m`, `2h` or `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration, such as 500ms, 30s, 15m, 2h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}
