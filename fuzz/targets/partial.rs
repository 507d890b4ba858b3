//! Runs `dfs_client::fuzz::partial`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_client::fuzz::partial(bytes);
});
