//! Runs `dfs_server::fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_server::fuzz::journal(bytes);
});
