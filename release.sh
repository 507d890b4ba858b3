#!/usr/bin/env bash
# Makes a release: a tarball with statically linked programs, completions, manual pages, licences and
# a list of what is in them, and its checksum.
#
#   ./release.sh [--allow-dirty] OUT_DIR
#
# The list (sbom.cdx.json, CycloneDX) names every crate that is linked in. The API of a release is
# what programs will rely on: it has to be that of tests/released/dfs.proto. DFS_STATIC names a
# directory with programs to pack instead of building them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

dirty=''
if [[ ${1:-} == --allow-dirty ]]; then
  dirty=1
  shift
fi
if (($# != 1)); then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
out=$(mkdir -p "$1" && cd "$1" && pwd)

if [[ -z $dirty && -n $(git status --porcelain) ]]; then
  echo 'release: there are changes that are not committed; see git status' >&2
  exit 1
fi
if ! cmp -s proto/dfs.proto tests/released/dfs.proto; then
  echo 'release: the API has grown: cp proto/dfs.proto tests/released/, and commit that' >&2
  exit 1
fi

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
if ! grep -q "^## $version" CHANGELOG.md; then
  echo "release: CHANGELOG.md says nothing of $version" >&2
  exit 1
fi
host=$(rustc -vV | sed -n 's/^host: //p')
if [[ -n ${DFS_STATIC:-} ]]; then
  built=$DFS_STATIC
else
  # With --target the flags are for the programs only, not for what builds them. Random bytes come
  # from the kernel: a static program would look for /dev/urandom. Paths of this machine stay out.
  home=${CARGO_HOME:-$HOME/.cargo}
  flags="-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\""
  flags+=" --remap-path-prefix=$PWD=dfs --remap-path-prefix=$home=cargo"
  flags+=${CARGO_TARGET_DIR:+" --remap-path-prefix=$CARGO_TARGET_DIR=target"}
  RUSTFLAGS=$flags cargo build --profile dist --locked --target "$host" -p dfs-server -p dfs-client
  built=${CARGO_TARGET_DIR:-target}/$host/dist
fi

name=dfs-$version-$host
work=$(mktemp -d "${TMPDIR:-/tmp}/dfs-release.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
dir=$work/$name
mkdir -p "$dir"/{bin,completions,man,systemd}
install -m 755 "$built/dfsd" "$built/dfsctl" "$dir/bin/"
strip "$dir"/bin/*
cp README.md ARCHITECTURE.md SECURITY.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$dir/"
cp -r docs "$dir/"
cp proto/dfs.proto "$dir/"
cp deploy/systemd/*.service "$dir/systemd/"
cp deploy/prepare.sh "$dir/"
for shell in bash zsh fish elvish powershell; do
  "$dir/bin/dfsctl" completions "$shell" >"$dir/completions/dfsctl.$shell"
done
"$dir/bin/dfsctl" man --out "$dir/man"
cargo metadata --locked --format-version 1 --filter-platform "$host" |
  deploy/sbom.py "$version" dfs-server dfs-client >"$dir/sbom.cdx.json"

# The same sources make the same bytes: one time and one owner for all files.
epoch=$(git log -1 --format=%ct)
tar -C "$work" --sort=name --mode=u=rwX,go=rX --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$name" |
  gzip -9n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256" && cat "$name.tar.gz.sha256")
