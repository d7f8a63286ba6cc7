"""Decodes a picture: from bytes to RGB pixels of one size, or the reason why not.

Touches Pillow and numpy, and nothing outside the process. Runs on executors, and on the driver for thumbnails.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

from mirabelle.decode.colour import sample_layout, to_rgb
from mirabelle.decode.formats import USUAL, ends_early, format_of
from mirabelle.decode.headers import icon_frame
from mirabelle.decode.limits import check_cost, check_header, costly_pixels
from mirabelle.decode.mending import ended
from mirabelle.decode.opening import PILLOW_WARNINGS_OFF, open_image, switched
from mirabelle.decode.resizing import stretch
from mirabelle.errors import DecodeError, RejectCode

PREPROCESSING_VERSION: int = 1
"""Part of the embedding fingerprint: raised when ``decode`` would give other pixels for the same file."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Args:
        ground: RGB under transparent pixels, 0..255 each.
        orient: apply the EXIF orientation.
        max_pixels: of what is decoded; larger pictures are rejected undecoded. The default keeps every kind within 2 s
            and 1 GiB, file included. It is for JPEGs and HEIF. Others may have half, but not less than 25 million where
            the limit is higher. Measured at that on one idle EPYC core: AVIF 4:4:4 with alpha 1.9 s, noise as RGBA PNG
            1.5 s; lossless WebP 18 bytes a pixel, 0.5 GB, and a picture one pixel wide 0.7 GB. A JPEG that is decoded
            at a fraction counts for what comes out, and may have four times the limit by its header. Kinds that cost
            more than their pixels say have lower limits (``limits``). A JPEG that lacks its end is decoded up to three
            times more, to know that it lacks no more than that; so it may have half at most. Pillow's own limit, 179
            million, stays in force but for JPEGs.
        max_bytes: larger files are rejected unread. The default holds an uncompressed RGBA picture of 25 megapixels.
        accept_truncated: give what there is of a file that ends early, where Pillow can (not WebP, AVIF, HEIF or
            compressed TIFF); what is missing is grey or black.
        exact: pixels to the bit as Keras has them. Otherwise a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            (libjpeg's scaled DCT), whichever leaves both sides at least ``SCALED_GAP`` times what is wanted: its pixels
            differ by 0.4 grey levels on average, in photographs. And all are resized by another library, which is off
            by one level here and there.
        formats: what is decoded at all, of ``formats.FORMATS``.
    """

    ground: tuple[int, int, int] = (255, 255, 255)
    orient: bool = True
    max_pixels: int = 50_000_000
    max_bytes: int = 100 * 2**20
    accept_truncated: bool = False
    exact: bool = True
    formats: tuple[str, ...] = USUAL


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

SCALED_GAP = 2
"""As Pillow's ``thumbnail`` has it: the resize still averages two pixels each way, and hides much of what the DCT left.
With ImageNet's VGG16 and without grain, features of photographs kept a cosine of 0.9991 or better to the exact ones
(0.9998 at 1/2). Patterns finer than the network can see, such as small print, kept less: 0.95 at a gap of 2, and not
much more at one of 4."""


def decode(content: bytes, size_px: int, options: DecodeOptions = _DEFAULTS) -> DecodedImage:
    """Decode a picture and stretch it to a square.

    Args:
        content: the whole file; its format is told from its bytes, never from a name.
        size_px: side of the square the network wants.

    Raises:
        DecodeError: with the reason's code; nothing else, whatever the bytes.
    """
    picture, width_px, height_px = _picture(content, options, None if options.exact else SCALED_GAP * size_px)
    return DecodedImage(stretch(picture, size_px, options.exact), width_px, height_px)


def thumbnail(content: bytes, max_px: int, options: DecodeOptions = _DEFAULTS) -> bytes:
    """A WebP of the picture ``decode`` sees, neither side above ``max_px``, aspect ratio kept, never enlarged.

    Raises:
        DecodeError: as ``decode``.
    """
    picture, _, _ = _picture(content, options, SCALED_GAP * max_px)
    picture.thumbnail((max_px, max_px), Image.Resampling.BICUBIC)
    webp = io.BytesIO()
    picture.save(webp, "WEBP", quality=80, exif=b"", xmp=b"", icc_profile=b"")
    return webp.getvalue()


def _picture(content: bytes, options: DecodeOptions, least_px: int | None) -> tuple[Image.Image, int, int]:
    """The whole picture in mode RGB, oriented, and its width and height.

    With ``least_px`` it may come smaller than it is, where that is cheap, but neither side below that.
    """
    if not content:
        raise DecodeError(RejectCode.EMPTY)
    if len(content) > options.max_bytes:
        raise DecodeError(RejectCode.TOO_MANY_BYTES, f"{len(content):,} bytes; the limit is {options.max_bytes:,}")
    kind = format_of(content, options.formats)
    if kind == "ICO" and (content := icon_frame(content))[:1] == b"\x89":
        kind = "PNG"
    try:
        return _attempt(kind, content, options, least_px)
    except DecodeError as error:
        if error.code is not RejectCode.TRUNCATED:
            raise
        if kind == "JPEG" and (whole := _lacking_its_end_alone(content, options)):
            return whole if least_px is None else _attempt(kind, next(ended(content)), options, least_px)
        if not options.accept_truncated:
            raise
    with switched(ImageFile, LOAD_TRUNCATED_IMAGES=True):
        return _attempt(kind, content, options, least_px)


def _lacking_its_end_alone(content: bytes, options: DecodeOptions) -> tuple[Image.Image, int, int] | None:
    """As ``_picture``, of a JPEG that is whole but for the mark of its end; None: it is truncated."""
    whole = None
    options = replace(options, max_pixels=costly_pixels(options.max_pixels))
    try:
        for each in ended(content):
            found = _attempt("JPEG", each, options, None)
            whole = whole or found
            if ImageChops.difference(whole[0], found[0]).getbbox() is not None:
                return None
    except DecodeError:
        return None
    return whole


def _attempt(kind: str, content: bytes, options: DecodeOptions, least_px: int | None) -> tuple[Image.Image, int, int]:
    """Decode, and give every failure its code."""
    try:
        with PILLOW_WARNINGS_OFF:
            return _decoded(kind, content, options, least_px)
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise DecodeError(RejectCode.TOO_MANY_PIXELS, str(exc)) from exc
    except Exception as exc:  # plugins raise anything on damaged input; a row is recorded for each
        early = "truncat" in str(exc).lower() or ends_early(kind, content)
        detail = f"{kind}: {type(exc).__name__}: {' '.join(str(exc).split())}"[:300]
        raise DecodeError(RejectCode.TRUNCATED if early else RejectCode.CORRUPT, detail) from exc


def _decoded(kind: str, content: bytes, options: DecodeOptions, least_px: int | None) -> tuple[Image.Image, int, int]:
    """As ``_picture``; raises whatever Pillow raises."""
    check_header(kind, content, options.max_pixels)
    if kind in _FILLED_UP and not ImageFile.LOAD_TRUNCATED_IMAGES and ends_early(kind, content):
        raise DecodeError(RejectCode.TRUNCATED, f"{kind}: ends before its own structure does")
    image = open_image(kind, content)
    layout = sample_layout(image)
    width_px, height_px = image.size
    if least_px is not None and kind == "JPEG":
        image.draft(None, (least_px, least_px))
    scaled = image.size != (width_px, height_px)
    check_cost(image, content, options.max_pixels, (width_px, height_px))
    turn = _load(image, options.orient)
    if kind == "TGA" and content[17] & 15 == 0 and image.mode in ("LA", "RGBA"):
        picture = image.convert("RGB")  # its header says that no bit of a pixel is transparency
    else:
        picture = to_rgb(image, layout, options.ground)
    if turn in _TRANSPOSES:
        picture = picture.transpose(_TRANSPOSES[turn])
    if not scaled:
        return picture, *picture.size
    return (picture, height_px, width_px) if turn in _TURNED else (picture, width_px, height_px)


# Their decoders give what there is of a file that was cut as if it were all.
_FILLED_UP = frozenset({"JPEG2000", "HEIF"})


def _load(image: ImageFile.ImageFile, orient: bool) -> int:
    """Read the pixels; gives how they have still to be turned, as an EXIF orientation."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()
        return _orientation(image) if orient else 1
    turn = _orientation(image)
    # Pillow reads these while loading, and fails if they are damaged; nothing here needs them.
    for sub_directory in (0x8769, 0x8825, 0xA005):  # Exif, GPS, interoperability
        image.getexif().pop(sub_directory, None)
    image.load()  # which orients a TIFF, so there is only something to undo
    return 1 if orient else {6: 8, 8: 6}.get(turn, turn)


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = frozenset({5, 6, 7, 8})  # width and height change places
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
