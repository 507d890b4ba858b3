//! Runs `dfs_server::fuzz::chunk_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_server::fuzz::chunk_file(bytes);
});
