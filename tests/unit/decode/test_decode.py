import io
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mirabelle.decode import DecodedImage, DecodeOptions, decode, thumbnail
from mirabelle.errors import DecodeError
from unit.decode.decode_cases import (
    AWKWARD,
    EXPECTED,
    bmp,
    decode_apart,
    exif,
    jpeg_segment,
    packed,
    png,
    png_chunk,
    saved,
    tiff,
)

RNG = np.random.default_rng(20)
GROUND = (10, 200, 90)
PHOTO = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)


def pixels(content: bytes, side: int = 8, **options: Any) -> np.ndarray:
    return decode(content, side, DecodeOptions(**options)).pixels.astype(int)


def refusal(content: bytes, **options: Any) -> str:
    with pytest.raises(DecodeError) as raised:
        decode(content, 8, DecodeOptions(**options))
    assert len(raised.value.detail) <= 300
    assert "\n" not in raised.value.detail
    return str(raised.value.code)


def grey(values: np.ndarray) -> np.ndarray:
    """A plane of expected values as three, rounded to nearest."""
    return np.repeat(np.floor(np.asarray(values, float) + 0.5).astype(int)[:, :, None], 3, axis=2)


# -- Equal to Keras


@pytest.mark.parametrize("side", [7, 90, 224])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_pictures_are_what_keras_gives(kind: str, mode: str, side: int) -> None:
    content = saved(PHOTO.convert(mode), kind)
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(opened.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    image = decode(content, side)
    assert np.array_equal(image.pixels, expected)
    assert (image.width_px, image.height_px) == (120, 90)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous


def test_a_picture_that_fits_is_not_touched() -> None:
    square = PHOTO.crop((0, 0, 64, 64))
    assert np.array_equal(pixels(saved(square, "PNG"), 64), np.asarray(square))


# -- Depths


RAMP = np.linspace(0, 65535, 64).round().astype(int).reshape(8, 8)
SIGNED = RAMP - 32768
RAMP_OF_8_BITS = grey(RAMP * 255 / 65535)
UNIT = RNG.random((8, 8)).astype("f4")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    ("values", "layout", "sample_format", "expected"),
    [
        pytest.param(RAMP, "u2", 1, RAMP_OF_8_BITS, id="16 bits"),
        pytest.param(RAMP // 200, "u2", 1, grey(RAMP // 200 * 255 / 65535), id="16 bits, dark"),
        pytest.param(SIGNED, "i2", 2, RAMP_OF_8_BITS, id="signed 16 bits are stretched"),
        pytest.param(SIGNED // 256, "i1", 2, grey((SIGNED // 256 + 128) * 255 / 255), id="signed 8 bits are stretched"),
        pytest.param(RAMP, "i4", 2, RAMP_OF_8_BITS, id="16 bits in 32"),
        pytest.param(RAMP // 257, "i4", 2, grey(RAMP // 257), id="8 bits in 32"),
        pytest.param(SIGNED * 65536, "i4", 2, grey((SIGNED + 32768) * 255 / 65535), id="32 bits are stretched"),
        pytest.param(UNIT, "f4", 3, grey(UNIT * 255.0), id="float of 0..1"),
        pytest.param(RAMP * 0.5 - 7, "f4", 3, RAMP_OF_8_BITS, id="float of another range is stretched"),
        pytest.param(np.full((8, 8), 70000.0), "f4", 3, np.zeros((8, 8, 3)), id="nothing to stretch"),
    ],
)
def test_deep_grey_is_scaled(
    values: np.ndarray, layout: str, sample_format: int, expected: np.ndarray, order: str, compression: int
) -> None:
    data = values.astype(order + layout).tobytes()
    piece = zlib.compress(data) if compression == 8 else data
    content = tiff([piece], 8, 8, 8 * int(layout[1]), order=order, compression=compression, format=sample_format)
    assert np.array_equal(pixels(content), expected)


def test_unsigned_32_bits_are_not_taken_for_negative() -> None:
    values = RAMP.astype(np.uint32) * 65537
    content = tiff([values.tobytes()], 8, 8, 32, format=1)
    assert np.array_equal(pixels(content), RAMP_OF_8_BITS)


@pytest.mark.parametrize("compression", [1, 8])
def test_white_is_zero(compression: int) -> None:
    data = RAMP.astype("<u2").tobytes()
    content = tiff(
        [zlib.compress(data) if compression == 8 else data], 8, 8, 16, photometric=0, compression=compression
    )
    assert np.array_equal(pixels(content), 255 - RAMP_OF_8_BITS)


def test_what_is_no_number_is_black_and_infinity_white() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 3.0], [4.0, 5.0, 6.0, 7.0]] * 2, "f4")
    content = tiff([values.tobytes()], 4, 4, 32, format=3)
    expected = grey(np.array([[0, 0, 255, 0], [63.75, 127.5, 191.25, 255]] * 2))
    assert np.array_equal(pixels(content, 4), expected)
    nothing = tiff([np.full((4, 4), np.nan, "f4").tobytes()], 4, 4, 32, format=3)
    assert not pixels(nothing, 4).any()


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
def test_few_bits_and_twelve(bits: int) -> None:
    values = RNG.integers(0, 2**bits, (8, 8))
    expected = grey(values * 255 / (2**bits - 1))
    assert np.array_equal(pixels(tiff([packed(values, bits)], 8, 8, bits)), expected)
    if bits < 8:
        assert np.array_equal(pixels(png(8, 8, bits, 0, packed(values, bits))), expected)


def test_16_bit_png() -> None:
    assert np.array_equal(pixels(png(8, 8, 16, 0, RAMP.astype(">u2").tobytes())), RAMP_OF_8_BITS)
    colour = RNG.integers(0, 65536, (8, 8, 3))
    # Pillow drops the low byte of 16-bit colour, which is within one of the nearest.
    assert np.array_equal(pixels(png(8, 8, 16, 2, colour.astype(">u2").tobytes())), colour >> 8)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planes", [1, 2])
def test_colour_tiff(bits: int, planes: int, order: str, compression: int) -> None:
    colour = RNG.integers(0, 2**bits, (8, 8, 3))
    layers = [colour] if planes == 1 else [colour[:, :, band] for band in range(3)]
    pieces = [layer.astype(f"{order}u{bits // 8}").tobytes() for layer in layers]
    if compression == 8:
        pieces = [zlib.compress(piece) for piece in pieces]
    content = tiff(pieces, 8, 8, bits, order=order, samples=3, planes=planes, compression=compression)
    assert np.array_equal(pixels(content), colour >> (bits - 8))


def test_tiles_reach_over_the_edge() -> None:
    tile = RNG.integers(0, 256, (16, 16), dtype=np.uint8)
    assert np.array_equal(pixels(tiff([tile.tobytes()], 8, 8, 8, tile=(16, 16))), grey(tile[:8, :8]))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "group4", "group3"])
def test_compressed_tiff(compression: str) -> None:
    image = PHOTO.convert("1" if compression.startswith("group") else "RGB").resize((8, 8))
    assert np.array_equal(pixels(saved(image, "TIFF", compression=compression)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("height", "compression"), [(4, 0), (-4, 0), (4, 1)])
def test_bmp_either_way_up_and_run_length_encoded(height: int, compression: int) -> None:
    rows = np.array([[9, 9, 9, 4], [7, 7, 7, 7], [0, 0, 0, 0], [3, 3, 8, 8]])
    stored = rows[:: -1 if height > 0 else 1]
    runs = b"".join(bytes((3, a, 1, c)) if b == a else bytes((2, a, 2, c)) for a, _, b, c in stored)
    encoded = b"".join(runs[i * 4 : i * 4 + 4] + b"\0\0" for i in range(4)) + b"\0\1"
    content = bmp(4, height, 8, compression, encoded if compression else stored.astype(np.uint8).tobytes())
    assert np.array_equal(pixels(content, 4), np.stack([rows, rows // 2, 255 - rows], axis=2)[:, :, ::-1])


# -- Colour spaces


@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk(bits: int) -> None:
    inks = RNG.integers(0, 256, (8, 8, 4))
    data = (inks * (257 if bits == 16 else 1)).astype(f"<u{bits // 8}").tobytes()
    expected = (255 - inks[:, :, :3]) * (255 - inks[:, :, 3:]) / 255
    assert np.abs(pixels(tiff([data], 8, 8, bits, samples=4, photometric=5)) - expected).max() <= 0.5


def test_cmyk_jpeg_is_not_a_negative() -> None:
    inks = Image.new("CMYK", (16, 16), (0, 200, 250, 20))
    assert np.abs(pixels(saved(inks, "JPEG", quality=95)) - [235, 50.7, 4.6]).max() < 6


def test_ycbcr() -> None:
    image = PHOTO.resize((8, 8))
    assert np.abs(pixels(saved(image.convert("YCbCr"), "TIFF")) - np.asarray(image).astype(int)).max() <= 3


@pytest.mark.parametrize(
    ("lab", "rgb", "tolerance"),
    [
        ((100, 0, 0), (255, 255, 255), 1),
        ((50, 0, 0), (119, 119, 119), 1),
        ((0, 0, 0), (0, 0, 0), 1),
        # CIELAB at D50 of the sRGB primaries. The file holds whole steps, which tell most where a channel is dark.
        ((54.3, 80.8, 69.9), (255, 0, 0), 8),
        ((87.8, -79.3, 81.0), (0, 255, 0), 16),
        ((29.6, 68.3, -112.0), (0, 0, 255), 24),
    ],
)
def test_lab_becomes_srgb(lab: tuple[float, float, float], rgb: tuple[int, int, int], tolerance: int) -> None:
    lightness, a, b = lab
    value = bytes((round(lightness * 2.55), round(a) % 256, round(b) % 256))
    content = tiff([value * 64], 8, 8, 8, samples=3, photometric=8)
    assert np.abs(pixels(content)[0, 0] - rgb).max() <= tolerance


# -- Transparency


def over(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.floor((colour * alpha + np.array(GROUND) * (255 - alpha)) / 255 + 0.5).astype(int)


COLOUR = RNG.integers(0, 256, (8, 8, 3))
ALPHA = RNG.integers(0, 256, (8, 8, 1))
LUMA = COLOUR[:, :, :1]
RGBA = Image.fromarray(np.dstack([COLOUR, ALPHA]).astype(np.uint8), "RGBA")


def test_alpha_is_laid_over_the_ground() -> None:
    expected = over(COLOUR, ALPHA)
    samples = np.dstack([COLOUR, ALPHA])
    assert np.array_equal(pixels(saved(RGBA, "PNG"), ground=GROUND), expected)
    assert np.array_equal(pixels(saved(RGBA, "TIFF"), ground=GROUND), expected)
    assert np.array_equal(pixels(saved(RGBA, "WEBP", lossless=True, exact=True), ground=GROUND), expected)
    assert np.array_equal(pixels(png(8, 8, 16, 6, (samples * 257).astype(">u2").tobytes()), ground=GROUND), expected)
    white = np.floor((COLOUR * ALPHA + 255 * (255 - ALPHA)) / 255 + 0.5)
    assert np.array_equal(pixels(saved(RGBA, "PNG")), white)


def test_avif_alpha() -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 16, 8))
    found = pixels(saved(clear, "AVIF", quality=100), 16, ground=GROUND)
    assert np.abs(found[2] - [0, 0, 255]).max() < 6
    assert np.abs(found[13] - GROUND).max() < 6


def test_grey_with_alpha() -> None:
    expected = over(LUMA.repeat(3, axis=2), ALPHA)
    samples = np.dstack([LUMA, ALPHA])
    assert np.array_equal(pixels(png(8, 8, 8, 4, samples.astype(np.uint8).tobytes()), ground=GROUND), expected)
    assert np.array_equal(pixels(png(8, 8, 16, 4, (samples * 257).astype(">u2").tobytes()), ground=GROUND), expected)
    content = tiff([samples.astype(np.uint8).tobytes()], 8, 8, 8, samples=2, photometric=1, extra=2)
    assert np.array_equal(pixels(content, ground=GROUND), expected)


def test_premultiplied_grey_and_colour() -> None:
    for bands, colour in ((2, LUMA), (4, COLOUR)):
        multiplied = np.dstack([np.floor(colour * ALPHA / 255), ALPHA]).astype(np.uint8)
        photometric = 1 if bands == 2 else 2
        content = tiff([multiplied.tobytes()], 8, 8, 8, samples=bands, photometric=photometric, extra=1)
        found = pixels(content, ground=GROUND)
        # Multiplying has cost up to one step of the product, and dividing again as much.
        assert np.abs(found - over(np.broadcast_to(colour, (8, 8, 3)), ALPHA)).max() <= 2


PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
INDICES = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def test_palettes() -> None:
    table = png_chunk(b"PLTE", PALETTE.tobytes())
    assert np.array_equal(pixels(png(8, 8, 8, 3, INDICES.tobytes(), table)), PALETTE[INDICES])
    alphas = RNG.integers(0, 256, 256)
    content = png(8, 8, 8, 3, INDICES.tobytes(), table, png_chunk(b"tRNS", alphas.astype(np.uint8).tobytes()))
    assert np.array_equal(pixels(content, ground=GROUND), over(PALETTE[INDICES], alphas[INDICES][:, :, None]))
    one = INDICES[3, 4]
    content = png(8, 8, 8, 3, INDICES.tobytes(), table, png_chunk(b"tRNS", b"\xff" * one + b"\0"))
    expected = np.where((one == INDICES)[:, :, None], GROUND, PALETTE[INDICES])
    assert np.array_equal(pixels(content, ground=GROUND), expected)


def test_tiff_palette_with_alpha() -> None:
    columns = tuple(int(value) * 257 for value in PALETTE.T.ravel())
    data = np.dstack([INDICES, ALPHA]).astype(np.uint8).tobytes()
    content = tiff([data], 8, 8, 8, samples=2, photometric=3, extra=2, tags={320: ("H", columns)})
    assert np.array_equal(pixels(content, ground=GROUND), over(PALETTE[INDICES], ALPHA))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey(bits: int) -> None:
    values = RNG.integers(0, 2**bits, (8, 8))
    key = int(values[5, 5])
    rows = values.astype(">u2").tobytes() if bits == 16 else packed(values, bits)
    content = png(8, 8, bits, 0, rows, png_chunk(b"tRNS", struct.pack(">H", key)))
    expected = np.where((values == key)[:, :, None], GROUND, grey(values * 255 / (2**bits - 1)))
    assert np.array_equal(pixels(content, ground=GROUND), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_one_transparent_colour(bits: int) -> None:
    values = RNG.integers(0, 2**bits, (8, 8, 3))
    values[2:4, 2:4] = values[0, 0]
    content = png(
        8, 8, bits, 2, values.astype(f">u{bits // 8}").tobytes(), png_chunk(b"tRNS", struct.pack(">HHH", *values[0, 0]))
    )
    expected = np.where((values == values[0, 0]).all(axis=2)[:, :, None], GROUND, values >> (bits - 8))
    assert np.array_equal(pixels(content, ground=GROUND), expected)


def test_transparent_gif() -> None:
    frame = Image.fromarray(INDICES, "P")
    frame.putpalette(PALETTE.tobytes())
    key = int(INDICES[1, 1])
    content = saved(frame, "GIF", transparency=key, optimize=False)
    expected = np.where((key == INDICES)[:, :, None], GROUND, PALETTE[INDICES])
    assert np.array_equal(pixels(content, ground=GROUND), expected)


# -- Orientation


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    # Stored to displayed. EXIF 2.32, table 6: what the first row and the first column are when displayed.
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}
BLOCKS = np.array([[[250, 10, 10], [10, 250, 10], [10, 10, 250]], [[250, 250, 10], [10, 10, 10], [250, 250, 250]]])
STORED = BLOCKS.repeat(16, axis=0).repeat(16, axis=1)  # 48 x 32, no two corners alike


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation(kind: str, orientation: int) -> None:
    directory = Image.Exif()
    directory[274] = orientation
    options = {} if kind == "TIFF" else {"quality": 95}
    content = saved(Image.fromarray(STORED.astype(np.uint8)), kind, exif=directory, **options)
    displayed = TURNS[orientation](STORED)
    image = decode(content, 48)
    assert (image.height_px, image.width_px) == displayed.shape[:2]
    centres = np.ix_(*(np.arange(n) * 48 // n + 24 // n for n in np.array(displayed.shape[:2]) // 16))
    assert np.abs(image.pixels.astype(int)[centres] - displayed[8::16, 8::16]).max() < 30
    as_stored = decode(content, 48, DecodeOptions(orient=False))
    assert (as_stored.width_px, as_stored.height_px) == (48, 32)
    assert np.abs(as_stored.pixels.astype(int)[12::24, 8::16] - BLOCKS).max() < 30


PLAIN_JPEG = saved(PHOTO, "JPEG")
HUGE = struct.pack("<HHLL", 0x10F, 2, 0xFFFFFFF0, 8)  # a maker's name of 4 GB


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(exif(struct.pack("<L", 0)), id="orientation 0"),
        pytest.param(exif(struct.pack("<L", 9)), id="orientation 9"),
        pytest.param(exif(b"six\0", kind=2, count=4), id="orientation in letters"),
        pytest.param(exif(b"\1\0\6\0", count=2), id="two orientations, the first of which counts"),
        pytest.param(exif(b"\0\1\0\0", kind=5, count=1), id="a rational from nowhere"),
        pytest.param(exif(b"\1\0\0\0", HUGE, HUGE), id="values larger than the file"),
        pytest.param(exif()[:20], id="cut short"),
        pytest.param(b"Exif\0\0", id="empty"),
        pytest.param(b"Exif\0\0" + b"\xff" * 40, id="no directory"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="a directory past the end"),
        # Pillow's JPEG plugin fails on these two, as it looks for the resolution
        pytest.param(exif(b"\1\0\0\0", struct.pack("<HHLL", 0x128, 3, 1, 2), struct.pack("<HHL4s", 0x11A, 2, 1, b"")),
                     id="resolution of no letters"),
        pytest.param(exif(b"\1\0\0\0", struct.pack("<HHLL", 0x128, 3, 1, 2), struct.pack("<HHL4s", 0x11A, 1, 1, b"\1")),
                     id="resolution of one byte"),
    ],
)  # fmt: skip
def test_damaged_exif_does_not_cost_the_picture(block: bytes) -> None:
    plain = saved(PHOTO, "JPEG", dpi=(0, 0))
    bare = plain[:2] + plain[20:]  # without the JFIF segment, so that Pillow looks into EXIF for the resolution
    content = bare[:2] + jpeg_segment(0xE1, block) + bare[2:]
    assert np.array_equal(pixels(content, 50), pixels(PLAIN_JPEG, 50))
    assert np.array_equal(pixels(saved(PHOTO, "PNG", exif=block), 50), pixels(saved(PHOTO, "PNG"), 50))
    assert np.array_equal(pixels(saved(PHOTO, "WEBP", exif=block), 50), pixels(saved(PHOTO, "WEBP"), 50))


def test_damaged_exif_in_avif() -> None:
    directory = Image.Exif()
    directory[0x10F] = "Maker"
    content = saved(PHOTO, "AVIF", exif=directory)
    at = content.rindex(b"II*\0") if b"II*\0" in content else content.rindex(b"MM\0*")
    damaged = content[:at] + b"????" + content[at + 4 :]
    assert np.array_equal(pixels(damaged, 50), pixels(content, 50))


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(jpeg_segment(0xE2, b"ICC_PROFILE\0"), id="ICC"),
        pytest.param(jpeg_segment(0xED, b"Photoshop 3.0\0008BIM\3\xed"), id="Photoshop"),
        pytest.param(jpeg_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\x01\xb0\x04\0\1\0\0\0\2\0\0\0"), id="MPF"),
    ],
)
def test_other_damaged_metadata_costs_neither_picture_nor_orientation(segment: bytes) -> None:
    upright = PLAIN_JPEG[:2] + segment + PLAIN_JPEG[2:]
    assert np.array_equal(pixels(upright, 50), pixels(PLAIN_JPEG, 50))
    turned = decode(PLAIN_JPEG[:2] + jpeg_segment(0xE1, exif(b"\6\0\0\0")) + segment + PLAIN_JPEG[2:], 50)
    assert (turned.width_px, turned.height_px) == (90, 120)


def test_damaged_sub_directories_of_a_tiff() -> None:
    data = np.arange(64, dtype=np.uint8)
    for place in (("L", (0xFFFFFFF0,)), ("L", (9,)), ("l", (-9,))):
        content = tiff([data.tobytes()], 8, 8, 8, tags={0x8769: place, 0x8825: place})
        assert np.array_equal(pixels(content), grey(data.reshape(8, 8)))


# -- Formats


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"II\xbc\1",
        b"\0\0\0\x18ftypcrx \0\0\0\1",
        b"P6\n8 8\n255\n", b"P1 # made by hand\n8 8", b"P7\nWIDTH 8\n", b"Pf\n8 8\n-1.0\n", b"\1\xda\1\1", b"DDS |\0\0",
        b"\0\0\0\0\x11\xaf\1\0\x40\0\x40\0\x08\0", b"8BPS\0\1", b"\0\0\1\0\1\0\x10\x10", b"\0\0\2\0\1\0\x10\x10",
        b"\x0a\5\1\x08", b"BLP2", b"v/1\1", b"#?RADIANCE\n", b"gimp xcf ", b"qoif", b"SIMPLE  = ", bytes(128) + b"DICM",
        b"\x8aMNG\r\n\x1a\n", b"FORM\0\0\0\0ILBM", b"\x59\xa6\x6a\x95", b"/* XPM */", b"#define a_width 8\n", b"%!PS-",
        b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'>", b"\xd7\xcd\xc6\x9a", b"AT&TFORM", b"icns",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a drawing -->\n<svg:svg width='8'>",
        b"\0\0\2" + bytes(60) + b"TRUEVISION-XFILE.\0",
    ],
)  # fmt: skip
def test_image_formats_outside_the_list(head: bytes) -> None:
    assert refusal(head) == "format_not_allowed"


@pytest.mark.parametrize(
    "content",
    [b"a", b"Not a picture", b"BMW makes cars, and not pictures", b"PK\3\4" + bytes(90), b"<html><body><svg>",
     bytes(900), b"\x1f\x8b\x08\0", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypisom\0\0\0\0", b"P6 is a name",
     b"GIF88a", b"\x89PNG\n\n"],
)  # fmt: skip
def test_no_images(content: bytes) -> None:
    assert refusal(content) == "not_an_image"


def test_empty_and_too_large() -> None:
    assert refusal(b"") == "empty"
    assert refusal(PLAIN_JPEG, max_bytes=len(PLAIN_JPEG) - 1) == "too_many_bytes"
    assert decode(PLAIN_JPEG, 8, DecodeOptions(max_bytes=len(PLAIN_JPEG))).width_px == 120


def test_an_allowed_format_in_a_kind_pillow_cannot_read_says_so() -> None:
    with pytest.raises(DecodeError, match="unknown pixel mode"):
        decode(tiff([bytes(512)], 8, 8, 64, format=3), 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_the_first_of_several_frames(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 30, 30), (30, 30, 200))]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(pixels(content) - [200, 30, 30]).max() < 8


def test_a_gif_frame_off_the_corner() -> None:
    frame = Image.fromarray(np.full((4, 4), 200, np.uint8), "P")
    frame.putpalette(PALETTE.tobytes())
    content = bytearray(saved(frame, "GIF", transparency=7, optimize=False))
    content[6:10] = struct.pack("<HH", 8, 8)
    at = content.index(b"\x2c" + bytes(4) + b"\4\0\4\0")
    content[at + 1 : at + 5] = struct.pack("<HH", 4, 4)
    found = pixels(bytes(content), ground=GROUND)
    expected = np.tile(GROUND, (8, 8, 1))
    expected[4:, 4:] = PALETTE[200]
    assert np.array_equal(found, expected)


# -- Files that end early


KINDS: dict[str, bytes] = {
    "jpeg": PLAIN_JPEG,
    "progressive": saved(PHOTO, "JPEG", progressive=True),
    "jpeg with a thumbnail": PLAIN_JPEG[:2] + jpeg_segment(0xE1, exif() + saved(PHOTO, "JPEG")) + PLAIN_JPEG[2:],
    "png": saved(PHOTO, "PNG"),
    "png with alpha": saved(RGBA.resize((90, 90)), "PNG"),
    "webp": saved(PHOTO, "WEBP"),
    "lossless webp": saved(PHOTO, "WEBP", lossless=True),
    "gif": saved(PHOTO, "GIF"),
    "bmp": saved(PHOTO, "BMP"),
    "tiff": saved(PHOTO, "TIFF"),
    "tiff, directory last": tiff([np.asarray(PHOTO).tobytes()], 120, 90, 8, samples=3),
    "deflate tiff": saved(PHOTO, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": saved(PHOTO, "TIFF", compression="jpeg"),
    "big tiff": saved(PHOTO, "TIFF", big_tiff=True),
    "avif": saved(PHOTO, "AVIF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_file_is_cut_it_is_truncated(kind: str) -> None:
    content = KINDS[kind]
    for length in sorted({*range(20, 200, 7), *range(200, len(content) - 16, len(content) // 60)}):
        assert (kind, length, refusal(content[:length])) == (kind, length, "truncated")


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "gif", "bmp", "tiff, directory first"])
def test_what_is_left_of_a_truncated_file(kind: str) -> None:
    content = KINDS.get(kind) or tiff_with_its_directory_first()
    whole = pixels(content, 90)
    found = pixels(content[: len(content) * 3 // 4], 90, accept_truncated=True)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    rows = slice(50, 80) if kind == "bmp" else slice(10, 40)
    assert np.abs(found - whole)[rows].mean() < 20
    assert np.abs(found - whole).mean() > 1
    assert refusal(content[: len(content) * 3 // 4]) == "truncated"


def tiff_with_its_directory_first() -> bytes:
    rows = np.asarray(PHOTO).tobytes()
    behind = tiff([rows], 120, 90, 8, samples=3)
    directory = behind[8 + len(rows) :]
    shift = 8 + len(rows) - 8  # offsets into the directory's own far values move down by this much
    moved = bytearray(directory)
    for entry in range(2, 2 + 12 * int.from_bytes(directory[:2], "little"), 12):
        tag, layout, count, value = struct.unpack_from("<HHLL", directory, entry)
        if tag == 273:
            struct.pack_into("<L", moved, entry + 8, 8 + len(directory))
        elif count * {3: 2, 4: 4}[layout] > 4:
            struct.pack_into("<L", moved, entry + 8, value - shift)
    return b"II*\0\x08\0\0\0" + bytes(moved) + rows


@pytest.mark.parametrize("kind", ["webp", "avif", "deflate tiff"])
def test_where_pillow_has_nothing_to_give_it_stays_truncated(kind: str) -> None:
    assert refusal(KINDS[kind][:-99], accept_truncated=True) == "truncated"


@pytest.mark.parametrize("kind", ["png", "deflate tiff", "webp", "avif"])
def test_damage_within_a_whole_file_is_corrupt(kind: str) -> None:
    content = bytearray(KINDS[kind])
    middle = content.index(b"IDAT") + 8 if kind == "png" else content.index(b"mdat") + 8 if kind == "avif" else 40
    content[middle : middle + 40] = b"\xee" * 40
    assert refusal(bytes(content)) == "corrupt"
    assert refusal(bytes(content), accept_truncated=True) == "corrupt"


def test_a_bmp_that_does_not_say_how_long_it_is() -> None:
    content = bytearray(KINDS["bmp"])
    content[2:6] = bytes(4)
    assert np.array_equal(pixels(bytes(content)), pixels(KINDS["bmp"]))
    assert refusal(bytes(content[:9000])) == "truncated"


def test_a_negative_width_is_corrupt() -> None:
    assert refusal(bmp(-8, 8, 8, 0, bytes(64))) == "corrupt"


# -- Bombs


def sof(width: int, height: int) -> bytes:
    return PLAIN_JPEG.replace(struct.pack(">HH", 90, 120), struct.pack(">HH", height, width))


def webp(chunk: bytes, body: bytes) -> bytes:
    inner = b"WEBP" + chunk + struct.pack("<L", len(body)) + body
    return b"RIFF" + struct.pack("<L", len(inner)) + inner


def avif_of(width: int, height: int) -> bytes:
    at = KINDS["avif"].index(b"ispe") + 8
    return KINDS["avif"][:at] + struct.pack(">LL", width, height) + KINDS["avif"][at + 8 :]


BOMBS: dict[str, tuple[bytes, str]] = {
    "jpeg": (sof(60000, 60000), "too_many_pixels"),
    "jpeg Pillow only warns of": (sof(10000, 10000), "too_many_pixels"),
    "png": (png(30_000, 30_000, 1, 0, b""), "too_many_pixels"),
    "png of a wrong checksum": (png(9, 1, 8, 0, bytes(9)).replace(b"\0\0\0\x09\0\0\0\1", b"\xff" * 8), "corrupt"),
    "gif screen": (b"GIF89a" + struct.pack("<HH", 60000, 60000) + KINDS["gif"][10:], "too_many_pixels"),
    "gif frame": (b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<HHHHB", 9, 9, 60000, 60000, 0) + b"\2\2L\1\0;",
                  "too_many_pixels"),
    "bmp": (bmp(60000, 60000, 8, 0, bytes(64)), "too_many_pixels"),
    "tiff": (tiff([bytes(64)], 60000, 60000, 8), "too_many_pixels"),
    "tiff tile": (tiff([zlib.compress(bytes(10**6))], 8, 8, 8, tile=(60000, 60000), compression=8), "too_many_pixels"),
    "tiff strips": (tiff([bytes(64)], 8, 8, 8, tags={273: ("L", (8,) * 200_001)}), "corrupt"),
    "webp canvas": (webp(b"VP8X", bytes(4) + struct.pack("<HBHB", 9999, 0, 9999, 0)), "too_many_pixels"),
    "lossless webp": (webp(b"VP8L", b"\x2f" + struct.pack("<L", 9999 | 9999 << 14)), "too_many_pixels"),
    "lossy webp": (webp(b"VP8 ", bytes(3) + b"\x9d\1\x2a" + struct.pack("<HH", 9999, 9999)), "too_many_pixels"),
    "avif": (avif_of(17000, 17000), "too_many_pixels"),
    "rle bmp": (bmp(4000, 4000, 4, 2, b"\xff\x12" * 70_000), "too_many_pixels"),
    "png text": (png(1, 1, 8, 0, b"\0", png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24)))), "corrupt"),
    "png texts": (png(1, 1, 8, 0, b"\0", png_chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(2**20 - 1), 9)) * 5000),
                  "corrupt"),
    "png pieces": (png(1, 1, 8, 0, b"\0", png_chunk(b"aaAa", b"") * 500_000), "corrupt"),
    "jpeg junk": (PLAIN_JPEG[:2] + b"\xff\xe0\0\2" + b"\0" * 9_000_000 + PLAIN_JPEG[2:], "corrupt"),
    "jpeg exif": (PLAIN_JPEG[:2] + jpeg_segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 1000 + PLAIN_JPEG[2:], "corrupt"),
    "gif comments": (KINDS["gif"][:781] + b"!\xfe" + b"\2ab" * 5_000_000 + b"\0" + KINDS["gif"][781:], "corrupt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str) -> None:
    content, expected = BOMBS[name]
    begun = time.process_time()  # which other work on the machine does not lengthen
    assert refusal(content) == expected
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("count", [200, 201])
def test_metadata_is_counted_where_it_is_read(count: int) -> None:
    block = jpeg_segment(0xE1, b"Exif\0\0" + bytes(700))
    flooded = PLAIN_JPEG[:2] + block * count + PLAIN_JPEG[2:]
    if count > 200:
        assert refusal(flooded) == "corrupt"
    else:
        assert np.array_equal(pixels(flooded), pixels(PLAIN_JPEG))
    # Nobody reads what stands behind the picture, such as the rest of a burst.
    assert np.array_equal(pixels(PLAIN_JPEG + block * count), pixels(PLAIN_JPEG))


def test_a_jpeg_of_too_many_scans() -> None:
    content = saved(Image.new("L", (2000, 2000), 128), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xc4")
    many = content[:-2] + content[last:-2] * 300 + content[-2:]
    assert refusal(many, max_pixels=4_000_000) == "too_many_pixels"
    assert decode(content, 8, DecodeOptions(max_pixels=4_000_000)).width_px == 2000


def test_the_limit_is_the_last_size_allowed() -> None:
    assert decode(PLAIN_JPEG, 8, DecodeOptions(max_pixels=10_800)).height_px == 90
    assert refusal(PLAIN_JPEG, max_pixels=10_799) == "too_many_pixels"
    assert refusal(saved(RGBA, "WEBP", lossless=True), max_pixels=63) == "too_many_pixels"
    assert decode(saved(RGBA, "WEBP", lossless=True), 8, DecodeOptions(max_pixels=64)).height_px == 8
    assert decode(KINDS["avif"], 8, DecodeOptions(max_pixels=10_800)).height_px == 90


def test_a_tall_thread_of_a_picture_is_not_widened_row_by_row(tmp_path: Path) -> None:
    column = np.linspace(0, 255, 300_000).astype(np.uint8).reshape(-1, 1)
    found = pixels(tiff([column.tobytes()], 1, 300_000, 8), 200)
    assert (found == found[:, :1]).all()
    assert np.abs(found[:, 0, 0] - np.linspace(0, 255, 200)).max() < 2
    # Pillow's own order of things would take 5.4 GB here.
    (tmp_path / "thread").write_bytes(tiff([zlib.compress(bytes(6_000_000))], 1, 6_000_000, 8, compression=8))
    (answer,) = decode_apart(tmp_path / "thread")
    assert answer["outcome"] == "picture"
    assert answer["peak_kib"] < 2**20


ODD_JPEG = PLAIN_JPEG[:2] + jpeg_segment(0xE1, exif(b"\1\0\0\0", HUGE)) + PLAIN_JPEG[2:]


def test_pillows_warnings_reach_nobody_and_others_do() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(ODD_JPEG)) as opened:
            opened.getexif()
        assert len(heard) == 1  # so there is something to keep quiet
        assert decode(ODD_JPEG, 8).width_px == 120
        assert refusal(sof(10000, 10000)) == "too_many_pixels"
        assert len(heard) == 1
        warnings.warn("after", stacklevel=1)
        assert len(heard) == 2


def test_pillow_is_left_as_it_was() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    together = threading.Barrier(4)

    def work(_: int) -> DecodedImage:
        together.wait(10)
        for _ in range(20):
            image = decode(ODD_JPEG, 8)
        return image

    with ThreadPoolExecutor(4) as pool:
        assert all(image.width_px == 120 for image in pool.map(work, range(4)))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


# -- Thumbnails


@pytest.mark.parametrize(
    ("width", "height", "side", "fraction"),
    [
        (400, 300, 76, 1),  # 150 px would be left, under twice 76
        (400, 300, 75, 2),
        (401, 301, 75, 2),
        (1200, 900, 112, 4),
        (1200, 900, 56, 8),
        (4000, 200, 10, 8),
    ],
)
@pytest.mark.parametrize("turn", [1, 6])
def test_inexact_decoding_is_the_resize_of_what_libjpeg_makes_smaller(
    width: int, height: int, side: int, fraction: int, turn: int
) -> None:
    photo = PHOTO.resize((width, height), Image.Resampling.BICUBIC)
    content = saved(photo, "JPEG", exif=exif(bytes([turn, 0, 0, 0]))) if turn > 1 else saved(photo, "JPEG")
    image = decode(content, side, DecodeOptions(exact=False))
    with Image.open(io.BytesIO(content)) as small:
        small.draft(None, (width // fraction, height // fraction))
        small.load()
        assert small.size == (-(-width // fraction), -(-height // fraction))
        shown = small.transpose(Image.Transpose.ROTATE_270) if turn == 6 else small
        expected = np.asarray(shown.resize((side, side), Image.Resampling.BILINEAR))
    assert np.abs(image.pixels.astype(int) - expected).max() <= 1
    assert (image.width_px, image.height_px) == ((height, width) if turn == 6 else (width, height))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_inexact_decoding_scales_jpegs_alone(kind: str) -> None:
    content = saved(PHOTO.resize((400, 300)), kind)
    exact = pixels(content, 20).astype(int)
    assert np.abs(pixels(content, 20, exact=False) - exact).max() <= 1


def test_inexact_decoding_refuses_what_exact_decoding_refuses() -> None:
    large = saved(PHOTO.resize((400, 300)), "JPEG")
    assert refusal(large[:3000], exact=False) == "truncated"
    assert refusal(large, max_pixels=100_000) == "too_many_pixels"
    assert refusal(large, exact=False, max_pixels=29_999) == "too_many_pixels"
    assert pixels(large[:3000], exact=False, accept_truncated=True).shape == (8, 8, 3)


def test_thumbnail() -> None:
    with Image.open(io.BytesIO(thumbnail(saved(PHOTO, "PNG"), 40))) as small:
        assert (small.format, small.size) == ("WEBP", (40, 30))
        expected = np.asarray(PHOTO.resize((40, 30), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(np.asarray(small.convert("RGB")) - expected).mean() < 12
    turned = PLAIN_JPEG[:2] + jpeg_segment(0xE1, exif(b"\6\0\0\0")) + PLAIN_JPEG[2:]
    with Image.open(io.BytesIO(thumbnail(turned, 400))) as small:
        assert small.size == (90, 120)  # turned, not enlarged
        assert "exif" not in small.info
    with pytest.raises(DecodeError, match="not_an_image"):
        thumbnail(b"nothing", 40)


# -- Whatever the bytes


def outcome(content: bytes, **options: Any) -> None:
    try:
        image = decode(content, 5, DecodeOptions(max_pixels=200_000, **options))
        assert image.pixels.shape == (5, 5, 3)
        assert image.pixels.dtype == np.uint8
    except DecodeError as error:
        assert error.stage == "decode"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


anything = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
HEADS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x99\0\0\0WEBPVP8", b"II*\0", b"MM\0+", b"BM",
         b"\0\0\0\x1cftypavif", b"BM\x99\0\0\0\0\0\0\0", b"\0\0\0\x18ftypheic"]  # fmt: skip
SMALL = [saved(PHOTO.resize((9, 7)).convert(mode), kind)
         for kind, modes in {"JPEG": ["RGB", "L", "CMYK"], "PNG": ["RGB", "P", "LA", "I;16", "1"], "GIF": ["P"],
                             "WEBP": ["RGB", "RGBA"], "TIFF": ["RGB", "LAB", "F", "CMYK", "I;16"], "BMP": ["RGB", "P"],
                             "AVIF": ["RGBA"]}.items() for mode in modes]  # fmt: skip


@anything
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_random_bytes_are_a_picture_or_a_reject(head: bytes, body: bytes) -> None:
    outcome(head + body)


@anything
@given(st.sampled_from(SMALL), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 7)), min_size=1, max_size=6))
def test_flipped_bits_are_a_picture_or_a_reject(content: bytes, flips: list[tuple[float, int]]) -> None:
    damaged = bytearray(content)
    for where, bit in flips:
        damaged[int(where * len(damaged))] ^= 1 << bit
    outcome(bytes(damaged))


@anything
@given(st.sampled_from(SMALL), st.floats(0, 1), st.booleans())
def test_cut_files_are_a_picture_or_a_reject(content: bytes, where: float, accept: bool) -> None:
    outcome(content[: int(where * len(content))], accept_truncated=accept)


# -- The awkward files

HOSTILE = ("crash-", "oom-", "timeout-", "ossfuzz-", "decompression", "giant", "avif_17000", "png_65536", "png_decomp")


@pytest.fixture(scope="module")
def awkward() -> dict[str, dict[str, Any]]:
    """What became of each file: the tame ones in one process, each hostile one in its own, all with limits."""
    if not AWKWARD.is_dir():
        pytest.skip(f"the awkward pictures ({AWKWARD}) are not on this machine")
    files = sorted(AWKWARD.iterdir())
    hostile = [file for file in files if file.name.startswith(HOSTILE)]
    tame = [file for file in files if file not in hostile]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda group: decode_apart(*group), [tame, *([file] for file in hostile)]))
    found = {answer["path"].rsplit("/", 1)[-1]: answer for group in answers for answer in group}
    return {file.name: found.get(file.name, {"outcome": "died or hung"}) for file in files}


@pytest.mark.parametrize("name", EXPECTED)
def test_awkward_file(awkward: dict[str, dict[str, Any]], name: str) -> None:
    if name not in awkward:
        pytest.skip(f"{name} is not in {AWKWARD}")
    assert awkward[name]["outcome"] == EXPECTED[name]


def test_awkward_files_stay_within_their_limits(awkward: dict[str, dict[str, Any]]) -> None:
    assert {name for name, answer in awkward.items() if answer["outcome"] == "died or hung"} == set()
    assert {name: answer["seconds"] for name, answer in awkward.items() if answer["seconds"] > 2} == {}
    assert {name: answer["peak_kib"] for name, answer in awkward.items() if answer["peak_kib"] > 2**20} == {}
    assert {tuple(awkward[f"orientation_landscape_{n}.jpg"]["size"]) for n in (1, 3, 5, 7)} == {(600, 450)}


@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the awkward pictures are not on this machine")
def test_turned_photographs_look_alike() -> None:
    first, *others = (
        decode((AWKWARD / f"orientation_landscape_{n}.jpg").read_bytes(), 64).pixels.astype(int) for n in (1, 3, 5, 7)
    )
    # 1 was exported darker than the rest; each has its own number written across the middle
    assert all(np.abs(other - others[0]).mean() < 4 for other in others)
    assert np.corrcoef(first.ravel(), others[0].ravel())[0, 1] > 0.9
    turned, plain = (
        decode((AWKWARD / name).read_bytes(), 64).pixels for name in ("orientation_webp_6.webp", "lossy.webp")
    )
    assert np.abs(turned.astype(int) - plain).mean() < 4
