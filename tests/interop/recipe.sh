#!/usr/bin/env bash
# Runs the recipe of docs/protocol.md as it stands there: recipe.sh DOCUMENT CLUSTER NODE…
#
# CLUSTER is a directory of `dfsd dev`, NODE… its four addresses; grpcurl has to be in PATH.
set -euo pipefail

document=$1 cluster=$2
shift 2
work=$(mktemp -d "${TMPDIR:-/tmp}/dfs-recipe.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
ln -s "$cluster" "$work/.dfs-dev"

# What is between the fences after the mark; only the addresses are others.
sed -n '/^<!-- recipe -->$/,/^```$/p' "$document" | sed '1,2d;$d' >"$work/written.sh"
sed "s/^nodes=.*/nodes=('' $*)/" "$work/written.sh" >"$work/recipe.sh"
if [[ $(wc -l <"$work/recipe.sh") -lt 50 ]] || cmp -s "$work/written.sh" "$work/recipe.sh"; then
  echo "$document has no recipe" >&2
  exit 1
fi

cd "$work"
bash -euo pipefail recipe.sh | tee said
cmp hello.txt hello.back
if grep -q refusal said; then
  echo 'a node refused the Commit' >&2
  exit 1
fi
