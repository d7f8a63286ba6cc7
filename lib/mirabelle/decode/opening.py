"""Has Pillow open a file of one of the allowed formats, and keeps hold of what Pillow has for the whole process.

Touches Pillow, its module-level switches and, while a decode is under way, the filters of ``warnings``. Runs on
executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import functools
import io
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from PIL import (  # noqa: F401  # the plugins wanted: so that Image.open() need not load all forty to find them
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mirabelle.decode.formats import tiff_in_planes
from mirabelle.errors import DecodeError, RejectCode


class _MeteredBytes(io.BytesIO):
    """Stops plugins that parse in Python from taking seconds over a file of junk, or of metadata.

    Metadata is counted where a plugin reads it: to look for it in all of a large photograph takes milliseconds.
    """

    def __init__(self, kind: str, content: bytes) -> None:
        super().__init__(content)
        self._kind = kind
        # A quarter of a second; a 100 MB PNG in the usual chunks of 8 KB needs 40,000. Below 1 MiB all that there are.
        self._reads_left = 200_000 if len(content) >= 2**20 else sys.maxsize
        self._metadata_left = 200

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise DecodeError(RejectCode.CORRUPT, "made of too many pieces")
        found = super().read(size)
        if _is_metadata(self._kind, found):
            self._metadata_left -= 1
            if self._metadata_left < 0:
                raise DecodeError(RejectCode.CORRUPT, f"{self._kind}: flooded with metadata")
        return found


def _is_metadata(kind: str, found: bytes) -> bool:
    """Whether this is of what costs milliseconds a piece and files have few of.

    The head of a PNG's chunk that may unpack to 1 MiB, or a JPEG's segment that is copied with all before it.
    """
    if kind == "PNG":
        return len(found) == 8 and found[4:] in (b"iCCP", b"zTXt", b"iTXt")
    return kind == "JPEG" and found.startswith(b"Exif\0\0")


def open_image(kind: str, content: bytes) -> ImageFile.ImageFile:
    """The picture with its header read and its pixels still to be loaded.

    Damaged metadata must not cost the picture, so where Pillow's plugin stumbles over it, it is blotted out: first all
    but EXIF, then EXIF too. Raises what Pillow raises, or DecodeError for a file of too many pieces.
    """
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
    stream = io.BytesIO(content) if len(content) < 2**17 or kind == "BMP" else _MeteredBytes(kind, content)
    if kind == "HEIF":
        return _open_heif(stream)
    if kind == "JPEG":
        # Not by Image.open(), which refuses 179 megapixels however few of them are to be decoded.
        image: ImageFile.ImageFile = JpegImagePlugin.jpeg_factory(stream)
        image.decodermaxblock = len(content)  # in one piece: by the 64 KiB each is copied twice
        return image
    try:
        if kind == "TIFF":
            # Pillow's own reader takes samples in planes for 8 bits each, whatever they are; libtiff knows better.
            # Other TIFFs wait while another thread has the switch on.
            with switched(TiffImagePlugin, READ_LIBTIFF=True) if tiff_in_planes(content) else _SWITCHES:
                return Image.open(stream, formats=(kind,))
        return Image.open(stream, formats=(kind,))
    except UnidentifiedImageError:
        Image.OPEN[kind][0](io.BytesIO(content), "")  # Pillow keeps the reason to itself; the plugin has it
        raise


_SWITCHES = threading.RLock()


@contextmanager
def switched(module: ModuleType, **switches: int) -> Iterator[None]:
    """Pillow takes some choices as module globals only."""
    with _SWITCHES:
        before = {name: getattr(module, name) for name in switches}
        try:
            for name, value in switches.items():
                setattr(module, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(module, name, value)


def _open_heif(stream: io.BytesIO) -> ImageFile.ImageFile:
    """By libheif, which turns and mirrors the picture as the file says; on this thread alone."""
    plugin, options = _heif_plugin()
    with switched(options, DECODE_THREADS=1, THUMBNAILS=False, DEPTH_IMAGES=False, AUX_IMAGES=False):
        image: ImageFile.ImageFile = plugin(stream)
    return image


@functools.cache
def _heif_plugin() -> tuple[Any, ModuleType]:
    try:
        from pillow_heif import HeifImageFile, options
    except ImportError as error:
        raise DecodeError(
            RejectCode.NO_DECODER,
            f"HEIF needs {error.name or 'pillow_heif'}, which is not here; install mirabelle[heif] where workers run",
        ) from error
    return HeifImageFile, options


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


PILLOW_WARNINGS_OFF = _WarningsOff()
