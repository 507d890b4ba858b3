//! The client of dfs.
