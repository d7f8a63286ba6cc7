"""The limit on what is decoded: large pictures that pass, and bombs that do not, each within its memory and time.

Files of hundreds of megapixels are put together from one strip, so that making them takes no time and no memory.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirabelle.decode import DecodeOptions, decode
from mirabelle.decode.headers import jpeg_frame
from mirabelle.decode.limits import check_cost
from mirabelle.decode.opening import open_image
from mirabelle.errors import DecodeError
from unit.decode.decode_cases import decode_apart, exif, jpeg_segment, png, saved, tiff

PHOTO = Image.fromarray(np.random.default_rng(9).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((120, 90))
GIB_IN_KIB = 2**20
# Of a core: twice what is promised, for a core that others are at work on is slower.
MOST_SECONDS = 4.0


def strips(width: int, rows: int, **options: Any) -> bytes:
    """A sequential JPEG of so many rows of blocks, which are alike; a block is 16 pixels, 8 with subsampling=0."""
    block = 8 if options.get("subsampling") == 0 else 16
    one = saved(PHOTO.resize((width, block)), "JPEG", restart_marker_rows=1, **options)
    at = one.index(b"\xff\xda")
    start = at + 2 + int.from_bytes(one[at + 2 : at + 4])
    data = one[start:-2]
    scan = b"".join(data + bytes((0xFF, 0xD0 + i % 8)) for i in range(rows - 1)) + data
    return resized(one[:start], width, block * rows, from_height=block) + scan + b"\xff\xd9"


def resized(content: bytes, width: int, height: int, from_height: int = 90, from_width: int = 0) -> bytes:
    """A JPEG whose frame header says another size."""
    said = struct.pack(">BHH", 8, from_height, from_width or width)
    assert content.count(said) == 1
    return content.replace(said, struct.pack(">BHH", 8, height, width))


def bomb(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG that says it is large."""
    return resized(saved(PHOTO, "JPEG", **options), width, height, from_width=120)


def turned(content: bytes) -> bytes:
    return content[:2] + jpeg_segment(0xE1, exif(b"\6\0\0\0")) + content[2:]


def code_of(content: bytes, **options: Any) -> str:
    with pytest.raises(DecodeError) as raised:
        decode(content, 224, DecodeOptions(**options))
    return str(raised.value.code)


# -- What passes


def flat_gif(side: int) -> bytes:
    return saved(Image.new("P", (side, side), 7), "GIF")


LARGEST: dict[str, tuple[Callable[[], bytes], bool, tuple[int, int]]] = {
    "a phone's 48 megapixels": (lambda: strips(8064, 378), False, (8064, 6048)),
    "the same exactly, turned": (lambda: turned(strips(8064, 378)), True, (6048, 8064)),
    "200 megapixels": (lambda: strips(16_000, 781), False, (16_000, 12_496)),
    "200 megapixels, all colours": (lambda: strips(16_000, 1562, subsampling=0), False, (16_000, 12_496)),
    "a panorama": (lambda: strips(40_000, 187), False, (40_000, 2992)),
    "coefficients of 132 megapixels": (lambda: bomb(12_000, 11_000, progressive=True), False, (12_000, 11_000)),
    "coefficients of 50 exactly": (lambda: bomb(7000, 7000, progressive=True, subsampling=0), True, (7000, 7000)),
    "png": (lambda: png(5000, 5000, 8, 6, bytes(5000 * 5000 * 4)), True, (5000, 5000)),
    "tiff": (lambda: tiff([zlib.compress(bytes(75_000_000))], 5000, 5000, 8, samples=3, compression=8), True,
             (5000, 5000)),
    "gif": (lambda: flat_gif(5000), True, (5000, 5000)),
    "lossless webp": (lambda: saved(Image.new("RGBA", (5000, 5000), (1, 2, 3, 4)), "WEBP", lossless=True, method=0),
                      True, (5000, 5000)),
    "jp2": (lambda: saved(Image.new("RGB", (5000, 5000), (1, 2, 3)), "JPEG2000"), True, (5000, 5000)),
    "tga": (lambda: saved(Image.new("RGBA", (5000, 5000), (1, 2, 3, 4)), "TGA", compression="tga_rle"), True,
            (5000, 5000)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_that_pass_keep_within_time_and_memory(name: str, tmp_path: Path) -> None:
    make, exact, size = LARGEST[name]
    (tmp_path / "picture").write_bytes(make())
    formats = (*DecodeOptions().formats, "jpeg2000", "tga")
    (answer,) = decode_apart(tmp_path / "picture", timeout_seconds=60, exact=exact, formats=formats)
    assert (answer["outcome"], answer["size"]) == ("picture", [*size])
    assert answer["peak_kib"] < GIB_IN_KIB
    assert answer["core_seconds"] < MOST_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("size", [(20_000_000, 1), (1, 20_000_000), (10_000_000, 2)], ids=str)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "inexact"])
def test_threads_of_pictures_are_not_widened(size: tuple[int, int], exact: bool, tmp_path: Path) -> None:
    width, height = size
    (tmp_path / "thread").write_bytes(tiff([zlib.compress(bytes(width * height))], width, height, 8, compression=8))
    (answer,) = decode_apart(tmp_path / "thread", exact=exact)
    assert (answer["outcome"], answer["size"]) == ("picture", [width, height])
    assert answer["peak_kib"] < GIB_IN_KIB
    assert answer["core_seconds"] < MOST_SECONDS


def test_a_strip_is_what_a_whole_jpeg_is() -> None:
    content = strips(512, 20)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(content, 64).pixels, expected)


# -- What does not


M = DecodeOptions().max_pixels


@pytest.mark.parametrize(
    ("width", "height", "way", "exact", "passes"),
    [
        pytest.param(12_500, 16_000, {}, False, True, id="200 megapixels at a fraction"),
        pytest.param(12_501, 16_000, {}, False, False, id="more than that"),
        pytest.param(5000, 10_000, {}, True, True, id="50 megapixels whole"),
        pytest.param(5001, 10_000, {}, True, False, id="more than that whole"),
        pytest.param(50_000, 1100, {}, False, True, id="half of it is decoded"),
        pytest.param(60_000, 850, {}, False, False, id="too low for a fraction"),
        pytest.param(14_000, 14_000, {"progressive": True}, False, False, id="coefficients of 196 megapixels"),
        pytest.param(8200, 8200, {"progressive": True, "subsampling": 0}, False, False, id="of three whole colours"),
        pytest.param(8100, 8100, {"progressive": True, "subsampling": 0}, False, True, id="of a little less"),
    ],
)
def test_where_the_limit_lies(width: int, height: int, way: dict[str, Any], exact: bool, passes: bool) -> None:
    content = bomb(width, height, **way)
    image = open_image("JPEG", content)
    if not exact:
        image.draft(None, (448, 448))
    if passes:
        check_cost(image, content, M, (width, height))
    else:
        with pytest.raises(DecodeError, match="too_many_pixels"):
            check_cost(image, content, M, (width, height))


def test_a_lower_limit_is_the_same_for_all() -> None:
    content = strips(1600, 75)  # 1,600 x 1,200
    for exact, most in ((True, 1_920_000), (False, 480_000)):  # at a fraction, 800 x 600 come out
        assert decode(content, 224, DecodeOptions(exact=exact, max_pixels=most)).width_px == 1600
        assert code_of(content, exact=exact, max_pixels=most - 1) == "too_many_pixels"
    whole = saved(PHOTO, "PNG")
    assert decode(whole, 8, DecodeOptions(max_pixels=10_800)).width_px == 120
    assert code_of(whole, max_pixels=10_799) == "too_many_pixels"


def test_bytes_are_no_reason_to_refuse_a_small_picture_under_a_low_limit() -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    for content in (saved(noise, "JPEG", quality=95, progressive=True), saved(noise, "JPEG2000")):
        assert len(content) > 10_000
        found = decode(content, 8, DecodeOptions(max_pixels=10_800, formats=("jpeg", "jpeg2000")))
        assert found.width_px == 120


def test_the_refusal_of_a_whole_jpeg_names_the_way_out() -> None:
    with pytest.raises(DecodeError, match=r"decoded whole; decode\.exact: never makes do with a fraction"):
        decode(bomb(5001, 10_000), 224)


def many_scans() -> bytes:
    content = bomb(9000, 9000, progressive=True)
    last = content.rindex(b"\xff\xc4")
    return content[:-2] + content[last:-2] * 60 + content[-2:]


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(5001, 5000, 8, 6, bytes(5001 * 5000 * 4)),
    "gif": lambda: flat_gif(5001),
    "tiff": lambda: tiff([zlib.compress(bytes(10**8))], 10_000, 10_000, 8, compression=8),
    "webp": lambda: saved(Image.new("RGB", (5001, 5000)), "WEBP", lossless=True, method=0),
    "jpeg": lambda: bomb(60_000, 60_000),
    "progressive jpeg": lambda: bomb(14_000, 14_000, progressive=True),
    "progressive jpeg of empty scans": many_scans,
    "jp2": lambda: saved(Image.new("L", (5001, 5000)), "JPEG2000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "inexact"])
def test_bombs_end_as_rejects_within_time_and_memory(exact: bool, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in BOMBS]
    for path in paths:
        path.write_bytes(BOMBS[path.name]())
    answers = decode_apart(*paths, exact=exact, formats=(*DecodeOptions().formats, "jpeg2000"))
    found = {Path(answer["path"]).name: answer["outcome"] for answer in answers}
    assert found == dict.fromkeys(BOMBS, "too_many_pixels")
    assert max(answer["core_seconds"] for answer in answers) < MOST_SECONDS
    assert max(answer["peak_kib"] for answer in answers) < GIB_IN_KIB


@pytest.mark.parametrize(
    ("way", "is_held", "samples"),
    [
        ({}, False, 1.5),
        ({"subsampling": 0}, False, 3),
        ({"subsampling": 1}, False, 2),
        ({"progressive": True}, True, 1.5),
        ({"progressive": True, "subsampling": 0}, True, 3),
    ],
)
def test_what_a_jpeg_holds_is_in_its_headers(way: dict[str, Any], is_held: bool, samples: float) -> None:
    content = saved(PHOTO, "JPEG", **way)
    # A thumbnail with scans of its own, and a second picture behind, count for nothing.
    inner = saved(PHOTO, "JPEG", progressive=True)
    content = content[:2] + jpeg_segment(0xE1, b"Exif\0\0" + inner) + content[2:] + inner
    assert (jpeg_frame(content).is_held_whole, jpeg_frame(content).samples) == (is_held, samples)


def test_grey_and_cmyk_jpegs_hold_what_they_have() -> None:
    for mode, samples in (("L", 1), ("CMYK", 4)):
        assert jpeg_frame(saved(PHOTO.convert(mode), "JPEG", progressive=True)).samples == samples
    scans = saved(PHOTO, "JPEG", progressive=True).replace(b"\xff\xc2", b"\xff\xc0", 1)
    assert not jpeg_frame(scans[:2]).is_held_whole
    # The first scan of a progressive one has all colours, so it is made to say that it has but one.
    at = scans.index(b"\xff\xda") + 4
    assert jpeg_frame(scans[:at] + b"\1" + scans[at + 1 :]).is_held_whole
