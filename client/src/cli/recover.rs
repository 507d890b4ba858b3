//! recover: reading a node's data directory is the business of `dfsd`, which does it.

use std::path::PathBuf;
use std::process::Command;

use super::args::RecoverArgs;
use super::exit::Exit;
use super::talk::complain;

pub(super) fn run(args: &RecoverArgs, json: bool) -> Exit {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("dfsd"));
    let program = beside.filter(|beside| beside.is_file()).unwrap_or_else(|| PathBuf::from("dfsd"));
    let mut command = Command::new(&program);
    command.arg("recover").arg("--from").args(&args.from);
    if json {
        command.arg("--json");
    }
    match command.status() {
        Err(error) => {
            complain(&format!(
                "cannot run {}: {error}; 'recover' needs dfsd beside dfsctl or on the PATH",
                program.display()
            ));
            Exit::Other
        }
        Ok(status) => match status.code() {
            Some(0) => Exit::Ok,
            Some(2) => Exit::Usage,
            // Some files were incomplete; it has named them.
            _ => Exit::Corrupt,
        },
    }
}
