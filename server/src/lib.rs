//! A node of dfs.
