//! Runs `dfs_proto::wire::fuzz::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_proto::wire::fuzz::names(bytes);
});
