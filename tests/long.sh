#!/usr/bin/env bash
# The tests that take long, with many rounds: DFS_ROUNDS (30) of each. Needs root for loop
# devices and small file systems; what cannot run says SKIPPED. The models of the protocol that
# take minutes, and a million seeds of its simulator, come last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DFS_ROUNDS=${DFS_ROUNDS:-30}
cargo test --release --locked -p dfs-tests --test long -- --nocapture "$@"
cargo test --release --locked -p dfs-proto -- --ignored
DFS_SEEDS=${DFS_SEEDS:-1000000} cargo test --release --locked -p dfs-proto --test cluster promises
