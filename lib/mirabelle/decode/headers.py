"""What the headers of some kinds say of the picture, where Pillow does not tell or would already be decoding.

Works on bytes alone, without Pillow, and touches nothing else. Runs on executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mirabelle.errors import DecodeError, RejectCode


@dataclass(frozen=True)
class JpegFrame:
    """How a JPEG lies in the file.

    Attributes:
        is_held_whole: a decoder keeps all coefficients before it has the first pixel: progressive, or a scan a colour.
        samples: coefficients a pixel; 1.5 with colours at half their width and height, 3 at full.
    """

    is_held_whole: bool
    samples: float


def jpeg_frame(content: bytes) -> JpegFrame:
    """From the frame header and the first scan's; of a file that has none, one scan of three colours at full size."""
    frame, position = b"", 2
    is_progressive = False
    for _ in range(10_000):
        position = content.find(b"\xff", position)
        marker = content[position + 1 : position + 2]
        if position < 0 or not marker:
            break
        if marker[0] in _STANDALONE:
            position += 1 if marker == b"\xff" else 2
            continue
        size = int.from_bytes(content[position + 2 : position + 4])
        body = content[position + 4 : position + 2 + size]
        if marker[0] in _FRAMES and len(body) > 5:
            frame, is_progressive = body, marker[0] in _PROGRESSIVE
        elif marker == b"\xda":
            colours = frame[5] if frame else 0
            return JpegFrame(is_progressive or body[:1] < bytes((colours,)), _samples(frame))
        position += 2 + size
    return JpegFrame(is_progressive, 3.0)


_STANDALONE = frozenset(b"\x00\x01\xff") | frozenset(range(0xD0, 0xD9))
_FRAMES = frozenset(range(0xC0, 0xD0)) - frozenset(b"\xc4\xc8\xcc")
_PROGRESSIVE = frozenset(b"\xc2\xc6\xca\xce")


def _samples(frame: bytes) -> float:
    """Of all colours together, as a share of the one with most."""
    factors = [(each >> 4, each & 15) for each in frame[7::3]]
    largest = max((width for width, _ in factors), default=1) * max((height for _, height in factors), default=1)
    return sum(width * height for width, height in factors) / max(1, largest) or 3.0


def boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The outer boxes, as far as they make sense: name, and where what is in each begins and ends (ISO 14496-12)."""
    position = 0
    for _ in range(1000):
        size, name, start = int.from_bytes(content[position : position + 4]), content[position + 4 : position + 8], 8
        if size == 1:
            size, start = int.from_bytes(content[position + 8 : position + 16]), 16
        elif size == 0:
            size = len(content) - position
        if size < start or len(name) < 4:
            return
        yield name, position + start, position + size
        position += size


TGA_FOOTER = b"TRUEVISION-XFILE.\0"
# Type of picture and bits a pixel, of those that Pillow reads: palette, colour, grey, and the same run-length encoded.
_TGA_KINDS = {1: (8,), 2: (16, 24, 32), 3: (8, 16), 9: (8,), 10: (16, 24, 32), 11: (8, 16)}


def is_tga(content: bytes) -> bool:
    """Whether a file is a TGA that Pillow reads, or says so at its end.

    There are no letters to know one by. So without those of version 2 every field of the header must be one that
    exists, those without a meaning zero, and the file as long as it says.
    """
    if content.endswith(TGA_FOOTER):
        return True
    return is_tga_header(content) and (content[2] > 8 or len(content) >= tga_end(content))


def is_tga_header(content: bytes) -> bool:
    """Whether each field of it is one that exists (Truevision TGA file format specification 2.0, pages 6 to 9)."""
    if len(content) < 18:
        return False
    _, has_palette, kind, first, colours, depth, _, _, width, height, bits, flags = _TGA_HEADER.unpack_from(content)
    palette = (has_palette, first, colours > 0, depth in (16, 24, 32))
    is_palette_right = (
        palette == (1, 0, True, True) if kind in (1, 9) else (has_palette, first, colours, depth) == (0,) * 4
    )
    alphas = {8: (0,), 16: (0, 1) if kind in (2, 10) else (0, 8), 24: (0,), 32: (0, 8)}
    is_known = bits in _TGA_KINDS.get(kind, ()) and flags & 15 in alphas[bits] and flags < 0x40 and colours <= 256
    return is_known and is_palette_right and width > 0 and height > 0


_TGA_HEADER = struct.Struct("<BBBHHBHHHHBB")


def tga_end(content: bytes) -> int:
    """Where an uncompressed TGA's pixels end, going by its header."""
    letters, _, _, _, colours, depth, _, _, width, height, bits, _ = _TGA_HEADER.unpack_from(content)
    return int(18 + letters + colours * depth // 8 + width * height * bits // 8)


def icon_frame(content: bytes) -> bytes:
    """The largest picture of an icon, of several the deepest: a PNG, or an icon of that one bitmap alone.

    Raises:
        DecodeError: there is none, or it is not in the file.
    """
    entries = list(_icon_entries(content))
    if not entries:
        raise DecodeError(RejectCode.CORRUPT, "ICO: has no picture in it")
    _, _, entry, size, start = max(entries, key=lambda each: each[:2])
    frame = content[start : start + size]
    if len(frame) < size or len(frame) < 40:
        raise DecodeError(RejectCode.TRUNCATED, "ICO: ends before its largest picture does")
    if frame.startswith(b"\x89PNG\r\n\x1a\n"):
        return frame
    header, width, height, _, _, compression = struct.unpack_from("<LllHHL", frame)
    if header < 40 or not 0 < width <= _ICON_PX or not 0 < height <= 2 * _ICON_PX or compression not in (0, 3):
        raise DecodeError(RejectCode.CORRUPT, "ICO: its largest picture is no bitmap that an icon can have")
    return b"\0\0\1\0\1\0" + entry[:12] + struct.pack("<L", 22) + frame


def icon_ends_early(content: bytes) -> bool:
    """Of an icon of one bitmap, as ``icon_frame`` gives it: whether its pixels are not all there."""
    header, width, height, _, bits = struct.unpack_from("<LllHH", content, 22)
    return bool(22 + header + width * height // 2 * bits // 8 > len(content))


_ICON_PX = 1024  # four times what the directory can say; larger ones are PNGs


def _icon_entries(content: bytes) -> Iterator[tuple[int, int, bytes, int, int]]:
    """Area, bits a pixel, the entry itself, and how many bytes from where; 0 in a width or height stands for 256."""
    for position in range(6, 6 + 16 * min(int.from_bytes(content[4:6], "little"), 256), 16):
        entry = content[position : position + 16]
        if len(entry) == 16:
            bits, size, start = struct.unpack_from("<HLL", entry, 6)
            yield (entry[0] or 256) * (entry[1] or 256), bits, entry, size, start
