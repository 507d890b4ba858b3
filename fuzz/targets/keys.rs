//! Runs `dfs_server::fuzz::keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_server::fuzz::keys(bytes);
});
