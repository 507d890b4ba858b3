#!/usr/bin/env bash
# The tests that take long, at length: DFS_ROUNDS (30) of each, and DFS_SECONDS (180) of faults of
# all kinds at once. DFS_SEED draws the same faults again. Needs root for loop devices and small
# file systems; what cannot run says SKIPPED. The models of the protocol that take minutes, a million
# seeds of its simulator with and without an opening, and invented bytes for every decoder,
# DFS_FUZZ_SECONDS (60) each, come last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DFS_ROUNDS=${DFS_ROUNDS:-30} DFS_SECONDS=${DFS_SECONDS:-180}
if [[ -n ${DFS_SEED:-} ]]; then
    export DFS_TEST_SEED=$DFS_SEED
fi
cargo test --release --locked -p dfs-tests --test long -- --nocapture "$@"
# Ten thousand connections that ask for nothing, and floods.
DFS_CONNECTIONS=${DFS_CONNECTIONS:-10000} \
    cargo test --release --locked -p dfs-tests --test scenarios attacks -- --nocapture
cargo test --release --locked -p dfs-proto -- --ignored
DFS_SEEDS=${DFS_SEEDS:-1000000} cargo test --release --locked -p dfs-proto --test cluster promises
if ! command -v c++ >/dev/null; then
    echo 'SKIPPED invented bytes: there is no C++ compiler' >&2
elif ! command -v cargo-fuzz >/dev/null && ! cargo install cargo-fuzz --locked; then
    echo 'SKIPPED invented bytes: cargo-fuzz is not here and cannot be installed' >&2
else
    ./fuzz/run.sh "${DFS_FUZZ_SECONDS:-60}"
fi
