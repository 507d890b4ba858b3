#!/usr/bin/env bash
# Builds the programs with the feature `otlp` and has a collector receive the spans of a put.
# Not among the usual checks, which compile it only: the build takes minutes of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo test --release --locked -p dfs-tests --features otlp --test scenarios traces
