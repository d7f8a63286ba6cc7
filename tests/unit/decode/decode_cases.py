"""Builders of image files byte by byte, for what Pillow cannot write, and the awkward files with what each is."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mirabelle

AWKWARD = Path(__file__).parents[3].parent / "shared" / "data" / "awkward"

# What each file is, found by looking at its bytes and, where there is one, at the picture.
EXPECTED = {
    "alpha.webp": "picture",
    "animated.webp": "picture",
    "apng_16bit.png": "picture",
    "avif_17000.avif": "too_many_pixels",  # 17000 x 17000 by its ispe box
    "badwidth.bmp": "corrupt",  # width -127, from the "bad" part of bmpsuite
    "broken_data_stream.png": "corrupt",  # garbage where the second chunk's name should be
    "cmyk_adobe.jpg": "picture",
    "cmyk_no_profile.jpg": "picture",
    "crash-1152ec2d1a1a71395b6f2ce6721c38924d025bf3.tif": "truncated",  # strips of 11 KB in a file of 4 KB
    "crash-5762152299364352.fli": "format_not_allowed",
    "crash-64834657ee604b8797bf99eac6a194c124a9a8ba.sgi": "format_not_allowed",
    "crash-7d4c83eb92150fb8f1653a697703ae06ae7c4998.j2k": "format_not_allowed",
    "decompression_bomb.gif": "too_many_pixels",
    "decompression_bomb_extents.gif": "picture",  # only its second frame is a bomb
    "exif_memory_error.jpg": "picture",
    "giant_image.jpg": "too_many_pixels",  # 20000 x 14000
    "gray16.pgm": "format_not_allowed",
    "hopper.avif": "picture",
    "hopper.ppm": "format_not_allowed",
    "invalid_multiframe.gif": "picture",
    "junk_header.jpg": "picture",
    "lossy.webp": "picture",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "truncated",  # ends within its directory of 11 entries
    "orientation_landscape_1.jpg": "picture",
    "orientation_landscape_3.jpg": "picture",
    "orientation_landscape_5.jpg": "picture",
    "orientation_landscape_7.jpg": "picture",
    "orientation_webp_6.webp": "picture",
    "ossfuzz-5730089102868480.sgi": "format_not_allowed",
    "png_16bit_gray_alpha.png": "picture",
    "png_16bit_rgb.png": "picture",
    "png_65536_limit.png": "too_many_pixels",
    "png_decompression_dos.png": "corrupt",  # a text chunk that unpacks to more than Pillow allows
    "png_full_transparent.png": "picture",
    "png_itxt_chunks.png": "picture",
    "png_palette_alpha.png": "picture",
    "png_palette_trns_single.png": "picture",
    "progressive_cat.jpg": "picture",
    "qtables_16bit.jpg": "picture",
    "rgb24.bmp": "picture",
    "rgba32.bmp": "picture",
    "shortfile.bmp": "truncated",
    "test_card.jp2": "format_not_allowed",
    "tiff_16bit_gray.tif": "picture",
    "tiff_bigtiff.tif": "picture",
    "tiff_float32.tif": "picture",
    "tiff_lab.tif": "picture",
    "tiff_multipage.tiff": "picture",
    "tiff_ycbcr_jpeg.tif": "picture",
    "timeout-6646305047838720": "corrupt",  # 61,457 directory entries of noise
    "timeout-c60a3d7314213624607bfb3e38d551a8b24a7435.dds": "format_not_allowed",
    "transparent.gif": "picture",
    "truncated_app14.jpg": "picture",
    "truncated_image.png": "truncated",
    "truncated_sharp.png": "truncated",
    "ultra_hdr_gainmap.jpg": "truncated",  # ends at its start-of-scan
    "xyb_colourspace.jpg": "picture",
    "zero_byte_fruit.jpg": "empty",
}


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples of fewer than 8 bits, or 12, most significant first, each row padded to a byte."""
    each = samples[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(each.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG of unfiltered rows, with chunks before and after the pixels."""
    step = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height if rows else 0))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(filtered))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + data + after + png_chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    palette = b"".join(bytes((i, i // 2, 255 - i, 0)) for i in range(2**bits)) if bits <= 8 else b""
    start = 54 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    sizes = (40, width, height, 1, bits, compression, len(data), 2835, 2835, 0, 0)
    return head + struct.pack("<IiiHHIIiiII", *sizes) + palette + data


def tiff(
    pieces: Iterable[bytes], width: int, height: int, bits: int, *, order: str = "<", samples: int = 1,
    tile: tuple[int, int] | None = None, tags: dict[int, tuple[str, tuple[int, ...]]] | None = None, **named: int,
) -> bytes:  # fmt: skip
    """A TIFF of strips or tiles; ``named`` sets further tags of one SHORT, ``tags`` any others."""
    numbers = {"photometric": 262, "compression": 259, "planes": 284, "format": 339, "extra": 338, "orientation": 274}
    pieces = list(pieces)
    starts = np.cumsum([8, *map(len, pieces)])
    entries: dict[int, tuple[str, tuple[int, ...]]] = {
        256: ("L", (width,)), 257: ("L", (height,)), 258: ("H", (bits,) * samples), 277: ("H", (samples,)),
        262: ("H", (1 if samples == 1 else 2,)), (324 if tile else 273): ("L", tuple(starts[:-1])),
        (325 if tile else 279): ("L", tuple(map(len, pieces))),
        **({322: ("L", tile[:1]), 323: ("L", tile[1:])} if tile else {}),
        **{numbers[name]: ("H", (value,)) for name, value in named.items()}, **(tags or {}),
    }  # fmt: skip
    directory, far = struct.pack(order + "H", len(entries)), b""
    far_start = int(starts[-1]) + 2 + 12 * len(entries) + 4
    for tag, (layout, values) in sorted(entries.items()):
        value = struct.pack(f"{order}{len(values)}{layout}", *values)
        if len(value) > 4:
            far, value = far + value, struct.pack(order + "L", far_start + len(far))
        directory += struct.pack(order + "HHL", tag, {"H": 3, "L": 4, "l": 9}[layout], len(values)) + value.ljust(
            4, b"\0"
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", starts[-1])
    return head + b"".join(pieces) + directory + bytes(4) + far


def exif(orientation: bytes = b"\1\0\0\0", *entries: bytes, kind: int = 3, count: int = 1) -> bytes:
    """An EXIF block, little-endian, of an orientation as given and of further ready-made entries."""
    first = struct.pack("<HHL", 274, kind, count) + orientation
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1 + len(entries)) + first + b"".join(entries) + bytes(4)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


_RUNNER = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import warnings
from mirabelle.decode import DecodeOptions, decode
from mirabelle.errors import DecodeError
warnings.simplefilter("error")
options = DecodeOptions(**{name: tuple(value) if isinstance(value, list) else value
                           for name, value in json.loads(sys.argv[1]).items()})
for path in sys.argv[2:]:
    with open(path, "rb") as file:
        content = file.read()
    begun, core = time.perf_counter(), time.process_time()
    try:
        image = decode(content, 224, options)
        outcome, size = "picture", (image.width_px, image.height_px)
        assert image.pixels.shape == (224, 224, 3) and image.pixels.dtype == "uint8"
    except DecodeError as error:
        outcome, size = str(error.code), None
    seconds, core = time.perf_counter() - begun, time.process_time() - core
    # Of this program alone: getrusage's figure begins with that of the process it was forked from.
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    answer = {"path": path, "outcome": outcome, "size": size, "seconds": seconds, "core_seconds": core,
              "peak_kib": peak}
    print(json.dumps(answer), flush=True)
"""


def decode_apart(*paths: Path, timeout_seconds: float = 30, **options: Any) -> list[dict[str, Any]]:
    """Decode files in a process of their own; one that dies or hangs shows as the files it has no answer for."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mirabelle.__file__).parents[1])}
    command = [sys.executable, "-c", _RUNNER, json.dumps(options), *map(str, paths)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=timeout_seconds, env=environment, check=False)
        answers = run.stdout
    except subprocess.TimeoutExpired as expired:
        answers = expired.stdout or b""
    return [json.loads(line) for line in answers.splitlines()]
