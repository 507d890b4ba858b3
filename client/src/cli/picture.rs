//! Small pictures of where a file is and what may still fail, for people.

use std::fmt::Write;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::placement::{NodeId, home_chunks};

use super::style::{Role, Style};
use crate::{Health, Listed, readable_without};

/// The four nodes in as many letters: its number where a node holds what it should, `!` where it
/// lacks some of that, `?` where it did not answer.
pub(super) fn nodes(file: &Listed, style: &Style) -> String {
    let mut picture = String::new();
    for id in NodeId::ALL {
        let (role, letter) = match file.nodes[id.index()] {
            None => (Role::Warning, "?".to_owned()),
            Some(have) if have.covers(home_chunks(file.file.x, id)) => (Role::Good, id.to_string()),
            Some(_) => (Role::Bad, "!".to_owned()),
        };
        write!(picture, "{}", style.paint(role, &letter)).expect("a string takes all text");
    }
    picture
}

/// How a state looks.
pub(super) const fn role(health: Health) -> Role {
    match health {
        Health::Complete => Role::Good,
        Health::Degraded | Health::Unknown => Role::Warning,
        Health::Incomplete => Role::Bad,
    }
}

/// Width of a node's column.
const COLUMN: usize = 14;

/// A table of what each node holds, and whether it may fail next without loss.
pub(super) fn table(file: &Listed, style: &Style) -> String {
    let column = |text: &str, role| format!("{:<COLUMN$}", style.paint(role, text));
    let mut rows = [String::new(), String::new(), String::new()];
    for id in NodeId::ALL {
        let (role, held) = match file.nodes[id.index()] {
            None => (Role::Warning, "no answer".to_owned()),
            Some(have) => (cell_role(file, id, have), cells(have)),
        };
        rows[0] += &column(&format!("node {id}"), Role::Heading);
        rows[1] += &column(&held, role);
        let fails = match file.nodes[id.index()] {
            None => (Role::Faint, "-"),
            Some(_) if readable_without(&file.nodes, &[id]) => (Role::Good, "yes"),
            Some(_) => (Role::Bad, "no"),
        };
        rows[2] += &column(fails.1, fails.0);
    }
    let names = ["", "chunks", "may fail"];
    let mut table = String::new();
    for (name, row) in names.into_iter().zip(&rows) {
        writeln!(table, "{name:<10} {}", row.trim_end()).expect("a string takes all text");
    }
    table
}

fn cell_role(file: &Listed, id: NodeId, have: ChunkSet) -> Role {
    if have.covers(home_chunks(file.file.x, id)) { Role::Good } else { Role::Bad }
}

fn cells(have: ChunkSet) -> String {
    let mut cells: Vec<String> = Vec::new();
    for chunk in ChunkId::ALL {
        if have.contains(chunk) {
            cells.push(format!("[{chunk}]"));
        }
    }
    if cells.is_empty() { "none".to_owned() } else { cells.join(" ") }
}

/// A number of bytes in three digits or so: `999 B`, `1.5 KiB`, `12 MiB`.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfs_proto::digest::Residue;
    use dfs_proto::manifest::UploadId;
    use dfs_proto::name::FilePath;
    use dfs_proto::protocol::listing::FileEntry;
    use dfs_proto::tag::{Hlc, Tag};

    fn file(nodes: [Option<&[u32]>; 4]) -> Listed {
        let set = |chunks: &[u32]| -> ChunkSet {
            chunks.iter().filter_map(|chunk| ChunkId::new(*chunk)).collect()
        };
        let file = FileEntry {
            upload: UploadId::new([0; 16]),
            size: 4,
            x: Residue::R0,
            have: ChunkSet::EMPTY,
            manifest: None,
        };
        Listed {
            path: FilePath::new("a").unwrap(),
            tag: Tag { hlc: Hlc::new(1), writer: [0; 16] },
            file,
            nodes: nodes.map(|chunks| chunks.map(set)),
            health: Health::Complete,
            unconfirmed: false,
        }
    }

    const WHOLE: [Option<&[u32]>; 4] = [Some(&[1, 2]), Some(&[2, 3]), Some(&[3, 4]), Some(&[4, 1])];

    #[test]
    fn four_letters_for_four_nodes() {
        let plain = Style::default();
        assert_eq!(nodes(&file(WHOLE), &plain), "1234");
        let [one, _, _, four] = WHOLE;
        assert_eq!(nodes(&file([one, Some(&[]), None, four]), &plain), "1!?4");
        let spilled: Option<&[u32]> = Some(&[1, 2, 3, 4]);
        assert_eq!(nodes(&file([spilled, None, Some(&[3]), four]), &plain), "1?!4");
    }

    #[test]
    fn the_table_says_who_may_fail() {
        let whole = "
           node 1        node 2        node 3        node 4
chunks     [1] [2]       [2] [3]       [3] [4]       [1] [4]
may fail   yes           yes           yes           yes
";
        assert_eq!(table(&file(WHOLE), &Style::default()), whole[1..]);
        let [one, _, three, four] = WHOLE;
        let without = "
           node 1        node 2        node 3        node 4
chunks     [1] [2]       no answer     [3] [4]       none
may fail   no            -             no            yes
";
        let _ = four;
        assert_eq!(table(&file([one, None, three, Some(&[])]), &Style::default()), without[1..]);
    }

    #[test]
    fn sizes_for_people_have_three_digits() {
        const KIB: u64 = 1 << 10;
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (KIB, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 * KIB, "10 KiB"),
            (1023 * KIB + 1023, "1023 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15 EiB"),
        ];
        for (bytes, shown) in sizes {
            assert_eq!(human(bytes), shown, "{bytes}");
        }
    }
}
