//! The program `dfsd`: one node of a dfs cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfs_server::cli::run()
}
