#!/usr/bin/env bash
# Has promtool check the rules, every expression of the dashboard, and the metrics of the nodes
# whose admin addresses are named: deploy/prometheus/check.sh [HOST:PORT…]
# PROMTOOL names the program if it is not in the search path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
promtool=${PROMTOOL:-promtool}

if ! command -v "$promtool" >/dev/null; then
  echo "SKIPPED: there is no $promtool; Debian has it in the package prometheus" >&2
  exit 0
fi

"$promtool" check config "$here/prometheus.yml"

# The dashboard's expressions as recording rules, which promtool can parse.
expressions=$(mktemp)
trap 'rm -f "$expressions"' EXIT
python3 - "$here/../grafana/dfs.json" >"$expressions" <<'PYTHON'
import json, sys

dashboard = json.load(open(sys.argv[1]))
print("groups:\n- name: dashboard\n  rules:")
number = 0
for panel in dashboard["panels"]:
    for target in panel.get("targets", []):
        print(f"  - record: dashboard:{number}:expression\n    expr: {json.dumps(target['expr'])}")
        number += 1
PYTHON
"$promtool" check rules "$expressions"

for address in "$@"; do
  echo "Checking the metrics of $address"
  python3 -c 'import sys, urllib.request
sys.stdout.buffer.write(urllib.request.urlopen(f"http://{sys.argv[1]}/metrics", timeout=10).read())' \
    "$address" | "$promtool" check metrics
done
