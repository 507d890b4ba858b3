#!/usr/bin/env python3
"""Lists what is linked into some packages, in CycloneDX: cargo metadata | sbom.py VERSION NAME…"""

import json
import sys


def linked(metadata, names):
    """The packages that `names` need at run time, transitively; no build or test dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo = [p["id"] for p in metadata["packages"] if p["name"] in names and p["source"] is None]
    seen = set(todo)
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            usual = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if usual and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return seen


def component(package):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    found = {
        "type": "library",
        "bom-ref": purl,
        "name": package["name"],
        "version": package["version"],
        "purl": purl,
        "scope": "required",
    }
    if package["license"]:
        # Some older crates write MIT/Apache-2.0.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return found


def main(version, *names):
    metadata = json.load(sys.stdin)
    chosen = linked(metadata, names)
    parts = [component(p) for p in metadata["packages"] if p["id"] in chosen]
    parts.sort(key=lambda part: part["bom-ref"])
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "dfs", "version": version}},
        "components": parts,
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


main(*sys.argv[1:])
