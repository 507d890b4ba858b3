//! The program `dfsd`: one node of a dfs cluster.

use std::process::ExitCode;

/// Gives freed blocks back to the system. With the C library's allocator every thread that
/// handled blocks of 1 MiB keeps some, and a busy node grows to several times its need.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A huge page counts as a whole where any of it is in use. Without them it takes half the memory
    // and less time to clear it; where the system has no such thing nothing is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    dfs_server::cli::run()
}
