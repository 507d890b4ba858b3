//! The program `dfsctl`: stores, reads, lists and removes files of a dfs cluster.

/// Gives freed blocks back to the system; the C library's allocator keeps some per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // A huge page counts as a whole where any of it is in use. Without them it takes half the memory
    // and less time to clear it; where the system has no such thing nothing is lost.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    dfs_client::cli::run()
}
