"""What a JPEG 2000 says of itself: where its codestream lies, its size, and in how many pieces it comes.

Works on bytes alone, without Pillow, and touches nothing else. Runs on executors, and on the driver for thumbnails.
Letters and tables are those of ISO 15444-1, annex A.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mirabelle.decode.headers import boxes
from mirabelle.errors import DecodeError, RejectCode


@dataclass(frozen=True)
class Jpeg2000Size:
    """What the size marker says: the picture, its tiles and its components (A.5.1)."""

    width_px: int
    height_px: int
    tiles: int
    components: int


def jpeg_2000_size(content: bytes) -> Jpeg2000Size:
    """From the codestream; raises TRUNCATED or CORRUPT where it does not begin as one."""
    start, _ = codestream(content)
    try:
        right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
            ">8LH", content, start + 8
        )
    except struct.error:
        raise DecodeError(RejectCode.TRUNCATED, "JPEG2000: ends in its size") from None
    if content[start : start + 4] != b"\xff\x4f\xff\x51" or not tile_width or not tile_height:
        raise DecodeError(RejectCode.CORRUPT, "JPEG2000: its codestream has no size")
    across, down = -(-(right - tile_left) // tile_width), -(-(bottom - tile_top) // tile_height)
    return Jpeg2000Size(right - left, bottom - top, max(across, 0) * max(down, 0), components)


def codestream(content: bytes) -> tuple[int, int]:
    """Where the first codestream begins and ends, bare or in boxes; the end may lie past the file's."""
    if content[:1] == b"\xff":
        return 0, len(content)
    end = 0
    for name, start, end in boxes(content):
        if name == b"jp2c":
            return start, end
    code = RejectCode.TRUNCATED if end + 8 > len(content) else RejectCode.CORRUPT
    raise DecodeError(code, "JPEG2000: there is no codestream in it")


def pieces(content: bytes, size: Jpeg2000Size) -> int:
    """Blocks of code and packets of them, at most, each of which takes memory and time however little is in it."""
    start, end = codestream(content)
    layers, most = 1, 0.0
    for marker, body in _segments(content, start, end):
        if marker == b"\x52" and len(body) > 9:
            layers = max(layers, int.from_bytes(body[2:4]))
            most = max(most, _pieces_coded(body[0], body[5:], size, layers))
        elif marker == b"\x53" and len(body) > 6:
            most = max(most, _pieces_coded(body[1], body[2:], size, layers))
    return int(most)


def _pieces_coded(style: int, coding: bytes, size: Jpeg2000Size, layers: int) -> float:
    """By the coding style of a component (A.6.1): levels, the size of blocks, and that of precincts by level."""
    levels = min(coding[0], 32)
    block = 2.0 ** (coding[1] % 16 + coding[2] % 16 + 4)
    precincts = coding[5:] if style & 1 else b""
    area, found = float(size.width_px * size.height_px), 0.0
    for level in range(levels + 1):
        here = area / 4.0 ** (levels - level)
        exponents = precincts[level] if level < len(precincts) else 0xFF
        precinct = 2.0 ** (exponents % 16 + exponents // 16)
        found += here / min(block, precinct) + layers * (here / precinct + size.tiles)
    return found * size.components


def _segments(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Marker and body of each segment of the main header and of the tiles'; no data can be taken for a tile's."""
    position = start + 2
    for _ in range(100_000):
        marker = content[position + 1 : position + 2]
        if content[position : position + 1] != b"\xff" or marker in (b"\x93", b"\xd9") or position >= end:
            position = content.find(b"\xff\x90", max(position, start + 2) + 1, end)  # of the next tile
            if position < 0:
                return
            continue
        size = int.from_bytes(content[position + 2 : position + 4])
        yield marker, content[position + 4 : position + 2 + size]
        position += 2 + max(size, 2)
