//! Putting a file in the place of another one.
//!
//! A plain rename over a file makes some file systems (ext4) write the new one out first, which
//! for a large one takes seconds. What was downloaded is not promised to outlive a power loss,
//! so the two change places instead, at once as well, and then the old one goes.

use std::fs::symlink_metadata;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::random::random;

/// Gives `from` the name `to`: whoever looks sees the old file or the new one. Both names are
/// in one directory.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) if symlink_metadata(to).is_ok_and(|about| about.is_file()) => {}
        // Something that is no file is there, or the file system cannot do this.
        Err(_) => return std::fs::rename(from, to),
    }
    // Under a name that nobody else looks for: a get that finds the old file under the name of
    // a partial one would write to it, and it may have other names still.
    let aside = aside(to);
    std::fs::rename(from, &aside)?;
    let exchanged = renameat_with(CWD, &aside, CWD, to, RenameFlags::EXCHANGE);
    if exchanged.is_err() {
        // Not every file system can, or it went meanwhile.
        return std::fs::rename(&aside, to).inspect_err(|_| drop(std::fs::rename(&aside, from)));
    }
    if symlink_metadata(&aside).is_ok_and(|about| about.is_dir()) {
        // It has become a directory meanwhile, which no file takes the place of.
        renameat_with(CWD, &aside, CWD, to, RenameFlags::EXCHANGE)?;
        std::fs::rename(&aside, from)?;
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // The new one is in its place, whether or not the old one can be removed.
    let _ = std::fs::remove_file(&aside);
    Ok(())
}

fn aside(target: &Path) -> PathBuf {
    target.with_file_name(format!(".dfs-{:016x}.partial", u64::from_be_bytes(random())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// On the disk, and where it is possible in memory, whose file system is another one.
    fn folders() -> Vec<tempfile::TempDir> {
        let memory = tempfile::tempdir_in("/dev/shm").ok();
        [tempfile::tempdir().ok(), memory].into_iter().flatten().collect()
    }

    #[test]
    fn a_reader_sees_the_old_file_or_the_new_one() {
        for folder in folders() {
            let (new, target) = (folder.path().join("new"), folder.path().join("file"));
            std::fs::write(&target, "0").unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let seen = std::fs::read_to_string(&target).expect("it is always there");
                        let seen: u32 = seen.parse().expect("it is always whole");
                        assert!(seen >= last);
                        last = seen;
                    }
                });
                for number in 1..500 {
                    std::fs::write(&new, number.to_string()).unwrap();
                    replace(&new, &target).unwrap();
                }
                stop.store(true, Ordering::Relaxed);
                reader.join().unwrap();
            });
            assert_eq!(std::fs::read(&target).unwrap(), b"499");
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn the_other_names_of_the_old_file_keep_it() {
        for folder in folders() {
            let [new, target, other] = ["new", "file", "other"].map(|n| folder.path().join(n));
            std::fs::write(&target, "old").unwrap();
            std::fs::hard_link(&target, &other).unwrap();
            std::fs::write(&new, "new").unwrap();
            replace(&new, &target).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"new");
            assert_eq!(std::fs::read(&other).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["file", "other"]);
        }
    }

    #[test]
    fn what_is_no_file_is_treated_as_by_a_rename() {
        let folder = tempfile::tempdir().unwrap();
        let [new, target, link, gone] =
            ["new", "folder", "link", "gone"].map(|name| folder.path().join(name));
        std::fs::write(&new, "new").unwrap();
        std::fs::create_dir(&target).unwrap();
        assert!(replace(&new, &target).is_err());
        assert_eq!(names(folder.path()), ["folder", "new"]);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace(&new, &link).unwrap();
        assert!(symlink_metadata(&link).unwrap().is_file());
        replace(&link, &gone).unwrap();
        assert_eq!(names(folder.path()), ["folder", "gone"]);
    }
}
