"""Checks the rules of the Python client against the golden vectors: vectors.py DIR"""

import base64
import json
import sys
from pathlib import Path

import dfs_pb2 as pb
import rules
from client import chunk_stream, describe
from google.protobuf import json_format


def pattern(size: int, seed: int) -> bytes:
    return bytes((i * 31 + i // 256 * 7 + seed) % 256 for i in range(size))


def placement(v):
    for case in v["texts"] + v["patterns"]:
        text = case.get("text")
        content = text.encode() if text is not None else pattern(case["size"], case["seed"])
        md5 = rules.md5(content)
        assert (md5.hex(), rules.x_of(md5)) == (case["md5"], case["x"]), case
    for case in v["tables"]:
        x = case["x"]
        chunks = [sorted(rules.chunks_of(x, node)) for node in (1, 2, 3, 4)]
        assert chunks == case["chunks_of_nodes_1_to_4"], case
        assert [rules.homes_of(x, c) for c in (1, 2, 3, 4)] == case["homes_of_chunks_1_to_4"], case


def split(v):
    for case in v["files"]:
        size = int(case["size"])
        for chunk, info in enumerate(case["chunks"], 1):
            start, end = rules.chunk_range(size, chunk)
            assert (start, end) == (int(info["start"]), int(info["end"])), case
            if size > 1 << 40:
                continue
            blocks = rules.block_ranges(end - start)
            last = blocks[-1][1] - blocks[-1][0] if blocks else 0
            assert (len(blocks), last) == (int(info["blocks"]), info["last_block_bytes"]), case


def crc32c(v):
    for case in v["texts"]:
        assert rules.crc32c(case["text"].encode()) == case["crc32c"], case
    for case in v["combined"]:
        first, second = (pattern(case[k]["size"], case[k]["seed"]) for k in ("first", "second"))
        assert rules.crc32c(first) == case["first"]["crc32c"], case
        assert rules.crc32c(second) == case["second"]["crc32c"], case
        assert rules.crc32c(second, rules.crc32c(first)) == case["crc32c"], case
    for case in v["files"]:
        content = pattern(case["size"], case["seed"])
        assert rules.crc32c(content) == case["crc32c"], case["size"]
        manifest = describe(content)
        for chunk, info in enumerate(case["chunks"], 1):
            assert manifest.chunks[chunk - 1].crc32c == info["crc32c"], case["size"]
            stream = list(chunk_stream("a", bytes(16), manifest, content, [chunk]))[1:]
            assert [m.block.crc32c for m in stream] == info["blocks"], case["size"]


def paths(v):
    for case in v["valid"] + v["refused"]:
        assert len(case["path"].encode()) == case["bytes"], case
        assert rules.path_is_valid(case["path"]) == ("why" not in case), case


def tags(v):
    def number(text):
        return None if text is None else int(text)

    for case in v["choices"]:
        answers = [(number(a["current_hlc"]), int(a["proposed_hlc"])) for a in case["answers"]]
        assert rules.choose_hlc(answers) == number(case["hlc"]), case
    for case in v["order"]:
        smaller, larger = (
            rules.tag_key(int(t["hlc"]), base64.b64decode(t["writer"]))
            for t in (case["smaller"], case["larger"])
        )
        assert smaller < larger, case


def reads(v):
    for case in v["cases"]:
        nodes = [n if isinstance(n, str) else (n["tag"], n["confirmed"]) for n in case["nodes"]]
        assert rules.decide(nodes) == case["verdict"], case
        other = rules.decide_without_write_back(nodes)
        assert other == case["if_it_cannot_be_written_back"], case


def manifest(v):
    for case in v["made"]:
        golden = json_format.ParseDict(case["manifest"], pb.Manifest())
        assert describe(pattern(case["size"], case["seed"]), golden.modified) == golden, case


def main(folder):
    for check in (placement, split, crc32c, paths, tags, reads, manifest):
        check(json.loads(Path(folder, f"{check.__name__}.json").read_text()))
    print("python: the vectors hold")


main(*sys.argv[1:])
