"""A picture of any of Pillow's modes to RGB: deep grey scaled, transparent pixels laid over a ground colour.

Touches Pillow and numpy, and nothing else. Runs on executors, and on the driver for thumbnails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin


def sample_layout(image: ImageFile.ImageFile) -> str:
    """Pillow's codec and raw mode: how the samples lie in the file. To be asked before the pixels are loaded."""
    codec, _, _, arguments = image.tile[0] if image.tile else ("", None, 0, "")
    layout = arguments[0] if isinstance(arguments, tuple) else arguments
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode == "L" and image.tag_v2.get(339) == (2,):
        layout = "signed"  # which Pillow does not tell apart in 8 bits
    return f"{codec} {layout}"


def to_rgb(image: Image.Image, layout: str, ground: tuple[int, int, int]) -> Image.Image:
    """Any mode to RGB, as Pillow converts it but for deep grey and for transparent pixels, which show the ground.

    Args:
        image: loaded; what it says of its transparency may be changed.
        layout: what ``sample_layout`` gave.
        ground: RGB, 0..255 each.
    """
    key = image.info.get("transparency")
    if image.mode == "RGB" and key is None:
        return image
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
    if image.mode.startswith("I;16") or layout == "raw I;16B" or layout.startswith("ppm"):
        # Of a PPM Pillow makes 16 bits, however few there are.
        black, white = 0.0, 4095.0 if layout.endswith("I;12") else 65535.0
    else:
        black, white = _value_range(image, layout)
    scale = 255 / (white - black) if white > black else 0.0
    grey = np.empty((image.height, image.width), np.uint8)
    opaque = np.empty_like(grey)
    for top, band in _bands(image, layout):
        with np.errstate(invalid="ignore"):  # NaN of the kind that signals
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
