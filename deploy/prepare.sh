#!/usr/bin/env bash
# Makes what a cluster of four nodes needs before its first start: an authority and certificates,
# the cluster's secret, a user, and the client's configuration.
#
#   deploy/prepare.sh [--plaintext] DIR HOST1 HOST2 HOST3 HOST4
#
# HOSTn is how the other nodes and the clients call node n, without a port; several names with
# commas between them. It makes, and never overwrites:
#
#   DIR/ca/                        the authority; its key belongs in a safe place, not on a node
#   DIR/node1 … DIR/node4          what each node needs: certificate, key, ca.pem, users.yaml,
#                                  cluster.secret
#   DIR/client/                    dfs.yaml, ca.pem and alice.pass for dfsctl
#
# --plaintext makes no certificates. dfsd has to be in PATH, or in DFSD.
set -euo pipefail
umask 077

dfsd=${DFSD:-dfsd}
plaintext=''
if [[ ${1:-} == --plaintext ]]; then
  plaintext=1
  shift
fi
if (($# != 5)); then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
dir=$1
shift
hosts=("$@")
if [[ -e $dir/client ]]; then
  echo "prepare: $dir/client is there already; nothing was changed" >&2
  exit 1
fi

random() { head -c 32 /dev/urandom | base64 | tr -d '/+=\n'; }

mkdir -p "$dir/client"
random >"$dir/cluster.secret"
random >"$dir/client/alice.pass"
"$dfsd" user add alice --users "$dir/users.yaml" --password-stdin <"$dir/client/alice.pass"
[[ -n $plaintext ]] || "$dfsd" cert create-ca --out "$dir/ca"

for node in 1 2 3 4; do
  mkdir -p "$dir/node$node"
  cp "$dir/users.yaml" "$dir/cluster.secret" "$dir/node$node/"
  if [[ -z $plaintext ]]; then
    IFS=, read -ra names <<<"${hosts[node - 1]}"
    "$dfsd" cert issue --ca "$dir/ca" --node "$node" --host "${names[@]}" --out "$dir/node$node"
  fi
done
rm "$dir/users.yaml" "$dir/cluster.secret"

{
  echo "cluster: ${DFS_CLUSTER:-dfs}"
  printf 'nodes: ['
  for node in 1 2 3 4; do
    host=${hosts[node - 1]}
    printf '%s:%d%s' "${host##*,}" "$((${DFS_PORT:-10001} + (${DFS_PORT_STEP:-0} * (node - 1))))" \
      "$( ((node == 4)) || echo ', ')"
  done
  echo ']'
  echo 'user: alice'
  echo 'password_file: alice.pass'
  if [[ -z $plaintext ]]; then
    echo 'tls: { ca: ca.pem }'
    cp "$dir/ca/ca.pem" "$dir/client/"
  fi
} >"$dir/client/dfs.yaml"
echo "made $dir; the client's configuration is $dir/client/dfs.yaml"
