//! du: how much lies under folders.

use std::collections::BTreeMap;

use super::Context;
use super::args::{DuArgs, Output};
use super::exit::{Exit, report};
use super::list::{next_file, prefix};
use super::picture::human;
use super::talk::say;
use crate::{Error, Lister};

/// Files and bytes of one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
struct Sum {
    path: String,
    files: u64,
    bytes: u64,
}

impl Sum {
    fn of(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The sums of a listing in byte order.
struct Sums {
    prefix: String,
    depth: usize,
    folders: BTreeMap<String, Sum>,
    total: Sum,
}

impl Sums {
    fn new(prefix: &str, depth: usize) -> Self {
        let (prefix, total) = (prefix.to_owned(), Sum::of(prefix));
        Self { prefix, depth, folders: BTreeMap::new(), total }
    }

    /// Counts a file for the total, and for its folder `depth` levels below the prefix. What lies
    /// higher counts for the deepest folder that it has.
    fn add(&mut self, path: &str, bytes: u64) {
        self.total.add(bytes);
        let rest = path.get(self.prefix.len()..).unwrap_or_default();
        let slashes = rest.match_indices('/').map(|(place, _)| place);
        let Some(end) = slashes.take(self.depth).last() else { return };
        let folder = &path[..=self.prefix.len() + end];
        self.folders.entry(folder.to_owned()).or_insert_with(|| Sum::of(folder)).add(bytes);
    }
}

pub(super) async fn run(context: &Context, args: DuArgs) -> Exit {
    match sum_up(context, &args).await {
        Err(error) => report(&error),
        Ok((sums, lister)) => {
            let said = match context.settings.output {
                Output::Json => {
                    let Sums { folders, total, .. } = &sums;
                    let json = serde_json::json!({
                        "folders": folders.values().collect::<Vec<_>>(),
                        "files": total.files,
                        "bytes": total.bytes,
                    });
                    say(&format!("{json}\n"))
                }
                Output::Text => say(&text(&sums, args.human)),
            };
            if lister.taking_part() < 2 { Exit::Nodes } else { said }
        }
    }
}

async fn sum_up(context: &Context, args: &DuArgs) -> Result<(Sums, Lister), Error> {
    let prefix = prefix(args.prefix.clone().unwrap_or_default())?;
    let mut sums = Sums::new(prefix.as_str(), args.depth);
    let mut lister = context.client.list(prefix, false);
    while let Some(file) = next_file(context, &mut lister).await? {
        sums.add(file.path.as_str(), file.file.size);
    }
    Ok((sums, lister))
}

fn text(sums: &Sums, for_people: bool) -> String {
    let line = |sum: &Sum, path: &str| {
        let bytes = if for_people { human(sum.bytes) } else { sum.bytes.to_string() };
        format!("{bytes:>14}  {:>9}  {path}\n", sum.files)
    };
    let total = if sums.prefix.is_empty() { "total" } else { &sums.prefix };
    let folders = sums.folders.values().map(|sum| line(sum, &sum.path));
    folders.chain([line(&sums.total, total)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(prefix: &str, depth: usize) -> Vec<(String, u64, u64)> {
        let mut sums = Sums::new(prefix, depth);
        for (path, bytes) in
            [("a", 1), ("b/1", 2), ("b/c/1", 4), ("b/c/d/1", 8), ("b/z", 16), ("bz", 32)]
        {
            if path.starts_with(prefix) {
                sums.add(path, bytes);
            }
        }
        let all = sums.folders.into_values().chain([sums.total]);
        all.map(|sum| (sum.path, sum.files, sum.bytes)).collect()
    }

    #[test]
    fn counts_what_lies_under_folders_of_a_depth() {
        let b = ("b/".to_owned(), 4, 30);
        assert_eq!(sums("", 1), [b, (String::new(), 6, 63)]);
        let two = [("b/".into(), 2, 18), ("b/c/".into(), 2, 12), (String::new(), 6, 63)];
        assert_eq!(sums("", 2), two);
        assert_eq!(sums("", 0), [(String::new(), 6, 63)]);
        assert_eq!(sums("b/", 1), [("b/c/".to_owned(), 2, 12), ("b/".to_owned(), 4, 30)]);
        assert_eq!(sums("b", 1), [("b/".to_owned(), 4, 30), ("b".to_owned(), 5, 62)]);
    }
}
