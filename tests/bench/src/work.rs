//! The work: what is done, how much of it, and what it is called.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Store `count` files of `size` bytes from disk, all at once.
    PutFiles { count: u64, size: u64 },
    /// Read them to disk, all at once, with a cold page cache or a warm one.
    GetFiles { count: u64, size: u64, cold: bool },
    /// Store small files from memory, `at_once` at a time.
    Put { size: u64, files: u64, at_once: u64 },
    /// Read small files into memory, `at_once` at a time.
    Get { size: u64, files: u64, at_once: u64 },
    /// Store a folder of small files.
    PutTree { size: u64, files: u64 },
    /// Read a folder of small files.
    GetTree { size: u64, files: u64 },
    /// List names.
    List { files: u64 },
    /// What the machine can do.
    Floor(Floor),
}

/// Limits of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floor {
    /// MD5 of 1 GiB in memory.
    Md5,
    /// 2 GiB through one loopback TCP connection.
    Loopback,
    /// 2 GiB written to a file and synced once.
    Disk,
    /// 1 GiB read from nginx, four ranges at once, to a file.
    Nginx,
}

/// Work with a name.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// While one node of each store is down.
    pub(crate) degraded: bool,
}

impl Work {
    /// Payload in bytes.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::PutFiles { count, size } | Self::GetFiles { count, size, .. } => count * size,
            Self::Put { size, files, .. }
            | Self::Get { size, files, .. }
            | Self::PutTree { size, files }
            | Self::GetTree { size, files } => files * size,
            Self::List { .. } => 0,
            Self::Floor(Floor::Md5 | Floor::Nginx) => GIB,
            Self::Floor(Floor::Loopback | Floor::Disk) => 2 * GIB,
        }
    }

    /// Number of files.
    pub(crate) fn files(self) -> u64 {
        match self {
            Self::PutFiles { count, .. } | Self::GetFiles { count, .. } => count,
            Self::Put { files, .. }
            | Self::Get { files, .. }
            | Self::PutTree { files, .. }
            | Self::GetTree { files, .. }
            | Self::List { files } => files,
            Self::Floor(_) => 1,
        }
    }
}

/// All work, in the order in which it is done. `files` is how many small files there are at 16
/// and at 64 at once and in a folder.
pub(crate) fn all(files: u64) -> Vec<Workload> {
    let mut all = Vec::new();
    let mut add = |name: String, work| {
        let degraded = name.starts_with("down-");
        all.push(Workload { name, work, degraded });
    };
    for (name, floor) in [
        ("md5-1g", Floor::Md5),
        ("loopback-2g", Floor::Loopback),
        ("disk-2g", Floor::Disk),
        ("nginx-1g", Floor::Nginx),
    ] {
        add(format!("floor-{name}"), Work::Floor(floor));
    }
    for (name, count, size) in [("1g", 1, GIB), ("8x128m", 8, 128 * MIB)] {
        add(format!("put-{name}"), Work::PutFiles { count, size });
        add(format!("get-{name}"), Work::GetFiles { count, size, cold: false });
    }
    add("cold-get-1g".to_owned(), Work::GetFiles { count: 1, size: GIB, cold: true });
    let few = (files / 20).max(100).min(files);
    for (name, size) in [("1k", KIB), ("4k", 4 * KIB), ("64k", 64 * KIB)] {
        for (at_once, files) in [(1, few), (16, files), (64, files)] {
            add(format!("put-{name}-{at_once}"), Work::Put { size, files, at_once });
            add(format!("get-{name}-{at_once}"), Work::Get { size, files, at_once });
        }
        add(format!("put-{name}-r"), Work::PutTree { size, files });
        add(format!("get-{name}-r"), Work::GetTree { size, files });
    }
    for (name, files) in [("10k", 10_000), ("100k", 100_000)] {
        add(format!("list-{name}"), Work::List { files });
    }
    for (name, size) in
        [("16m", 16 * MIB), ("64m", 64 * MIB), ("256m", 256 * MIB), ("1g", GIB), ("4g", 4 * GIB)]
    {
        add(format!("scale-put-{name}"), Work::PutFiles { count: 1, size });
        add(format!("scale-get-{name}"), Work::GetFiles { count: 1, size, cold: false });
    }
    for files in [1000, 10_000, 100_000] {
        add(format!("scale-put-r-{files}"), Work::PutTree { size: KIB, files });
        add(format!("scale-get-r-{files}"), Work::GetTree { size: KIB, files });
    }
    add("down-put-1g".to_owned(), Work::PutFiles { count: 1, size: GIB });
    add("down-get-1g".to_owned(), Work::GetFiles { count: 1, size: GIB, cold: false });
    add("down-put-1k-64".to_owned(), Work::Put { size: KIB, files, at_once: 64 });
    add("down-get-1k-64".to_owned(), Work::Get { size: KIB, files, at_once: 64 });
    all
}

/// The work that `wanted` names: each a whole name, or the start of several. Names of nothing
/// are returned as a mistake.
pub(crate) fn choose(all: Vec<Workload>, wanted: &[String]) -> Result<Vec<Workload>, String> {
    if wanted.is_empty() {
        return Ok(all);
    }
    let exact = |word: &str| all.iter().any(|workload| workload.name == word);
    let takes = |word: &str, name: &str| {
        if exact(word) { name == word } else { name.starts_with(word) }
    };
    for word in wanted {
        if !all.iter().any(|workload| takes(word, &workload.name)) {
            return Err(word.clone());
        }
    }
    let keep = |workload: &&Workload| wanted.iter().any(|word| takes(word, &workload.name));
    Ok(all.iter().filter(keep).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let chosen = choose(all(1000), &wanted).unwrap();
        chosen.into_iter().map(|workload| workload.name).collect()
    }

    #[test]
    fn work_is_chosen_by_name_or_by_the_start_of_names() {
        assert_eq!(names(&["put-1k"]), ["put-1k-1", "put-1k-16", "put-1k-64", "put-1k-r"]);
        assert_eq!(names(&["put-1k-1"]), ["put-1k-1"]);
        assert_eq!(names(&["get-1g", "floor-d"]), ["floor-disk-2g", "get-1g"]);
        assert_eq!(choose(all(1), &["none".to_owned()]).unwrap_err(), "none");
    }

    #[test]
    fn no_two_have_the_same_name() {
        let mut names = names(&[]);
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
