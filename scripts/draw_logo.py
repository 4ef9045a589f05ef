"""Draws deploy/billmanager/pmnextcloud.png, the module's logo in BILLmanager: a cloud with a circling arrow.

``python -m scripts.draw_logo`` writes it anew. Every point is computed, with the standard library only: the
file is the same wherever it is drawn. By its comment scripts/install-billmanager knows the file as ours.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from pathlib import Path
from typing import Final

LOGO: Final = Path(__file__).parent.parent / "deploy" / "billmanager" / "pmnextcloud.png"
SIZE: Final = 64
_SAMPLES: Final = 4
_CLOUD: Final = (0x2F, 0x6D, 0xA8)
_ARROW: Final = (0xFF, 0xFF, 0xFF)
_COMMENT: Final = b"Comment\0Put here by bill-nextcloud"
# Circles of the cloud, (x, y, radius); what is below their middles is filled.
_PUFFS: Final = ((16, 39, 13), (31, 27, 17), (48, 38, 14))
_BOTTOM: Final = 52
# The arrow: an arc around (x, y) that begins and ends at angles, and its head.
_CENTRE: Final = (32, 36)
_INNER, _OUTER = 7.5, 11.0
_GAP: Final = (-math.pi / 3, math.pi / 9)
_HEAD: Final = ((39.1, 23.5), (43.5, 32.0), (34.0, 32.5))


def _is_cloud(x: float, y: float) -> bool:
    in_puff = any(math.hypot(x - px, y - py) <= radius for px, py, radius in _PUFFS)
    return y <= _BOTTOM and (in_puff or (16 <= x <= 48 and y >= 36))


def _is_arrow(x: float, y: float) -> bool:
    dx, dy = x - _CENTRE[0], y - _CENTRE[1]
    in_arc = _INNER <= math.hypot(dx, dy) <= _OUTER and not _GAP[0] <= math.atan2(dy, dx) <= _GAP[1]
    sides = [
        (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        for (ax, ay), (bx, by) in zip(_HEAD, (*_HEAD[1:], _HEAD[0]), strict=True)
    ]
    return in_arc or all(side >= 0 for side in sides)


def _draw_pixel(column: int, row: int) -> bytes:
    steps = [(index + 0.5) / _SAMPLES for index in range(_SAMPLES)]
    points = [(column + dx, row + dy) for dy in steps for dx in steps]
    colours = [_ARROW if _is_arrow(x, y) else _CLOUD for x, y in points if _is_cloud(x, y)]
    if not colours:
        return bytes(4)
    mean = [sum(colour[part] for colour in colours) // len(colours) for part in range(3)]
    return bytes((*mean, 255 * len(colours) // len(points)))


def _make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def draw() -> bytes:
    """The PNG file: 8 bits each of red, green, blue and opacity."""
    rows = (b"".join(_draw_pixel(column, row) for column in range(SIZE)) for row in range(SIZE))
    # Stored, not compressed: zlib's versions differ in what they make of the same pixels.
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 0)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", SIZE, SIZE, 8, 6, 0, 0, 0),
        b"tEXt": _COMMENT,
        b"IDAT": pixels,
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_make_chunk(kind, content) for kind, content in chunks.items())


if __name__ == "__main__":
    LOGO.write_bytes(draw())
    sys.stdout.write(f"{LOGO} is up to date\n")
