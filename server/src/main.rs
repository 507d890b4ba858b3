//! The program `dfsd`: one node of a dfs cluster.

use std::process::ExitCode;

/// Gives freed blocks back to the system. With the C library's allocator every thread that
/// handled blocks of 1 MiB keeps some, and a busy node grows to several times its need.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dfs_server::cli::run()
}
