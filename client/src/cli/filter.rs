//! Which files of a folder are meant: `--include` and `--exclude`.
//!
//! A file is taken if no exclude matches and, where there are includes, one of them does; the order
//! of the flags does not matter. Patterns see paths below the folder, with `/` between segments.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Which files of a folder are meant.
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// Folders of which nothing is taken, so that nobody looks into them.
    closed: GlobSet,
}

impl Filter {
    /// Reads patterns. The error names one that is none.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let include = if include.is_empty() { None } else { Some(set(include, true)?) };
        Ok(Self { include, exclude: set(exclude, true)?, closed: set(exclude, false)? })
    }

    /// Whether the file at this path below the folder is meant.
    pub(super) fn takes(&self, path: &str) -> bool {
        let included = self.include.as_ref().is_none_or(|include| include.is_match(path));
        included && !self.exclude.is_match(path)
    }

    /// Whether anything in the folder at this path may be meant.
    pub(super) fn enters(&self, path: &str) -> bool {
        !self.closed.is_match(path)
    }
}

/// What the patterns match: files and, with `inside`, all that is in folders that they match;
/// without it the folders themselves.
fn set(patterns: &[String], inside: bool) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    let wrong = |error: globset::Error| format!("{error}; quote it, so that the shell leaves it");
    for pattern in patterns {
        let (bare, folders_only) = match pattern.strip_suffix('/') {
            Some(bare) => (bare, true),
            None => (&**pattern, false),
        };
        if bare.is_empty() {
            return Err(format!("the pattern '{pattern}' matches nothing; write '*' for all"));
        }
        // Without a slash in the middle it may be at any depth.
        let anchored = match bare.strip_prefix('/') {
            Some(bare) => bare.to_owned(),
            None if bare.contains('/') => bare.to_owned(),
            None => format!("**/{bare}"),
        };
        let mut add = |glob: &str| {
            let built =
                GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
            built.map(|glob| _ = set.add(glob)).map_err(wrong)
        };
        if !(inside && folders_only) {
            add(&anchored)?;
        }
        if inside {
            add(&format!("{anchored}/**"))?;
        }
    }
    set.build().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 7] = [
        "a.txt",
        "b.log",
        "cache/x.txt",
        "src/a.txt",
        "src/cache/deep/y.log",
        "src/main.rs",
        "target",
    ];

    fn taken(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let owned =
            |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&owned(include), &owned(exclude)).unwrap();
        FILES.into_iter().filter(|file| filter.takes(file)).collect()
    }

    #[test]
    fn patterns_match_names_paths_and_folders() {
        assert_eq!(taken(&[], &[]), FILES);
        assert_eq!(taken(&["*.txt"], &[]), ["a.txt", "cache/x.txt", "src/a.txt"]);
        assert_eq!(taken(&["/*.txt"], &[]), ["a.txt"]);
        assert_eq!(taken(&["src/*"], &[]), ["src/a.txt", "src/cache/deep/y.log", "src/main.rs"]);
        assert_eq!(taken(&["src"], &[]), ["src/a.txt", "src/cache/deep/y.log", "src/main.rs"]);
        assert_eq!(taken(&["cache/"], &[]), ["cache/x.txt", "src/cache/deep/y.log"]);
        assert_eq!(taken(&["target/"], &[]), [""; 0], "that is a file");
        assert_eq!(taken(&["src/**/*.log"], &[]), ["src/cache/deep/y.log"]);
        assert_eq!(taken(&["*.{rs,log}"], &[]), ["b.log", "src/cache/deep/y.log", "src/main.rs"]);
        assert_eq!(taken(&["[ab].*"], &[]), ["a.txt", "b.log", "src/a.txt"]);
    }

    #[test]
    fn an_exclude_goes_before_every_include() {
        assert_eq!(taken(&["*.txt"], &["cache"]), ["a.txt", "src/a.txt"]);
        assert_eq!(taken(&["*.txt", "*.rs"], &["src/"]), ["a.txt", "cache/x.txt"]);
        assert_eq!(taken(&[], &["*"]), [""; 0]);
    }

    #[test]
    fn a_folder_of_which_nothing_is_taken_is_not_entered() {
        let filter = |exclude: &str| Filter::new(&[], &[exclude.to_owned()]).unwrap();
        assert!(!filter("cache/").enters("src/cache") && !filter("cache").enters("cache"));
        assert!(filter("*.txt").enters("src") && filter("/cache").enters("src/cache"));
        assert!(Filter::new(&["*.txt".to_owned()], &[]).unwrap().enters("src"));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let wrong = |pattern: &str| Filter::new(&[pattern.to_owned()], &[]).err();
        assert!(wrong("a[").unwrap().contains("a["));
        assert!(wrong("").is_some() && wrong("/").is_some());
    }
}
