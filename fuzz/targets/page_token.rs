//! Runs `dfs_server::fuzz::page_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_server::fuzz::page_token(bytes);
});
