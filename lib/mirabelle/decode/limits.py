"""Refuses pictures that would cost too much time or memory, before they are decoded.

Reads headers only: the file's bytes, and what Pillow has read of them on opening. Touches nothing else. Runs on
executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import re

from PIL import Image, TiffImagePlugin

from mirabelle.decode.formats import tiff_directory, uint
from mirabelle.errors import DecodeError, RejectCode


def check_header(kind: str, content: bytes, max_pixels: int) -> None:
    """Refuse what must be refused before Pillow opens it, as some plugins take memory, or seconds, in opening."""
    if kind == "WEBP":
        if content[12:16] == b"VP8X":
            _check_pixels(1 + uint(content[24:27]), 1 + uint(content[27:30]), max_pixels)
        elif content[12:16] == b"VP8L":
            bits = uint(content[21:25])
            _check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), max_pixels)
        elif content[12:16] == b"VP8 ":
            _check_pixels(uint(content[26:28]) & 0x3FFF, uint(content[28:30]) & 0x3FFF, max_pixels)
    elif kind == "AVIF":
        for box in re.finditer(rb"ispe.{4}(.{4})(.{4})", content, re.DOTALL):  # of the picture and of its tiles
            _check_pixels(int.from_bytes(box[1]), int.from_bytes(box[2]), max_pixels)
    elif kind == "BMP":
        if content[14:18] != b"\x0c\0\0\0" and content[21:22] >= b"\x80":
            raise DecodeError(RejectCode.CORRUPT, "BMP: its width is negative")
    elif kind == "TIFF":
        directory = tiff_directory(content)
        if any(directory[tag][0] > 200_000 for tag in (273, 324) if tag in directory):
            raise DecodeError(RejectCode.CORRUPT, "TIFF: in more than 200,000 strips or tiles")  # 10 us each
    # Each of these may unpack to 1 MiB in PNG, or is copied with all before it in JPEG: ms apiece, and files have few.
    if len(content) > 2**17 and sum(map(content.count, _FLOODS.get(kind, ()))) > 200:
        raise DecodeError(RejectCode.CORRUPT, f"{kind}: flooded with metadata")


_FLOODS = {"PNG": (b"iCCP", b"zTXt", b"iTXt"), "JPEG": (b"Exif\0\0",)}


def _check_pixels(width: int, height: int, max_pixels: int, what: str = "") -> None:
    if width * height > max_pixels:
        raise DecodeError(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,}{what}; the limit is {max_pixels:,}")


def check_cost(image: Image.Image, content: bytes, max_pixels: int) -> None:
    """The pixel limit on an opened picture; and a lower one for what costs more than its pixels say."""
    width, height = image.size
    _check_pixels(width, height, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile_width, tile_height = image.tag_v2.get(322), image.tag_v2.get(323)
        if isinstance(tile_width, int) and isinstance(tile_height, int):
            _check_pixels(tile_width, tile_height, max_pixels, " in one tile")
    elif image.format == "BMP" and image.info.get("compression") in (1, 2):
        # decoded in Python, 70 to 270 ns a pixel
        _check_pixels(width, height, max(max_pixels // 4, min(max_pixels, 6_000_000)), " run-length encoded")
    elif image.format in ("JPEG", "MPO") and width * height * len(content) > 500 * max_pixels:
        # Every scan passes over all pixels, 1 ns each, and a scan can be as short as 14 bytes. Cameras write up to 12.
        scans = content.count(b"\xff\xda")
        _check_pixels(width, height, 40 * max_pixels // max(scans, 40), f" in {scans} scans")
