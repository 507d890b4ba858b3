//! The program `dfsctl`: stores, reads, lists and removes files of a dfs cluster.

/// Gives freed blocks back to the system; the C library's allocator keeps some per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    dfs_client::cli::run()
}
