"""Has Pillow open a file of one of the allowed formats, and keeps hold of what Pillow has for the whole process.

Touches Pillow, its module-level switches and, while a decode is under way, the filters of ``warnings``. Runs on
executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from PIL import (  # noqa: F401  # the allow-list's plugins: so that Image.open() need not load all forty to find them
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mirabelle.decode.formats import tiff_in_planes
from mirabelle.errors import DecodeError, RejectCode


class _MeteredBytes(io.BytesIO):
    """Stops plugins that parse byte by byte in Python from taking minutes over a large file of junk."""

    reads_left = 200_000  # a quarter of a second; a 100 MB PNG in the usual chunks of 8 KB needs 40,000

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise DecodeError(RejectCode.CORRUPT, "made of too many pieces")
        return super().read(size)


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
    stream = io.BytesIO(content) if len(content) < 2**20 or kind == "BMP" else _MeteredBytes(content)
    try:
        if kind == "TIFF":
            # Pillow's own reader takes samples in planes for 8 bits each, whatever they are; libtiff knows better.
            # Other TIFFs wait while another thread has the switch on.
            with switched_on(TiffImagePlugin, "READ_LIBTIFF") if tiff_in_planes(content) else _SWITCHES:
                return Image.open(stream, formats=(kind,))
        return Image.open(stream, formats=(kind,))
    except UnidentifiedImageError:
        Image.OPEN[kind][0](io.BytesIO(content), "")  # Pillow keeps the reason to itself; the plugin has it
        raise


_SWITCHES = threading.RLock()


@contextmanager
def switched_on(module: ModuleType, switch: str) -> Iterator[None]:
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


PILLOW_WARNINGS_OFF = _WarningsOff()
