"""Bytes of a picture in, uint8 RGB out.

May touch Pillow and numpy, and nothing outside the process: no file, no network, no environment. Runs on executors
(and on the driver when the report makes thumbnails). It fails only with ``DecodeError``.

What the pixels are:

- For an ordinary RGB or grey file exactly what Keras's ``load_img(path, target_size=(s, s), interpolation="bilinear")``
  gives: Pillow's ``convert("RGB")``, then a bilinear resize that stretches. JPEG draft mode would be quicker and is
  not used, as it changes pixels. ICC profiles are left alone, as Keras leaves them (an XYB JPEG looks odd).
- Unlike Keras: EXIF orientation is applied, transparent pixels are laid over a ground colour, and grey deeper than 8
  bits is scaled instead of clipped. Of several frames or pages the first is taken.

Thread-safe but for one thing: Pillow's switch for truncated files is a module global. It is on only while a truncated
file is read again under ``accept_truncated``, and another thread's decode can see it then. Workers have one thread.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # noqa: F401  # the allow-list's plugins: so that Image.open() need not load all forty to find them
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mirabelle.errors import DecodeError, RejectCode

PREPROCESSING_VERSION: int = 1
"""Part of the embedding fingerprint: raised when ``decode`` would give other pixels for the same file."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Args:
        ground: RGB under transparent pixels, 0..255 each.
        orient: apply the EXIF orientation.
        max_pixels: larger pictures, by their header, are rejected undecoded. The default keeps every kind within 2 s
            and 1 GiB. Measured on a 2-core EPYC at 24 million, worst content: AVIF 4:4:4 with alpha, 16-bit RGBA PNG
            and noise as progressive JPEG take 1.4 to 1.6 s (a plain JPEG 0.15 to 0.5 s), and lossless WebP takes 18
            bytes a pixel, 0.5 GB. Pillow's own limit, 179 million unless changed, stays in force.
        max_bytes: larger files are rejected unread. The default holds an uncompressed RGBA picture of ``max_pixels``.
        accept_truncated: give what there is of a file that ends early, where Pillow can (not WebP, AVIF or compressed
            TIFF); what is missing is grey or black.
    """

    ground: tuple[int, int, int] = (255, 255, 255)
    orient: bool = True
    max_pixels: int = 25_000_000
    max_bytes: int = 100 * 2**20
    accept_truncated: bool = False


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded picture.

    Args:
        pixels: uint8, (size_px, size_px, 3), RGB, C-contiguous, read-only.
        width_px: of the whole picture as displayed (after orientation), before resizing.
        height_px: likewise.
    """

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int


_DEFAULTS = DecodeOptions()

# Pillow widens every row before it takes any away: a 1 x 25,000,000 picture would need 22 GB on its way to 224 x 224.
# Past this size (200 MB) the rows go first, and the rounding may differ from Keras's in the last bit.
_WIDENED_PIXELS = 50_000_000


def decode(content: bytes, size_px: int, options: DecodeOptions = _DEFAULTS) -> DecodedImage:
    """Decode a picture and stretch it to a square.

    Args:
        content: the whole file; its format is told from its bytes, never from a name.
        size_px: side of the square the network wants.

    Raises:
        DecodeError: with the reason's code; nothing else, whatever the bytes.
    """
    picture = _picture(content, options)
    width_px, height_px = picture.size
    if width_px < size_px and height_px * size_px > _WIDENED_PIXELS:
        picture = picture.resize((width_px, size_px), Image.Resampling.BILINEAR)
    if picture.size != (size_px, size_px):
        picture = picture.resize((size_px, size_px), Image.Resampling.BILINEAR)
    return DecodedImage(np.asarray(picture), width_px, height_px)


def thumbnail(content: bytes, max_px: int, options: DecodeOptions = _DEFAULTS) -> bytes:
    """A WebP of the picture ``decode`` sees, neither side above ``max_px``, aspect ratio kept, never enlarged.

    Raises:
        DecodeError: as ``decode``.
    """
    picture = _picture(content, options)
    picture.thumbnail((max_px, max_px), Image.Resampling.BICUBIC)
    webp = io.BytesIO()
    picture.save(webp, "WEBP", quality=80, exif=b"", xmp=b"", icc_profile=b"")
    return webp.getvalue()


# -- From bytes to an RGB image, or the reason why not


def _picture(content: bytes, options: DecodeOptions) -> Image.Image:
    """The whole picture in mode RGB, oriented, not resized."""
    if not content:
        raise DecodeError(RejectCode.EMPTY)
    if len(content) > options.max_bytes:
        raise DecodeError(RejectCode.TOO_MANY_BYTES, f"{len(content):,} bytes; the limit is {options.max_bytes:,}")
    kind = _kind(content)
    try:
        return _attempt(kind, content, options)
    except DecodeError as error:
        if error.code is not RejectCode.TRUNCATED or not options.accept_truncated:
            raise
    with _switched_on(ImageFile, "LOAD_TRUNCATED_IMAGES"):
        return _attempt(kind, content, options)


def _attempt(kind: str, content: bytes, options: DecodeOptions) -> Image.Image:
    """Decode, and give every failure its code."""
    try:
        with _PILLOW_WARNINGS_OFF:
            return _decoded(kind, content, options)
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise DecodeError(RejectCode.TOO_MANY_PIXELS, str(exc)) from exc
    except Exception as exc:  # plugins raise anything on damaged input; a row is recorded for each
        early = "truncat" in str(exc).lower() or _ENDS_EARLY[kind](content)
        detail = f"{kind}: {type(exc).__name__}: {' '.join(str(exc).split())}"[:300]
        raise DecodeError(RejectCode.TRUNCATED if early else RejectCode.CORRUPT, detail) from exc


def _decoded(kind: str, content: bytes, options: DecodeOptions) -> Image.Image:
    _check_header(kind, content, options.max_pixels)
    image = _open(kind, content)
    _check_cost(image, content, options.max_pixels)
    codec, _, _, arguments = image.tile[0] if image.tile else ("", None, 0, "")
    layout = arguments[0] if isinstance(arguments, tuple) else arguments  # Pillow's word for how the samples lie
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        turn = _orientation(image)
        if image.mode == "L" and image.tag_v2.get(339) == (2,):
            layout = "signed"
        # Pillow reads these while loading, and fails if they are damaged; nothing here needs them.
        for sub_directory in (0x8769, 0x8825, 0xA005):  # Exif, GPS, interoperability
            image.getexif().pop(sub_directory, None)
        image.load()  # which orients a TIFF, so there is only something to undo
        turn = 1 if options.orient else {6: 8, 8: 6}.get(turn, turn)
    else:
        image.load()
        turn = _orientation(image) if options.orient else 1
    picture = _to_rgb(image, f"{codec} {layout}", options.ground)
    return picture.transpose(_TRANSPOSES[turn]) if turn in _TRANSPOSES else picture


_SWITCHES = threading.RLock()


@contextmanager
def _switched_on(module: ModuleType, switch: str) -> Iterator[None]:
    """Pillow takes some choices as module globals only."""
    with _SWITCHES:
        before = getattr(module, switch)
        setattr(module, switch, True)
        try:
            yield
        finally:
            setattr(module, switch, before)


class _WarningsOff:
    """Keeps Pillow's warnings (damaged EXIF, odd MPO, large picture) from the user while any decode is under way.

    One ``catch_warnings`` for all threads that are inside, as each would otherwise put back another's filters. Only
    warnings raised in Pillow are ignored. Costs 4 us a picture.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_PILLOW_WARNINGS_OFF = _WarningsOff()

# -- What kind of file it is


def _kind(content: bytes) -> str:
    """Pillow's name of the allowed format; raises NOT_AN_IMAGE or FORMAT_NOT_ALLOWED."""
    for kind, pattern in _ALLOWED.items():
        if pattern.match(content):
            return kind
    ends = content[:4096] + content[-18:]
    for name, pattern in _FOREIGN.items():
        if pattern.match(ends):
            raise DecodeError(RejectCode.FORMAT_NOT_ALLOWED, name)
    raise DecodeError(RejectCode.NOT_AN_IMAGE, f"begins with {content[:16]!r}")


def _patterns(**table: bytes) -> dict[str, re.Pattern[bytes]]:
    return {name.replace("_", " "): re.compile(pattern, re.DOTALL) for name, pattern in table.items()}


_ALLOWED = _patterns(
    JPEG=rb"\xff\xd8\xff",
    PNG=rb"\x89PNG\r\n\x1a\n",
    WEBP=rb"RIFF....WEBP",
    GIF=rb"GIF8[79]a",
    TIFF=rb"II[*+]\0|MM\0[*+]|MM\*\0|II\0\*",
    # two letters are too few to go by, so also the four reserved zeros, or a header size that exists
    BMP=rb"BM....(?:\0{4}|.{8}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0)",
    AVIF=rb".{4}ftyp(?:.{4}){0,16}?avi[fs]",
)

# Told apart from what is no image at all, and never opened.
_FOREIGN = _patterns(
    JPEG_2000=rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    JPEG_XL=rb"\0\0\0\x0cJXL |\xff\x0a",
    JPEG_XR=rb"II\xbc",
    HEIF=rb".{4}ftyp(?:.{4}){0,16}?(?:hei[cfmsx]|hev[cmsx]|mif1|msf1)",
    camera_raw=rb"II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD|.{4}ftypcrx |II\x1a\0\0\0HEAPCCDR",
    Netpbm=rb"P[1-6f]\s+(?:\d|#)|P[7F]\s",
    SGI=rb"\x01\xda[\0\x01][\x01\x02]",
    FLIC=rb".{4}[\x11\x12]\xaf.{6}\x08\0",
    DDS=rb"DDS ",
    Photoshop=rb"8BP[SB]",
    Windows_icon=rb"\0\0[\x01\x02]\0[^\0]",
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
    TGA=rb".*TRUEVISION-XFILE\.\0\Z",
)

# -- Limits, read from headers


def _check_header(kind: str, content: bytes, max_pixels: int) -> None:
    """What must be known before Pillow opens the file, as some plugins take memory, or seconds, in opening."""
    if kind == "WEBP":
        if content[12:16] == b"VP8X":
            _check_pixels(1 + _uint(content[24:27]), 1 + _uint(content[27:30]), max_pixels)
        elif content[12:16] == b"VP8L":
            bits = _uint(content[21:25])
            _check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), max_pixels)
        elif content[12:16] == b"VP8 ":
            _check_pixels(_uint(content[26:28]) & 0x3FFF, _uint(content[28:30]) & 0x3FFF, max_pixels)
    elif kind == "AVIF":
        for box in re.finditer(rb"ispe.{4}(.{4})(.{4})", content, re.DOTALL):  # of the picture and of its tiles
            _check_pixels(int.from_bytes(box[1]), int.from_bytes(box[2]), max_pixels)
    elif kind == "BMP":
        if content[14:18] != b"\x0c\0\0\0" and content[21:22] >= b"\x80":
            raise DecodeError(RejectCode.CORRUPT, "BMP: its width is negative")
    elif kind == "TIFF":
        directory = _tiff_directory(content)
        if any(directory[tag][0] > 200_000 for tag in (273, 324) if tag in directory):
            raise DecodeError(RejectCode.CORRUPT, "TIFF: in more than 200,000 strips or tiles")  # 10 us each
    # Each of these may unpack to 1 MiB in PNG, or is copied with all before it in JPEG: ms apiece, and files have few.
    if len(content) > 2**17 and sum(map(content.count, _FLOODS.get(kind, ()))) > 200:
        raise DecodeError(RejectCode.CORRUPT, f"{kind}: flooded with metadata")


_FLOODS = {"PNG": (b"iCCP", b"zTXt", b"iTXt"), "JPEG": (b"Exif\0\0",)}


def _check_pixels(width: int, height: int, max_pixels: int, what: str = "") -> None:
    if width * height > max_pixels:
        raise DecodeError(RejectCode.TOO_MANY_PIXELS, f"{width:,} x {height:,}{what}; the limit is {max_pixels:,}")


def _check_cost(image: Image.Image, content: bytes, max_pixels: int) -> None:
    """The pixel limit, now that the file is open; and a lower one for what costs more than its pixels say."""
    width, height = image.size
    _check_pixels(width, height, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile_width, tile_height = image.tag_v2.get(322), image.tag_v2.get(323)
        if isinstance(tile_width, int) and isinstance(tile_height, int):
            _check_pixels(tile_width, tile_height, max_pixels, " in one tile")
    elif image.format == "BMP" and image.info.get("compression") in (1, 2):
        # decoded in Python, 70 to 270 ns a pixel
        _check_pixels(width, height, max_pixels // 4, " run-length encoded")
    elif image.format in ("JPEG", "MPO") and width * height * len(content) > 500 * max_pixels:
        # Every scan passes over all pixels, 1 ns each, and a scan can be as short as 14 bytes. Cameras write up to 12.
        scans = content.count(b"\xff\xda")
        _check_pixels(width, height, 40 * max_pixels // max(scans, 40), f" in {scans} scans")


def _uint(little_endian: bytes) -> int:
    return int.from_bytes(little_endian, "little")


# -- Opening, and whether a file that failed ends early


class _MeteredBytes(io.BytesIO):
    """Stops plugins that parse byte by byte in Python from taking minutes over a large file of junk."""

    reads_left = 500_000  # half a second; a 100 MB PNG in chunks of 1 KB needs 300,000

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise DecodeError(RejectCode.CORRUPT, "made of too many pieces")
        return super().read(size)


def _open(kind: str, content: bytes) -> ImageFile.ImageFile:
    """Read the header. Damaged metadata must not cost the picture, so where Pillow's plugin stumbles over it, it is
    blotted out: first all but EXIF, then EXIF too."""
    try:
        return _open_once(kind, content)
    except (DecodeError, Image.DecompressionBombError):
        raise
    except Exception:
        if kind in ("JPEG", "AVIF"):
            for block in (rb"ICC_PROFILE\0|Photoshop 3\.0\0|MPF\0|JFIF\0", rb"Exif"):
                content = re.sub(block, lambda name: bytes(len(name[0])), content)
                try:
                    return _open_once(kind, content)
                except Exception:  # the first failure tells more
                    pass
        raise


def _open_once(kind: str, content: bytes) -> ImageFile.ImageFile:
    stream = io.BytesIO(content) if len(content) < 2**20 or kind == "BMP" else _MeteredBytes(content)
    try:
        if kind == "TIFF" and _tiff_in_planes(content):
            # Pillow's own reader takes samples in planes for 8 bits each, whatever they are; libtiff knows better
            with _switched_on(TiffImagePlugin, "READ_LIBTIFF"):
                return Image.open(stream, formats=(kind,))
        return Image.open(stream, formats=(kind,))
    except UnidentifiedImageError:
        Image.OPEN[kind][0](io.BytesIO(content), "")  # Pillow keeps the reason to itself; the plugin has it
        raise


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


def _tiff_directory(content: bytes) -> dict[int, tuple[int, str, int]]:
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


def _tiff_in_planes(content: bytes) -> bool:
    values, layout, at = _tiff_directory(content).get(284, (0, "", 0))
    return values == 1 and struct.unpack_from(layout, content, at) == (2,)


def _tiff_end(content: bytes) -> int:
    """Where the first picture of a TIFF ends, going by its directory."""
    directory = _tiff_directory(content)
    end = max(at + values * struct.calcsize(layout) for values, layout, at in directory.values())
    for tags in ((273, 279), (324, 325)):  # where the strips or tiles are, and how many bytes each
        if end <= len(content) and directory.keys() >= set(tags):
            starts, sizes = (
                struct.unpack_from(f"{layout[0]}{values}{layout[1]}", content, at)
                for values, layout, at in map(directory.__getitem__, tags)
            )
            end = max(end, *map(sum, zip(starts, sizes, strict=False)), 0)
    return end


# Whether a file that could not be decoded ends before its own structure says.
_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_ends_early,
    "PNG": lambda content: _chunks_end_early(content, 8, 12, b"IEND"),
    "WEBP": lambda content: 8 + _uint(content[4:8]) > len(content),
    "GIF": lambda content: not content.rstrip(b"\0").endswith(b";"),
    "TIFF": lambda content: _tiff_end(content) > len(content),
    "BMP": lambda content: _uint(content[2:6]) > len(content),
    "AVIF": lambda content: _chunks_end_early(content, 0, 0, b"mdat"),
}


# -- Orientation and colour

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_KEYS = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or none that makes sense."""
    if _EXIF_KEYS.isdisjoint(image.info) and image.format != "TIFF":
        return 1
    try:
        orientation = image.getexif().get(274)
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def _to_rgb(image: Image.Image, layout: str, ground: tuple[int, int, int]) -> Image.Image:
    """Any mode to RGB. ``layout`` is Pillow's codec and raw mode: how the samples lie in the file."""
    key = image.info.get("transparency")
    if image.mode == "RGB" and key is None:
        return image
    if image.mode == "LAB":
        return _lab_to_srgb().apply(image)
    if image.mode.startswith("I") or image.mode == "F" or layout in _SAMPLES:
        image = _deep_grey(image, layout, key)
    elif image.mode == "La":
        image = image.convert("LA")  # Pillow knows no way from here to RGBA
    elif isinstance(key, int) and layout in ("zip L;2", "zip L;4"):  # PNG gives its transparent colour in its own depth
        image.info["transparency"] = key * {"zip L;2": 85, "zip L;4": 17}[layout]
    elif isinstance(key, tuple) and layout == "zip RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image if image.mode == "RGBA" else image.convert("RGBA")
    grounded = Image.new("RGB", picture.size, ground)
    grounded.paste(picture, mask=picture)  # rounds (colour * alpha + ground * (255 - alpha)) / 255 to nearest
    return grounded


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


# Samples that Pillow reads as what they are not: its codec and raw mode -> the type it made of them, and the right one.
_SAMPLES = {
    "raw I;32N": ("i4", "u4"),
    "libtiff I;32N": ("i4", "u4"),
    "libtiff I;32BS": ("i4", ">i4"),  # libtiff has swapped the bytes already, and Pillow swaps them back
    "libtiff I;16BS": ("i2", ">i2"),
    "libtiff F;32BF": ("f4", ">f4"),
    "raw signed": ("u1", "i1"),
    "libtiff signed": ("u1", "i1"),
}


def _deep_grey(image: Image.Image, layout: str, key: Any) -> Image.Image:
    """Grey of more than 8 bits, whole or float, to mode L, or LA where one value is transparent.

    Scaled linearly, rounded to nearest. What is white: 65535 for unsigned 16 bits, 4095 for 12. Files of wider numbers
    do not say, so it goes by the values: floats within 0..1, and whole numbers within 0..255 or 0..65535, keep that
    scale; anything else is stretched from its least value to its greatest. NaN is black.
    """
    if image.mode.startswith("I;16"):
        black, white = 0.0, 4095.0 if layout.endswith("I;12") else 65535.0
    else:
        black, white = _value_range(image, layout)
    scale = 255 / (white - black) if white > black else 0.0
    grey = np.empty((image.height, image.width), np.uint8)
    opaque = np.empty_like(grey)
    for top, band in _bands(image, layout):
        values = np.nan_to_num(band.astype(np.float64), nan=black, posinf=white, neginf=black)
        grey[top : top + len(band)] = np.clip((values - black) * scale + 0.5, 0, 255)
        if key is not None:
            opaque[top : top + len(band)] = np.where(band == key, 0, 255)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:
        np.subtract(255, grey, out=grey)  # white is zero; Pillow turns that round for 8 bits and fewer only
    picture = Image.fromarray(grey)
    return picture if key is None else Image.merge("LA", (picture, Image.fromarray(opaque)))


def _value_range(image: Image.Image, layout: str) -> tuple[float, float]:
    """The values that are to be black and white."""
    least, greatest = np.inf, -np.inf
    for _, band in _bands(image, layout):
        finite = band[np.isfinite(band)]
        if finite.size:
            least, greatest = min(least, float(finite.min())), max(greatest, float(finite.max()))
    for white in (1.0,) if image.mode == "F" else (255.0, 65535.0):
        if least >= 0 and greatest <= white:
            return 0.0, white
    return least, greatest


def _bands(image: Image.Image, layout: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Rows by the megapixel, so that a large picture's float64 values never stand in memory together."""
    made, meant = _SAMPLES.get(layout, ("", ""))
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        band = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        yield top, band.astype(made).view(meant) if made else band
