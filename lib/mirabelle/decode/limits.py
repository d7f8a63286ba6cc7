"""Refuses pictures that would cost too much time or memory, before they are decoded.

Reads headers only: the file's bytes, and what Pillow has read of them on opening. Touches nothing else. Runs on
executors, and on the driver for thumbnails.

The limit is on what is decoded. All below is in terms of ``max_pixels``; the figures beside it are for its default of
50 million, on an EPYC of the Zen 5 family, and docs/decisions/0003 has how they were measured.
"""

from __future__ import annotations

import re

from PIL import Image, TiffImagePlugin

from mirabelle.decode.formats import tiff_directory, uint
from mirabelle.decode.headers import boxes, jpeg_frame
from mirabelle.decode.jpeg2000 import jpeg_2000_size, pieces
from mirabelle.errors import DecodeError, RejectCode

# A JPEG that comes at a fraction may have so many times the pixels, by its header: 200 megapixels.
LARGER_AT_A_FRACTION = 4
# What a file's bytes cost is no more where fewer pixels are allowed.
_ALWAYS = 25_000_000
# Of a JPEG 2000: 25 in a usual one of 5,000 x 5,000. Each takes some kilobytes before anything is decoded.
_MOST_TILES = 4096
# 20,000 in a usual one. 400 bytes each, and a microsecond.
_MOST_PIECES = 500_000


def costly_pixels(max_pixels: int) -> int:
    """The limit for all but the kinds that are decoded fastest: half, where that is more than a camera has."""
    return max(max_pixels // 2, min(max_pixels, _ALWAYS))


def check_header(kind: str, content: bytes, max_pixels: int) -> None:
    """Refuse what must be refused before Pillow opens it, as some plugins take memory, or seconds, in opening."""
    most = costly_pixels(max_pixels)
    if kind == "WEBP":
        if content[12:16] == b"VP8X":
            _check_pixels(1 + uint(content[24:27]), 1 + uint(content[27:30]), most)
        elif content[12:16] == b"VP8L":
            bits = uint(content[21:25])
            _check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), most)
        elif content[12:16] == b"VP8 ":
            _check_pixels(uint(content[26:28]) & 0x3FFF, uint(content[28:30]) & 0x3FFF, most)
    elif kind in ("AVIF", "HEIF"):
        _check_boxes(content, most if kind == "AVIF" else max_pixels)
    elif kind == "BMP":
        if content[14:18] != b"\x0c\0\0\0" and content[21:22] >= b"\x80":
            raise DecodeError(RejectCode.CORRUPT, "BMP: its width is negative")
    elif kind == "TIFF":
        directory = tiff_directory(content)
        if any(directory[tag][0] > 200_000 for tag in (273, 324) if tag in directory):
            raise DecodeError(RejectCode.CORRUPT, "TIFF: in more than 200,000 strips or tiles")  # 10 us each
    elif kind == "JPEG2000":
        _check_jpeg_2000(content, most)


def _check_pixels(width: int, height: int, max_pixels: int, what: str = "") -> None:
    if width * height > max_pixels:
        raise DecodeError(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,}{what}; the limit is {max_pixels:,}")


def _check_boxes(content: bytes, most: int) -> None:
    """The sizes of the picture and of its tiles; not in the data, where photographs have such letters by chance."""
    for part in [content[start:end] for name, start, end in boxes(content) if name == b"meta"] or [content]:
        for box in re.finditer(rb"ispe.{4}(.{4})(.{4})", part, re.DOTALL):
            _check_pixels(int.from_bytes(box[1]), int.from_bytes(box[2]), most)


def _check_jpeg_2000(content: bytes, most: int) -> None:
    """By size and tiles. 27 ns a pixel and 115 ns a byte, which is what four pixels take: 1.5 s."""
    size = jpeg_2000_size(content)
    left_by_bytes = max(2 * max(most, _ALWAYS) - 4 * len(content), 0)
    _check_pixels(size.width_px, size.height_px, min(most, left_by_bytes), f" in {len(content):,} bytes")
    if size.components > 4 or size.tiles > _MOST_TILES or min(size.width_px, size.height_px) < 1:
        raise DecodeError(
            RejectCode.CORRUPT, f"JPEG2000: of {size.components:,} components and {size.tiles:,} tiles, or empty"
        )
    if (found := pieces(content, size)) > _MOST_PIECES:
        raise DecodeError(RejectCode.CORRUPT, f"JPEG2000: in {found:,} blocks and packets")


def check_cost(image: Image.Image, content: bytes, max_pixels: int, whole: tuple[int, int]) -> None:
    """The limit on an opened picture, and a lower one for what costs more than its pixels say.

    Args:
        image: opened, and drafted where it is to come at a fraction.
        content: its file.
        max_pixels: the limit.
        whole: its width and height by the header.
    """
    most = costly_pixels(max_pixels)
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        _check_jpeg(content, whole, (width, height), max_pixels)
    elif image.format == "HEIF":
        # 20 ns a pixel and 65 ns a byte, which is what three pixels take: 1.6 s. 8 bytes of memory a pixel: 0.4 GB.
        left_by_bytes = max(3 * max(most, _ALWAYS) - 3 * len(content), 0)
        _check_pixels(width, height, min(max_pixels, left_by_bytes), f" in {len(content):,} bytes")
    else:
        _check_pixels(width, height, most)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile_width, tile_height = image.tag_v2.get(322), image.tag_v2.get(323)
        if isinstance(tile_width, int) and isinstance(tile_height, int):
            _check_pixels(tile_width, tile_height, most, " in one tile")
    elif image.format == "BMP" and image.info.get("compression") in (1, 2):
        # decoded in Python, 70 to 270 ns a pixel
        _check_pixels(width, height, max(most // 4, min(most, 6_000_000)), " run-length encoded")
    elif image.format == "PPM" and image.tile[0][0] != "raw":  # type: ignore[attr-defined]
        # decoded in Python, 300 to 1,000 ns a pixel
        _check_pixels(width, height, max(most // 16, min(most, 1_500_000)), " as text, or of an odd depth")


def _check_jpeg(content: bytes, whole: tuple[int, int], decoded: tuple[int, int], max_pixels: int) -> None:
    """What comes out; what the header says, with more room where that is a fraction; and what is held on the way."""
    way = " decoded whole; decode.exact: never makes do with a fraction" if whole == decoded else " decoded"
    _check_pixels(*decoded, max_pixels, way)
    _check_pixels(*whole, LARGER_AT_A_FRACTION * max_pixels)
    frame = jpeg_frame(content)
    if not frame.is_held_whole:
        return
    # 2 bytes a coefficient, of all of them: 0.4 GB.
    _check_pixels(*whole, int(4 * max_pixels / frame.samples), " whose coefficients are held")
    # Every scan passes over all coefficients, 0.25 ns each, and can be as short as 14 bytes. A byte of data costs what
    # 80 of them do: 1.5 s. Cameras write up to 12 scans.
    scans = max(content.count(b"\xff\xda"), 1)
    most = costly_pixels(max_pixels)
    left_by_bytes = max(240 * max(most, _ALWAYS) - 80 * len(content), 0)
    most = int(min(240 * most, left_by_bytes) / (scans * frame.samples))
    _check_pixels(*whole, most, f" in {scans} scans of {len(content):,} bytes")
