//! Runs `dfs_server::fuzz::password`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_server::fuzz::password(bytes);
});
