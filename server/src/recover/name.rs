//! The names under which files are recovered.

use std::path::{Path, PathBuf};

use dfs_proto::manifest::UploadId;

/// `target`, or a name beside it where one of its folders is a file, or it is a folder: in dfs
/// both `a` and `a/b` may exist.
pub(super) fn free(target: &Path, upload: UploadId) -> PathBuf {
    let is_file = |dir: &Path| dir.is_file();
    let blocked = target.exists() || target.ancestors().skip(1).any(is_file);
    if !blocked {
        return target.to_owned();
    }
    let mut path = PathBuf::new();
    for part in target.components() {
        if path.is_file() {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push("~");
            path.set_file_name(name);
        }
        path.push(part);
    }
    if path.exists() {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!("~{upload}"));
        path.set_file_name(name);
    }
    path
}

/// A time as `20261122T235959Z`, which sorts and is a file name everywhere.
pub(super) fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years: the year begins with March, so that the leap
    // day is its last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "19700101T000000Z"),
            (951_782_399_000, "20000228T235959Z"),
            (951_782_400_000, "20000229T000000Z"),
            (951_868_800_000, "20000301T000000Z"),
            (1_795_391_999_999, "20261122T235959Z"),
            (4_107_542_400_000, "21000301T000000Z"),
        ] {
            assert_eq!(time(ms), text);
        }
    }

    #[test]
    fn a_file_that_is_also_a_folder_gets_a_name_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let upload = UploadId::new([1; 16]);
        let (file, inside) = (dir.path().join("a"), dir.path().join("a/b"));
        assert_eq!(free(&file, upload), file);
        fs::write(&file, "x").unwrap();
        assert_eq!(free(&inside, upload), dir.path().join("a~/b"));
        let again = free(&file, upload);
        assert_eq!(again, dir.path().join(format!("a~{upload}")));
    }
}
