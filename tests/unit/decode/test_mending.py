"""JPEGs without the two bytes that mark their end: whole for every viewer, unlike those that lack more."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from mirabelle.decode import DecodeOptions, decode, thumbnail
from mirabelle.errors import DecodeError
from unit.decode.decode_cases import saved

RNG = np.random.default_rng(1)
Y, X = np.mgrid[:90, :120]
PICTURES = {
    "smooth": np.stack([X * 2, Y * 2, (X + Y)], -1).clip(0, 255).astype(np.uint8),
    "noise": RNG.integers(0, 256, (90, 120, 3), np.uint8),
    "grey": RNG.integers(0, 256, (61, 47), np.uint8),
    "cmyk": RNG.integers(0, 256, (33, 47, 4), np.uint8),
}
WAYS = {
    "baseline": {},
    "full colour": {"subsampling": 0},
    "coarse": {"quality": 20},
    "own tables": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts by row": {"restart_marker_rows": 1},
    "restarts by block": {"restart_marker_blocks": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_blocks": 3},
}


def jpeg(picture: str, way: str) -> bytes:
    array = PICTURES[picture]
    return saved(Image.fromarray(array, "CMYK" if picture == "cmyk" else None), "JPEG", **WAYS[way])


def as_pillow_has_it(content: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))


def code_of(content: bytes) -> str:
    with pytest.raises(DecodeError) as raised:
        decode(content, 64)
    return str(raised.value.code)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("picture", PICTURES)
def test_without_its_end_it_is_the_same_picture(picture: str, way: str) -> None:
    content = jpeg(picture, way)
    assert content.endswith(b"\xff\xd9")
    expected = as_pillow_has_it(content)
    for cut in (content[:-2], content[:-1], content[:-2] + b"\xff\xff"):
        found = decode(cut, 64)
        assert np.array_equal(found.pixels, expected)
        assert (found.height_px, found.width_px) == PICTURES[picture].shape[:2]
        # What accepting truncated files gave before is what they still give.
        assert np.array_equal(decode(cut, 64, DecodeOptions(accept_truncated=True)).pixels, expected)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("picture", PICTURES)
def test_with_less_it_is_truncated_still(picture: str, way: str) -> None:
    content = jpeg(picture, way)
    expected = decode(content, 64).pixels
    cuts = sorted({*range(3, 80), *range(80, len(content) - 2, len(content) // 25)})
    for cut in cuts:
        short = content[:-cut]
        if cut < 6 and not short.endswith(b"\xff"):
            # The bits that are lost may be padding. Then it is the whole picture, or else a reject.
            try:
                assert np.array_equal(decode(short, 64).pixels, expected)
            except DecodeError as error:
                assert error.code == "truncated"
        else:
            assert (cut, code_of(short)) == (cut, "truncated")


def test_scans_that_are_missing_are_told_from_an_end_that_is() -> None:
    content = jpeg("smooth", "progressive")
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for at in scans[1:]:
        # The tables of the next scan stand before it.
        table = content.rfind(b"\xff\xc4", 0, at)
        for end in (at, table):
            assert code_of(content[:end]) == "truncated"


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\n", b"\xee"])
@pytest.mark.parametrize("way", WAYS)
def test_padding_does_not_make_a_whole_of_what_pillow_takes_for_truncated(way: str, padding: bytes) -> None:
    content = saved(Image.new("RGB", (400, 300), (200, 30, 30)), "JPEG", **WAYS[way])
    padded = content[: len(content) * 3 // 4] + padding * (50 if way == "own tables" else 1000)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(padded)).load()
    assert code_of(padded) == "truncated"


def test_smaller_decodes_and_thumbnails_take_it_too() -> None:
    content = saved(Image.fromarray(PICTURES["smooth"]).resize((1200, 900)), "JPEG")
    inexact = DecodeOptions(exact=False)
    assert np.array_equal(decode(content[:-2], 64, inexact).pixels, decode(content, 64, inexact).pixels)
    assert thumbnail(content[:-2], 64) == thumbnail(content, 64)


def test_an_end_within_a_thumbnail_is_not_the_pictures() -> None:
    content = jpeg("noise", "baseline")
    exif = b"Exif\0\0" + jpeg("grey", "baseline")
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + content[2:]
    assert np.array_equal(decode(content[:-2], 64).pixels, as_pillow_has_it(content))
    assert code_of(content[:-40]) == "truncated"
