#!/usr/bin/env bash
# Feeds invented bytes to every decoder: fuzz/run.sh [SECONDS of each target, 60]. Ends with an
# error at the first crash; the bytes that did it are in fuzz/artifacts, and belong into
# fuzz/corpus, where `cargo test` reads them. Needs what the README asks for, and a C++ compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-60}

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
# What finds new paths through the code is an unstable flag of the stable compiler.
export RUSTC_BOOTSTRAP=1
built=${CARGO_TARGET_DIR:-$PWD/target}
run=(cargo fuzz run --fuzz-dir . --target-dir "$built")

total=0
for file in targets/*.rs; do
  target=$(basename "$file" .rs)
  found=$built/corpus/$target
  mkdir -p "$found"
  # New finds go to the first directory; what is committed stays as it is.
  if ! "${run[@]}" "$target" "$found" "corpus/$target" -- -max_total_time="$seconds" \
    -print_final_stats=1 -max_len=4096 >"$built/$target.log" 2>&1; then
    tail -n 60 "$built/$target.log" >&2
    echo "$target: failed" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$built/$target.log")
  echo "$target: $runs executions"
  total=$((total + runs))
done
echo "all: $total executions"
