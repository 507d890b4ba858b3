//! dfsctl: stores, reads, lists and removes files of a dfs cluster.

fn main() -> std::process::ExitCode {
    dfs_client::cli::run()
}
