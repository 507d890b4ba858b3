#!/usr/bin/env bash
# Shows dfs at work on this machine: four nodes, some files, two nodes killed, every file back.
#
#   ./deploy/quickstart.sh [FILE…]      without a FILE: the two samples beside this script
#
# It shows each command before it runs it. Where it has built dfsd and dfsctl (in target/, or
# where CARGO_TARGET_DIR points to), the same commands can be typed.
#
# Everything happens in a temporary directory that is removed at the end; nothing keeps
# running. Exit code 0 means that every file came back as it was.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  exit 0
fi

# ---- What to store

files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then
  files=("$here/samples/harbour.txt" "$here/samples/waves.png")
fi
declare -A seen=()
for file in "${files[@]}"; do
  name=$(basename -- "$file")
  if [[ ! -f $file || ! -r $file ]]; then
    echo "quickstart: $file is not a file that can be read" >&2
    exit 2
  fi
  if [[ -n ${seen[$name]:-} ]]; then
    echo "quickstart: two files are called $name; give them different names" >&2
    exit 2
  fi
  seen[$name]=1
done
# The commands below run in the temporary directory.
for i in "${!files[@]}"; do
  [[ ${files[i]} == /* ]] || files[i]=$PWD/${files[i]}
done

# ---- Talking and cleaning up

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Shows a command as it could be typed.
show() {
  local word line='$'
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,-]+$ ]]; then line+=" $word"; else line+=" ${word@Q}"; fi
  done
  printf '%s\n' "$line"
}

# Shows a command, then runs it.
run() {
  show "$@"
  "$@"
}

work=''
pids=('' '' '' '' '') # by position; 0 is not used

cleanup() {
  local code=$?
  trap - EXIT INT TERM HUP
  local pid
  for pid in "${pids[@]}"; do
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    [[ -z $pid ]] || wait "$pid" 2>/dev/null || true
  done
  if [[ $code -ne 0 && -n $work ]]; then
    tail -n 20 "$work"/node?.log 2>/dev/null >&2 || true
    echo "quickstart: failed with exit code $code" >&2
  fi
  cd /
  [[ -z $work ]] || rm -rf -- "$work"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# ---- The nodes

# Whether something listens on a port of this machine.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Prints a base such that it and the three ports above, and those 1000 higher, are free.
free_base() {
  local try base port
  for try in {1..200}; do
    base=$((10000 + RANDOM % 5000 * 4))
    for port in $((base)) $((base + 1)) $((base + 2)) $((base + 3)) \
      $((base + 1000)) $((base + 1001)) $((base + 1002)) $((base + 1003)); do
      if listens "$port"; then continue 2; fi
    done
    echo "$base"
    return
  done
  echo "quickstart: no free ports after $try tries" >&2
  return 1
}

start() {
  local node=$1
  echo "\$ dfsd serve --config cluster/dfs$node.yaml &"
  dfsd serve --config "cluster/dfs$node.yaml" >>"node$node.log" 2>&1 &
  pids[node]=$!
}

# A node binds its port when it can answer, and no sooner.
await() {
  local node=$1 port=$((base + $1 - 1)) deadline=$((SECONDS + 30))
  until listens "$port"; do
    if ! kill -0 "${pids[node]}" 2>/dev/null; then
      echo "quickstart: node $node ended at its start" >&2
      return 1
    fi
    if ((SECONDS > deadline)); then
      echo "quickstart: node $node does not listen on port $port" >&2
      return 1
    fi
    sleep 0.05
  done
}

# Ends a node as a power cut would.
crash() {
  local node=$1
  echo "\$ kill -9 ${pids[node]}   # node $node"
  kill -KILL "${pids[node]}"
  wait "${pids[node]}" 2>/dev/null || true
  pids[node]=''
}

# ---- The show

say "Building dfsd and dfsctl"
run cargo build --release --locked --manifest-path "$root/Cargo.toml" -p dfs-server -p dfs-client
target=$(cd "${CARGO_TARGET_DIR:-$root/target}" && pwd)
export PATH="$target/release:$PATH"

work=$(mktemp -d "${TMPDIR:-/tmp}/dfs-quickstart.XXXXXX")
cd "$work"

say "A cluster for development: configurations, a user, a secret, four data directories"
base=$(free_base)
run dfsd dev --dir cluster --base-port "$base" --init-only
run export DFS_CONFIG=cluster/dfs.yaml

say "Four nodes"
for node in 1 2 3 4; do start "$node"; done
for node in 1 2 3 4; do await "$node"; done
run dfsctl status

say "Store: each file is cut into four chunks, and each chunk goes to two nodes"
for file in "${files[@]}"; do
  run dfsctl put -- "$file"
done
run dfsctl list -l

say "Nodes 1 and 3 crash"
crash 1
crash 3

say "Nodes 2 and 4 hold a whole copy of everything: fetch it and compare"
mkdir fetched
for file in "${files[@]}"; do
  name=$(basename -- "$file")
  run dfsctl get -- "$name" "fetched/$name"
  run cmp -- "$file" "fetched/$name"
done
echo "all the same"

say "Nodes 1 and 3 come back, and nodes 1 and 2 crash: neighbours, which may not fail together"
start 1
start 3
await 1
await 3
crash 1
crash 2
run dfsctl list | tee listing
for file in "${files[@]}"; do
  if ! grep -qxF -- "$(basename -- "$file") [incomplete]" listing; then
    echo "quickstart: $file should be listed as [incomplete]" >&2
    exit 1
  fi
done

say "Every file was stored, survived the loss of two nodes and came back as it was."
echo "The last listing says what a reader would find now: [incomplete], until node 1 or 2 is back."
