"""Makes the files that cross between clients: files.py DIR [few]

One of each size and each x = MD5 mod 4, named SIZE-X; with `few` one of each size, and all four
x of one size.
"""

import sys
from pathlib import Path

import rules

SIZES = [0, 1, 2, 3, 5, 4096, 65_535, 65_536, 65_537, (5 << 20) + 3]


def content(size: int, x: int) -> bytes | None:
    """Bytes of this size whose MD5 is x mod 4."""
    for number in range(256):
        body = bytes((i * 7 + i // 256) % 256 for i in range(min(size, 65_537)))
        body = (body * (size // 65_537 + 1))[:size]
        body = bytes([number]) + body[1:] if size else b""
        if rules.x_of(rules.md5(body)) == x:
            return body
    return None


def main(folder: str, few: str = ""):
    for place, size in enumerate(SIZES):
        for x in range(4):
            if few and size != 5 and x != place % 4 and size:
                continue
            data = content(size, x)
            if data is not None:
                Path(folder, f"{size}-{x}").write_bytes(data)


main(*sys.argv[1:])
