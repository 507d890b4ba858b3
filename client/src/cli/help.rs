//! Help of each command, with examples first; the man pages are made of the same.

use clap::{Command, CommandFactory};

use super::args::Args;

/// The commands in the order in which people need them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Files", &["put", "get", "list", "du", "stat", "rm"]),
    ("Safety", &["verify", "repair", "recover"]),
    ("Cluster and login", &["status", "doctor", "login", "logout", "config"]),
    ("More", &["shell", "completions", "man"]),
];

/// What to type, and what it does.
type Examples = &'static [(&'static str, &'static str)];

const ROOT: Examples = &[
    ("dfsctl put report.pdf", "store report.pdf as report.pdf"),
    ("dfsctl put -r photos", "store a folder"),
    ("dfsctl get report.pdf", "read it into the current folder"),
    ("dfsctl list -l logs/", "size, time and state of what is under logs/"),
    ("dfsctl stat report.pdf", "which node holds what, and what may still fail"),
    ("dfsctl doctor", "what is wrong, and what to do"),
];

const EXAMPLES: &[(&str, Examples)] = &[
    (
        "put",
        &[
            ("dfsctl put report.pdf", "store it as report.pdf"),
            ("dfsctl put *.log logs/", "store several files under logs/"),
            ("pg_dump shop | dfsctl put - backup/shop.sql", "store what a program prints"),
            ("dfsctl put -r photos backup/photos", "photos/x becomes backup/photos/x"),
            ("dfsctl put -r src --exclude '*.o' --exclude target/ -n", "what would be stored"),
            ("dfsctl put --resume --bwlimit 10M disk.img", "go on where it was cut off, slowly"),
        ],
    ),
    (
        "get",
        &[
            ("dfsctl get report.pdf", "read it into the current folder"),
            ("dfsctl get notes.txt - | less", "read it to stdout"),
            ("dfsctl get -r backup/photos photos", "backup/photos/x becomes photos/x"),
            ("dfsctl get -r logs --include '*.log' --no-clobber", "only what is not here yet"),
        ],
    ),
    (
        "list",
        &[
            ("dfsctl list", "all files"),
            ("dfsctl list -l logs/", "size, time, and which node holds what"),
            ("dfsctl list --folders logs/", "one level"),
            ("dfsctl list -0 tmp/ | xargs -0 dfsctl rm", "names for other programs"),
        ],
    ),
    (
        "du",
        &[("dfsctl du", "each folder"), ("dfsctl du -H -D 2 backup/", "two levels, for people")],
    ),
    ("stat", &[("dfsctl stat report.pdf", "which node holds what, and what may still fail")]),
    (
        "rm",
        &[
            ("dfsctl rm report.pdf notes.txt", "remove two files"),
            ("dfsctl rm -r -n logs", "what would be removed"),
            ("dfsctl rm -r logs", "remove all under logs/"),
        ],
    ),
    (
        "verify",
        &[("dfsctl verify", "read every copy of everything"), ("dfsctl verify backup/", "")],
    ),
    (
        "repair",
        &[
            ("dfsctl repair --dry-run", "what would be done"),
            ("dfsctl repair --quick", "only what looks wrong"),
            ("dfsctl repair", "re-read every chunk, too"),
        ],
    ),
    (
        "recover",
        &[("dfsctl recover --from /mnt/dfs1 /mnt/dfs3 rescued", "files go to rescued/USER/PATH")],
    ),
    ("status", &[("dfsctl status", "a line for each node")]),
    (
        "doctor",
        &[
            ("dfsctl doctor", "for people"),
            ("dfsctl doctor --output json", "for programs: docs/json.md"),
        ],
    ),
    ("login", &[("dfsctl login", "ask for the password"), ("dfsctl login --user bob", "")]),
    ("logout", &[("dfsctl logout", "on all nodes, and here")]),
    (
        "config",
        &[
            ("dfsctl config show", "each setting, and where it comes from"),
            ("dfsctl config check", "everything that is wrong"),
            ("dfsctl config use work", "the cluster that counts from now on"),
            ("dfsctl --context home list", "another one for once"),
        ],
    ),
    ("shell", &[("dfsctl shell", "a prompt"), ("dfsctl shell < commands.txt", "a script")]),
    (
        "completions",
        &[("dfsctl completions bash > /etc/bash_completion.d/dfsctl", "for bash, for everybody")],
    ),
    ("man", &[("dfsctl man put | man -l -", "read one"), ("dfsctl man --out man1", "write all")]),
];

const EXIT_CODES: &str = "\
Exit codes:
  0 ok · 1 other failure · 2 usage or configuration · 3 not found · 4 credentials refused ·
  5 not enough nodes · 6 corrupt data · 7 outcome unknown · 8 some of several files failed ·
  130 interrupted

'dfsctl COMMAND -h' tells the most of a command, 'dfsctl COMMAND --help' all. Options name their
variables in the environment; 'dfsctl config show' tells which settings hold.";

/// Where the examples stand.
const TEMPLATE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}";

/// The program's commands with their help.
pub(super) fn command() -> Command {
    let root = Args::command();
    let groups = GROUPS.map(|(title, names)| {
        let lines = names.iter().map(|name| {
            let about = root.find_subcommand(name).and_then(Command::get_about);
            format!("  {name:<12} {}\n", about.map(ToString::to_string).unwrap_or_default())
        });
        format!("{title}:\n{}", lines.collect::<String>())
    });
    let template = format!(
        "{{about-with-newline}}\n{{before-help}}{{usage-heading}} {{usage}}\n\n{}\nOptions:\n\
         {{options}}{{after-help}}",
        groups.join("\n")
    );
    EXAMPLES
        .iter()
        .fold(root, |root, (name, examples)| {
            root.mut_subcommand(name, |command| {
                command.help_template(TEMPLATE).before_help(shown(examples))
            })
        })
        .bin_name("dfsctl")
        .help_template(template)
        .before_help(shown(ROOT))
        .after_help(EXIT_CODES)
}

/// The same for man pages, which have their examples behind.
pub(super) fn manual() -> Command {
    let root = Args::command().version(env!("CARGO_PKG_VERSION"));
    EXAMPLES
        .iter()
        .fold(root, |root, (name, examples)| {
            root.mut_subcommand(name, |command| command.after_help(shown(examples)))
        })
        .after_help(format!("{}\n\n{EXIT_CODES}", shown(ROOT)))
}

fn shown(examples: Examples) -> String {
    let width = examples.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let lines = examples.iter().map(|(line, does)| match does.is_empty() {
        true => format!("\n  {line}"),
        false => format!("\n  {line:<width$}   {does}"),
    });
    format!("Examples:{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_has_examples() {
        let root = Args::command();
        let mut names: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> =
            GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut explained: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        for all in [&mut names, &mut grouped, &mut explained] {
            all.sort_unstable();
        }
        assert_eq!(names, grouped);
        assert_eq!(names, explained);
    }

    #[test]
    fn every_example_is_understood() {
        let all = EXAMPLES.iter().flat_map(|(_, examples)| *examples).chain(ROOT);
        for (line, _) in all {
            let own = line.split(" | ").find(|part| part.starts_with("dfsctl")).unwrap();
            let own = own.split(['<', '>']).next().unwrap().replace('\'', "");
            let parsed = command().try_get_matches_from(own.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
