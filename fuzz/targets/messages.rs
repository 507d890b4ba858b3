//! Runs `dfs_proto::wire::fuzz::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    dfs_proto::wire::fuzz::messages(bytes);
});
