//! man: the manual pages, made of the same text as the help.

use std::io::Write;
use std::path::Path;

use super::args::ManArgs;
use super::exit::{Exit, report};
use super::help;
use super::talk::{complain, say};
use crate::Error;

pub(super) fn run(args: &ManArgs) -> Exit {
    match (&args.out, &args.command) {
        (Some(folder), None) => match write_all(folder) {
            Ok(()) => Exit::Ok,
            Err(error) => report(&Error::local("write manual pages to", folder)(error)),
        },
        (None, name) => print(name.as_deref()),
        (Some(_), Some(_)) => {
            complain("man: --out writes the pages of all commands; leave the name out");
            Exit::Usage
        }
    }
}

fn write_all(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(help::manual().disable_help_subcommand(true), folder)
}

fn print(name: Option<&str>) -> Exit {
    let mut root = help::manual();
    // Names the subcommands after it.
    root.build();
    let command = match name {
        None => Some(root),
        Some(name) => root.find_subcommand(name).cloned(),
    };
    let Some(command) = command else {
        complain("man: there is no such command; 'dfsctl --help' lists them");
        return Exit::Usage;
    };
    let mut page = Vec::new();
    let made = clap_mangen::Man::new(command).render(&mut page).and_then(|()| page.flush());
    match made {
        Ok(()) => say(&String::from_utf8_lossy(&page)),
        Err(error) => {
            complain(&format!("cannot make the page: {error}"));
            Exit::Other
        }
    }
}
