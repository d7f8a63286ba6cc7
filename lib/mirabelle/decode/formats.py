"""What kind of file these bytes are, and what their own structure says: nothing is decoded.

Works on bytes alone, without Pillow, and touches nothing else. Runs on executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection

from mirabelle.decode.headers import icon_ends_early, is_tga, is_tga_header, tga_end
from mirabelle.decode.jpeg2000 import codestream
from mirabelle.errors import DecodeError, RejectCode

USUAL = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heif")
FORMATS = (*USUAL, "jpeg2000", "ppm", "tga", "ico")
"""What can be decoded, as ``decode.formats`` has it: Pillow's names in small letters."""


def format_of(content: bytes, allowed: Collection[str] = FORMATS) -> str:
    """Pillow's name of the format; raises NOT_AN_IMAGE, or FORMAT_NOT_ALLOWED for one that is not among ``allowed``."""
    kind = next((kind for kind, pattern in _KNOWN.items() if pattern.match(content)), None)
    if kind is None and is_tga(content):
        kind = "TGA"
    if kind is not None:
        if kind.lower() not in allowed:
            raise DecodeError(
                RejectCode.FORMAT_NOT_ALLOWED, f"{kind} is switched off; add {kind.lower()} to decode.formats"
            )
        return kind
    for name, pattern in _FOREIGN.items():
        if pattern.match(content[:4096]):
            raise DecodeError(RejectCode.FORMAT_NOT_ALLOWED, f"{name} cannot be decoded")
    raise DecodeError(RejectCode.NOT_AN_IMAGE, f"begins with {content[:16]!r}")


def _patterns(**table: bytes) -> dict[str, re.Pattern[bytes]]:
    return {name.replace("_", " "): re.compile(pattern, re.DOTALL) for name, pattern in table.items()}


_KNOWN = _patterns(
    JPEG=rb"\xff\xd8\xff",
    PNG=rb"\x89PNG\r\n\x1a\n",
    WEBP=rb"RIFF....WEBP",
    GIF=rb"GIF8[79]a",
    TIFF=rb"II[*+]\0|MM\0[*+]|MM\*\0|II\0\*",
    # two letters are too few to go by, so also the four reserved zeros, or a header size that exists
    BMP=rb"BM....(?:\0{4}|.{8}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0)",
    AVIF=rb".{4}ftyp(?:.{4}){0,16}?avi[fs]",
    HEIF=rb".{4}ftyp(?:.{4}){0,16}?(?:hei[cfmsx]|hev[cmsx]|mif1|msf1)",
    JPEG2000=rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    PPM=rb"P[1-6f]\s+(?:\d|#)",
    ICO=rb"\0\0\x01\0[^\0][\0\x01]",
)

# Told apart from what is no image at all, and never opened.
_FOREIGN = _patterns(
    JPEG_XL=rb"\0\0\0\x0cJXL |\xff\x0a",
    JPEG_XR=rb"II\xbc",
    camera_raw=rb"II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD|.{4}ftypcrx |II\x1a\0\0\0HEAPCCDR",
    Netpbm_of_another_kind=rb"P[7F]\s",
    SGI=rb"\x01\xda[\0\x01][\x01\x02]",
    FLIC=rb".{4}[\x11\x12]\xaf.{6}\x08\0",
    DDS=rb"DDS ",
    Photoshop=rb"8BP[SB]",
    Windows_cursor=rb"\0\0\x02\0[^\0]",
    Apple_icon=rb"icns",
    PCX=rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]|\xb1\x68\xde\x3a",
    Blizzard_texture=rb"BLP[12]",
    OpenEXR=rb"v/1\x01",
    Radiance_HDR=rb"#\?R(?:ADIANC|GB)E",
    GIMP=rb"gimp xcf|.{20}GIMP",
    QOI=rb"qoif",
    FITS=rb"SIMPLE  =",
    DICOM=rb".{128}DICM",
    MNG=rb"[\x8a\x8b][MJ]NG\r\n",
    ILBM=rb"FORM....(?:ILBM|PBM )",
    Sun_raster=rb"\x59\xa6\x6a\x95",
    libvips=rb"\xb6\xa6\xf2\x08|\x08\xf2\xa6\xb6",
    X_bitmap=rb"/\* XPM \*/|#define\s+\w+_width\s",
    Windows_metafile=rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    DjVu=rb"AT&TFORM",
    PostScript=rb"%!PS|\xc5\xd0\xd3\xc6",
    PDF=rb"%PDF-",
    SVG=rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<(?:\w+:)?svg[\s>]",
)


def ends_early(kind: str, content: bytes) -> bool:
    """Whether a file that could not be decoded ends before its own structure says: truncated, not corrupt."""
    return _ENDS_EARLY[kind](content)


def uint(little_endian: bytes) -> int:
    """As many bytes as there are, 0 for none."""
    return int.from_bytes(little_endian, "little")


def _jpeg_ends_early(content: bytes) -> bool:
    """No start of scan among the segments, or no end of image after it. (A thumbnail has its own.)"""
    position = 2
    for _ in range(10_000):
        segment = _JPEG_SEGMENT.search(content, position)
        if segment is None or segment[1] == b"\xda":
            return content.find(b"\xff\xd9", position) < 0 if segment else True
        position = segment.start() + 2 + int.from_bytes(segment[2])
    return False


_JPEG_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xda-\xef\xfe])(..)", re.DOTALL)


def _chunks_end_early(content: bytes, position: int, overhead: int, last: bytes) -> bool:
    """For chunks, or boxes, of a size, a name and the rest; what the size leaves out is the overhead."""
    for _ in range(100_000):
        size, name = overhead + int.from_bytes(content[position : position + 4]), content[position + 4 : position + 8]
        if len(name) < 4 or name == last:
            return len(name) < 4 or position + size > len(content)
        if size < 8 or not name.isalnum():
            break
        position += size
    return False


def tiff_directory(content: bytes) -> dict[int, tuple[int, str, int]]:
    """Tag -> how many values, their layout, and where they are or should be; 0 is the first directory itself.

    As far as it can be read (TIFF 6.0, section 2; BigTIFF has 43 for 42, and 8 bytes for 4).
    """
    order = "<" if content[:1] == b"I" else ">"
    count, word, size = ("Q", "Q", 8) if 43 in content[2:4] else ("H", "L", 4)
    step = 4 + 2 * size
    directory = {0: (1, order + "B", len(content))}
    try:
        (start,) = struct.unpack_from(order + word, content, size)
        (entries,) = struct.unpack_from(order + count, content, start)
        start += struct.calcsize(order + count)
        directory[0] = (min(entries, 65_535) * step, order + "B", start)
        for position in range(start, start + directory[0][0], step):
            tag, kind, values = struct.unpack_from(order + "HH" + word, content, position)
            layout = order + _TIFF_LAYOUTS.get(kind, "B")
            at = position + step - size
            if values * struct.calcsize(layout) > size:
                (at,) = struct.unpack_from(order + word, content, at)
            directory[tag] = max((values, layout, at), directory.get(tag, (0, "", 0)))
    except (struct.error, OverflowError):
        pass
    return directory


_TIFF_LAYOUTS = {3: "H", 4: "L", 5: "Q", 8: "H", 9: "L", 10: "Q", 11: "L", 12: "Q", 13: "L", 16: "Q", 17: "Q", 18: "Q"}


def tiff_in_planes(content: bytes) -> bool:
    """Whether the samples lie in a plane for each colour, not pixel by pixel; ``struct.error`` if it cannot be read."""
    values, layout, at = tiff_directory(content).get(284, (0, "", 0))
    return values == 1 and struct.unpack_from(layout, content, at) == (2,)


def _tiff_end(content: bytes) -> int:
    """Where the first picture of a TIFF ends, going by its directory."""
    directory = tiff_directory(content)
    end = max(at + values * struct.calcsize(layout) for values, layout, at in directory.values())
    for tags in ((273, 279), (324, 325)):  # where the strips or tiles are, and how many bytes each
        if end <= len(content) and directory.keys() >= set(tags):
            starts, sizes = (
                struct.unpack_from(f"{layout[0]}{values}{layout[1]}", content, at)
                for values, layout, at in map(directory.__getitem__, tags)
            )
            end = max(end, *map(sum, zip(starts, sizes, strict=False)), 0)
    return end


def _jpeg_2000_ends_early(content: bytes) -> bool:
    """No end of the codestream, or not all of its box."""
    start, end = codestream(content)
    return end > len(content) or not content[start:end].rstrip(b"\0").endswith(b"\xff\xd9")


_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_ends_early,
    "PNG": lambda content: _chunks_end_early(content, 8, 12, b"IEND"),
    "WEBP": lambda content: 8 + uint(content[4:8]) > len(content),
    "GIF": lambda content: not content.rstrip(b"\0").endswith(b";"),
    "TIFF": lambda content: _tiff_end(content) > len(content),
    "BMP": lambda content: uint(content[2:6]) > len(content),
    "AVIF": lambda content: _chunks_end_early(content, 0, 0, b"mdat"),
    "HEIF": lambda content: _chunks_end_early(content, 0, 0, b"mdat"),
    "JPEG2000": _jpeg_2000_ends_early,
    "PPM": lambda content: False,  # of which Pillow says so itself
    "ICO": icon_ends_early,
    "TGA": lambda content: is_tga_header(content) and content[2] < 8 and tga_end(content) > len(content),
}
