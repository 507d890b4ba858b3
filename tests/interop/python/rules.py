"""The rules that a client shares with the nodes, written from docs/protocol.md alone.

Nothing here talks to a node. tests/vectors says what each function has to give.
"""

import hashlib

import google_crc32c

BLOCK = 1 << 20
MAX_FILE = 1 << 50


def x_of(md5: bytes) -> int:
    """The turn of the placement table: the digest as a big-endian number, mod 4."""
    return int.from_bytes(md5, "big") % 4


def chunks_of(x: int, node: int) -> list[int]:
    """The two chunks that a node keeps; first the one it sends in a read from all four."""
    first = (node - 1 - x) % 4
    return [first + 1, (first + 1) % 4 + 1]


def homes_of(x: int, chunk: int) -> list[int]:
    """The two nodes that keep a chunk, in the order in which to ask them."""
    return [node for place in (0, 1) for node in (1, 2, 3, 4) if chunks_of(x, node)[place] == chunk]


def opposite(node: int) -> int:
    return (node + 1) % 4 + 1


def mask(chunks) -> int:
    return sum(1 << (chunk - 1) for chunk in chunks)


def chunk_range(size: int, chunk: int) -> tuple[int, int]:
    return (chunk - 1) * size // 4, chunk * size // 4


def block_ranges(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def crc32c(data: bytes, before: int = 0) -> int:
    """The CRC32C of data, or of what had the checksum `before` followed by data."""
    return google_crc32c.extend(before, data)


def path_is_valid(path: str) -> bool:
    encoded = path.encode()
    if not 1 <= len(encoded) <= 1024 or "\\" in path:
        return False
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in path):
        return False
    segments = path.split("/")
    return all(s not in ("", ".", "..") and len(s.encode()) <= 255 for s in segments)


def choose_hlc(answers: list[tuple[int | None, int]]) -> int | None:
    """From (current, proposed) of each node; None where a tag cannot be chosen."""
    if len(answers) < 2:
        return None
    clock = sorted(proposed for _, proposed in answers)[-2]
    known = [current for current, _ in answers if current is not None]
    hlc = max([clock, *(current + 1 for current in known)])
    return hlc if hlc < 1 << 64 else None


def tag_key(hlc: int, writer: bytes) -> tuple[int, bytes]:
    """What tags are compared by."""
    return hlc, writer


def decide(nodes: list) -> dict:
    """What a read makes of the answers so far.

    Each is "waiting", "failed" or (tag, confirmed): the tag is anything that compares, None
    where the node has no version of the path.
    """
    answers = [answer for answer in nodes if isinstance(answer, tuple)]
    waiting = "waiting" in nodes
    if len(answers) < 2:
        return {"do": "wait"} if waiting else {"do": "unavailable"}
    known = [tag for tag, _ in answers if tag is not None]
    if not known:
        return {"do": "decided", "tag": None, "unconfirmed": False}
    newest = max(known)
    confirmed = [confirmed for tag, confirmed in answers if tag == newest]
    if any(confirmed) or len(confirmed) >= 3:
        return {"do": "decided", "tag": newest, "unconfirmed": False}
    if len(answers) >= 3:
        return {"do": "write back", "tag": newest}
    if waiting:
        return {"do": "wait"}
    return {"do": "decided", "tag": newest, "unconfirmed": True}


def decide_without_write_back(nodes: list) -> dict:
    """What counts where the write-back that `decide` asks for cannot be done."""
    verdict = decide(nodes)
    if verdict["do"] != "write back":
        return verdict
    tags = [answer[0] for answer in nodes if isinstance(answer, tuple)]
    if len(tags) < 4:
        return {"do": "decided", "tag": verdict["tag"], "unconfirmed": True}
    known = sorted((tag for tag in tags if tag is not None), reverse=True)
    third = known[2] if len(known) > 2 else None
    return {"do": "decided", "tag": third, "unconfirmed": False}


def md5(content: bytes) -> bytes:
    return hashlib.md5(content).digest()
