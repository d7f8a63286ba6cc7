"""Whether a downloaded file is a picture, and how large. Touches nothing.

By decoding it as an embedding does, so that a crawl keeps what will not be a reject later.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirabelle.decode import DecodeOptions, decode
from mirabelle.decode.formats import format_of

# Of no account: the pixels are thrown away.
SMALL_PX = 8


@dataclass(frozen=True)
class Picture:
    """What a file is: Pillow's name of its format, and its size."""

    kind: str
    width_px: int
    height_px: int


def measured(content: bytes, max_pixels: int) -> Picture:
    """A file that is a whole picture of an allowed format.

    Raises:
        DecodeError: it is none, of another format, too large, cut short or damaged.
    """
    decoded = decode(content, SMALL_PX, DecodeOptions(max_pixels=max_pixels, exact=False))
    return Picture(format_of(content), decoded.width_px, decoded.height_px)
