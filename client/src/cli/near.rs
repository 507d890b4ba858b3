//! What somebody may have meant by a path that is not there.
//!
//! Looks into one folder, at so many names and for so long at most, and only where people read
//! what is said.

use std::time::Duration;

use dfs_proto::similar::near;

use super::Context;
use super::talk::{self, Verbosity, verbosity};
use crate::{Error, FilePath, Item, Prefix};

/// Names of a folder that are looked at.
const NAMES: usize = 1000;

/// The whole search.
const LIMIT: Duration = Duration::from_secs(2);

/// Names that are told.
const TOLD: usize = 3;

/// What was to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// get, or get -r.
    Get { folder: bool },
    /// stat.
    Stat,
    /// rm, or rm -r.
    Remove { folder: bool },
}

impl Wish {
    const fn of_folder(self) -> bool {
        matches!(self, Self::Get { folder: true } | Self::Remove { folder: true })
    }

    /// What to type for a folder, where a file was named.
    fn for_folder(self, path: &str) -> String {
        match self {
            Self::Get { .. } => format!("'dfsctl get -r {path}' reads what is in it"),
            Self::Stat => format!("'dfsctl list -l {path}/' tells what is in it"),
            Self::Remove { .. } => format!("'dfsctl rm -r {path}' removes what is in it"),
        }
    }

    /// What to type for a file, where a folder was named.
    const fn for_file(self) -> &'static str {
        match self {
            Self::Get { .. } => "leave -r out, and it is read",
            Self::Stat => "it can be asked for by its name",
            Self::Remove { .. } => "leave -r out, and it is removed",
        }
    }
}

/// Says what may have been meant, behind the error that has been told.
pub(super) async fn tip(context: &Context, error: &Error, wish: Wish) {
    if verbosity() < Verbosity::Normal {
        return;
    }
    let text = match error {
        Error::NotFound { path, unconfirmed: false } => {
            let found = tokio::time::timeout(LIMIT, search(context, path, wish));
            tokio::select! {
                found = found => found.unwrap_or(Ok(None)).unwrap_or(None),
                () = context.cancel.cancelled() => None,
            }
        }
        Error::Name { path, .. } => of_name(path, wish),
        _ => None,
    };
    if let Some(text) = text {
        talk::tip(&text);
    }
}

/// What may be meant by a text that is no path.
fn of_name(text: &str, wish: Wish) -> Option<String> {
    let bare = text.trim_matches('/');
    match (bare, wish) {
        ("", Wish::Get { folder: true }) => {
            Some("'/' stands for all files: 'dfsctl get -r / FOLDER' reads them".to_owned())
        }
        ("", _) => None,
        _ if text.starts_with('/') => Some(format!("write it without the slash: {}", quoted(bare))),
        _ if text.ends_with('/') => {
            let for_folder = wish.for_folder(&quoted(bare));
            Some(format!("only folders end with a slash; {for_folder}"))
        }
        _ => None,
    }
}

async fn search(context: &Context, path: &FilePath, wish: Wish) -> Result<Option<String>, Error> {
    let client = &context.client;
    let prefix = |text: &str| {
        let named = |source| Error::Name { path: text.to_owned(), source };
        Prefix::new(text).map_err(named)
    };
    let shown = quoted(path.as_str());
    if wish.of_folder() {
        if client.stat(path).await.is_ok() {
            return Ok(Some(format!("{shown} is a file; {}", wish.for_file())));
        }
    } else if client.list_folder(prefix(&format!("{path}/"))?, false).next().await?.is_some() {
        return Ok(Some(format!("{shown} is a folder; {}", wish.for_folder(&shown))));
    }
    let parent = &path.as_str()[..path.as_str().len() - path.base_name().len()];
    let mut lister = client.list_folder(prefix(parent)?, false);
    let mut names = Vec::new();
    while names.len() < NAMES
        && let Some(item) = lister.next().await?
    {
        let (name, folder) = match item {
            Item::File(file) => (file.path.as_str()[parent.len()..].to_owned(), false),
            Item::Folder(folder) => (folder[parent.len()..].trim_end_matches('/').to_owned(), true),
        };
        names.push((name, folder));
    }
    // Whoever names a folder with -r means one.
    let may_be = names.iter().filter(|(_, folder)| *folder || !wish.of_folder());
    let near = near(path.base_name(), may_be.map(|(name, _)| name.as_str()));
    let near: Vec<String> =
        near.into_iter().take(TOLD).map(|name| quoted(&format!("{parent}{name}"))).collect();
    Ok(Some(match (&near[..], names.is_empty(), parent) {
        ([], false, "") => "'dfsctl list' tells what there is".to_owned(),
        ([], false, _) => format!("'dfsctl list {}' tells what there is", quoted(parent)),
        ([], true, "") => "nothing is stored yet; 'dfsctl put FILE' stores a file".to_owned(),
        ([], true, _) => {
            let parent = quoted(parent);
            format!(
                "there is nothing under {parent}; 'dfsctl list -d' tells which folders there are"
            )
        }
        ([one], ..) => format!("there is {one}"),
        (several, ..) => format!("there are {}", several.join(", ")),
    }))
}

/// A path as it would be typed.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%=:,".contains(c);
    if path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_would_be_typed() {
        assert_eq!(quoted("notes/größe-1.txt"), "notes/größe-1.txt");
        assert_eq!(quoted("my file"), "'my file'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_is_no_path_may_mean_one() {
        let file = Wish::Get { folder: false };
        let folder = Wish::Get { folder: true };
        let tip = |text, wish| of_name(text, wish).unwrap_or_default();
        assert!(tip("notes/", file).contains("'dfsctl get -r notes'"));
        assert!(tip("notes/", Wish::Stat).contains("'dfsctl list -l notes/'"));
        assert!(tip("/notes", file).ends_with("without the slash: notes"));
        assert!(tip("", folder).contains("get -r / FOLDER"));
        assert_eq!(tip("", file), "");
        assert_eq!(tip("a/../b", file), "");
    }
}
