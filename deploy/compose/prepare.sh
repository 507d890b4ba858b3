#!/usr/bin/env bash
# Makes what compose.yaml mounts: cluster/ with secrets and configurations, data/, and .env.
#
#   ./prepare.sh [--plaintext]        dfsd has to be in PATH, or in DFSD
set -euo pipefail
cd "${DFS_COMPOSE_DIR:-$(dirname "${BASH_SOURCE[0]}")}"
umask 077

deploy=${DFS_DEPLOY:-..}
DFS_PORT=10001 DFS_PORT_STEP=1 "$deploy/prepare.sh" "$@" cluster \
  dfs1,127.0.0.1 dfs2,127.0.0.1 dfs3,127.0.0.1 dfs4,127.0.0.1
if [[ ${1:-} == --plaintext ]]; then
  security='insecure: true'
else
  security='tls: { cert: nodeN.pem, key: nodeN.key, ca: ca.pem }'
fi
for node in 1 2 3 4; do
  mkdir -p "data/dfs$node"
  cat >"cluster/node$node/dfs$node.yaml" <<END
cluster: dfs
node: $node
listen: 0.0.0.0:10001
data_dir: /var/lib/dfs/data
users_file: users.yaml
peers: [dfs1:10001, dfs2:10001, dfs3:10001, dfs4:10001]
cluster_secret_file: cluster.secret
${security//N/$node}
END
done
printf 'DFS_UID=%d\nDFS_GID=%d\n' "$(id -u)" "$(id -g)" >.env
