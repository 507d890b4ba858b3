//! `dfsd` with the allocator of the C library, in front of which what it does can be counted.

fn main() -> std::process::ExitCode {
    dfs_server::cli::run()
}
