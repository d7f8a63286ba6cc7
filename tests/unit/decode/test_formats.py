"""Formats beside the usual ones: known by content, switched on and off by name, limited like the others."""

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mirabelle.config.models import Format
from mirabelle.decode import DecodedImage, DecodeOptions, decode, thumbnail
from mirabelle.decode.formats import FORMATS, USUAL, format_of
from mirabelle.errors import DecodeError
from unit.decode.decode_cases import AWKWARD, png, png_chunk, saved

RNG = np.random.default_rng(4)
PHOTO = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
GREY = PHOTO.convert("L")
ALPHA = Image.fromarray(RNG.integers(0, 256, (90, 120, 4), dtype=np.uint8), "RGBA")
GROUND = (10, 200, 90)


def heif(image: Image.Image, **options: Any) -> bytes:
    """As an iPhone has it: the pixels as they lie on the sensor, and beside them how to turn them."""
    pillow_heif.register_heif_opener()
    try:
        return saved(image, "HEIF", **options)
    finally:
        Image.ID.remove("HEIF")
        del Image.OPEN["HEIF"]


def decoded(content: bytes, side: int = 90, **options: Any) -> DecodedImage:
    return decode(content, side, DecodeOptions(**{"formats": FORMATS, **options}))


def refusal(content: bytes, **options: Any) -> tuple[str, str]:
    with pytest.raises(DecodeError) as raised:
        decoded(content, 8, **options)
    assert len(raised.value.detail) <= 300
    return str(raised.value.code), raised.value.detail


def as_pillow_has(image: Image.Image, side: int = 90) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)).astype(int)


LOSSLESS: dict[str, tuple[bytes, Image.Image, str]] = {
    "jp2": (saved(PHOTO, "JPEG2000"), PHOTO, "JPEG2000"),
    "bare codestream": (saved(PHOTO, "JPEG2000", no_jp2=True), PHOTO, "JPEG2000"),
    "jp2 in tiles": (saved(PHOTO, "JPEG2000", tile_size=(32, 32)), PHOTO, "JPEG2000"),
    "grey jp2": (saved(GREY, "JPEG2000"), GREY, "JPEG2000"),
    "ppm": (saved(PHOTO, "PPM"), PHOTO, "PPM"),
    "pgm": (saved(GREY, "PPM"), GREY, "PPM"),
    "pbm": (saved(GREY.convert("1"), "PPM"), GREY.convert("1"), "PPM"),
    "ppm as text": (b"P3 # by hand\n2 1\n255\n250 0 7\n1 2 3\n", Image.new("RGB", (2, 1)), "PPM"),
    "tga": (saved(PHOTO, "TGA"), PHOTO, "TGA"),
    "tga, run-length encoded": (saved(PHOTO, "TGA", compression="tga_rle"), PHOTO, "TGA"),
    "tga with a palette": (saved(PHOTO.quantize(64), "TGA"), PHOTO.quantize(64), "TGA"),
    "grey tga": (saved(GREY, "TGA"), GREY, "TGA"),
    "lossless heic": (heif(GREY, quality=-1, chroma=444), GREY, "HEIF"),
}
LOSSLESS["ppm as text"][1].putdata([(250, 0, 7), (1, 2, 3)])


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_was_written_is_what_is_read(name: str) -> None:
    content, image, kind = LOSSLESS[name]
    found = decoded(content)
    assert (found.width_px, found.height_px) == image.size
    assert np.abs(found.pixels - as_pillow_has(image)).max() <= (1 if kind == "HEIF" else 0)
    assert format_of(content) == kind


def test_what_an_iphone_writes_is_among_the_usual() -> None:
    for way in ({"quality": 90}, {"quality": 90, "tile_size": 64}):
        content = heif(PHOTO, **way)
        found = decode(content, 90)
        assert (found.width_px, found.height_px) == (120, 90)
        assert np.abs(found.pixels - as_pillow_has(PHOTO)).mean() < 3
        with Image.open(io.BytesIO(thumbnail(content, 40))) as small:
            assert small.size == (40, 30)


def test_pillow_heif_is_left_as_it_was() -> None:
    before = dict(vars(pillow_heif.options))
    decode(heif(PHOTO), 8)
    assert vars(pillow_heif.options) == before
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heif_is_turned_once(orientation: int) -> None:
    blocks = np.array([[[250, 10, 10], [10, 250, 10], [10, 10, 250]], [[250, 250, 10], [10, 10, 10], [250, 250, 250]]])
    stored = Image.fromarray(blocks.repeat(32, axis=0).repeat(32, axis=1).astype(np.uint8))
    directory = Image.Exif()
    directory[274] = orientation
    jpeg = saved(stored, "JPEG", exif=directory, quality=95)
    turned = Image.open(io.BytesIO(jpeg))
    expected, found = decode(jpeg, 48), decode(heif(turned, quality=90), 48)
    assert (found.width_px, found.height_px) == (expected.width_px, expected.height_px)
    inner = np.ix_(*(np.arange(n) * 48 // n + 24 // n for n in (found.height_px // 32, found.width_px // 32)))
    assert np.abs(found.pixels[inner].astype(int) - expected.pixels[inner]).max() < 40


@pytest.mark.parametrize(
    "content",
    [saved(ALPHA, "TGA"), saved(ALPHA, "ICO", sizes=[(120, 90)]), saved(ALPHA, "JPEG2000"),
     saved(ALPHA, "ICO", sizes=[(120, 90)], bitmap_format="bmp")],
    ids=["tga", "ico", "jp2", "ico of a bitmap"],
)  # fmt: skip
def test_the_ground_shows_through_transparent_pixels(content: bytes) -> None:
    expected = Image.new("RGB", ALPHA.size, GROUND)
    expected.paste(ALPHA, mask=ALPHA)
    assert np.array_equal(decoded(content, ground=GROUND).pixels, as_pillow_has(expected))


def test_a_tga_whose_header_knows_no_transparency_has_none() -> None:
    content = bytearray(saved(ALPHA, "TGA"))
    assert content[17] & 15 == 8
    content[17] &= 0xF0
    assert np.array_equal(decoded(bytes(content), ground=GROUND).pixels, as_pillow_has(ALPHA.convert("RGBA")))


def test_deep_grey_keeps_its_scale_however_dark_it_is() -> None:
    values = (np.arange(64) * 3).reshape(8, 8)  # of 65,535: all but black
    expected = np.floor(values * 255 / 65535 + 0.5).astype(int)[..., None].repeat(3, -1)
    raw = b"P5\n8 8\n65535\n" + values.astype(">u2").tobytes()
    text = b"P2\n8 8\n65535\n" + " ".join(map(str, values.ravel())).encode()
    jp2 = saved(Image.fromarray(values.astype(np.uint16)), "JPEG2000")
    for content in (raw, text, jp2):
        assert np.array_equal(decoded(content, 8).pixels, expected)
    odd = b"P5\n8 8\n1023\n" + (values * 5).astype(">u2").tobytes()
    assert np.abs(decoded(odd, 8).pixels[..., 0] - values * 5 * 255 / 1023).max() < 1


# -- Icons


def test_the_largest_picture_of_an_icon() -> None:
    sizes = [(16, 16), (64, 64), (32, 32)]
    for way in ({}, {"bitmap_format": "bmp"}):
        found = decoded(saved(PHOTO.resize((64, 64)).convert("RGBA"), "ICO", sizes=sizes, **way), 64)
        assert (found.width_px, found.height_px) == (64, 64)
        assert np.array_equal(found.pixels, np.asarray(PHOTO.resize((64, 64))))


def icon(frame: bytes, size: int | None = None, count: int = 1) -> bytes:
    entry = struct.pack("<BBBBHHLL", 0, 0, 0, 0, 1, 32, len(frame) if size is None else size, 6 + 16 * count)
    return b"\0\0\1\0" + struct.pack("<H", count) + entry * count + frame


def bitmap(width: int, height: int, compression: int = 0) -> bytes:
    return struct.pack("<LllHHLLllLL", 40, width, height, 1, 32, compression, 0, 0, 0, 0, 0) + bytes(64)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (icon(png(30_000, 30_000, 1, 0, b"")), "too_many_pixels"),
        (icon(png(1, 1, 8, 0, b"\0", *[png_chunk(b"zTXt", b"\0\0" + bytes(1000))] * 300)), "corrupt"),
        (icon(bitmap(60_000, 120_000)), "corrupt"),
        (icon(bitmap(-8, 16)), "corrupt"),
        (icon(bitmap(8, 16, 1)), "corrupt"),  # run-length encoded, which icons are not
        (icon(bitmap(8, 16), 9999), "truncated"),
        (icon(bitmap(200, 400)), "truncated"),
        (icon(b"")[:20], "corrupt"),
    ],
    ids=["png of 900 megapixels", "png flooded with text", "bitmap too large", "negative", "run-length encoded",
         "larger than the file", "pixels missing", "no entry"],
)  # fmt: skip
def test_icons_that_are_none(content: bytes, code: str) -> None:
    assert refusal(content)[0] == code


# -- Known by content


def test_each_is_switched_off_by_leaving_it_out() -> None:
    for name, (content, _, kind) in LOSSLESS.items():
        rest = tuple(each for each in FORMATS if each != kind.lower())
        expected = ("format_not_allowed", f"{kind} is switched off; add {kind.lower()} to decode.formats")
        assert (name, refusal(content, formats=rest)) == (name, expected)
    assert refusal(saved(PHOTO, "PNG"), formats=("jpeg",))[1] == "PNG is switched off; add png to decode.formats"
    assert refusal(LOSSLESS["tga"][0], formats=USUAL)[0] == "format_not_allowed"


def test_the_configuration_names_all_there_are() -> None:
    assert get_args(Format) == FORMATS


V1 = saved(PHOTO, "TGA")  # Pillow writes a footer, which version 1 has not


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        pytest.param(V1, True, id="version 2"),
        pytest.param(V1[:-26], True, id="version 1"),
        pytest.param(V1[:-27], False, id="a byte short"),
        pytest.param(b"\1\1" + V1[2:-26], False, id="a palette where none can be"),
        pytest.param(V1[:2] + b"\5" + V1[3:-26], False, id="no such type"),
        pytest.param(V1[:5] + b"\1" + V1[6:-26], False, id="colours of no palette"),
        pytest.param(V1[:16] + b"\x0f" + V1[17:-26], False, id="15 bits"),
        pytest.param(V1[:17] + b"\xc0" + V1[18:-26], False, id="interleaved"),
        pytest.param(V1[:12] + bytes(2) + V1[14:-26], False, id="no width"),
        pytest.param(V1[:17], False, id="half a header"),
    ],
)
def test_a_tga_is_known_by_a_header_without_fault(content: bytes, is_one: bool) -> None:
    if is_one:
        assert np.array_equal(decoded(content).pixels, as_pillow_has(PHOTO))
    else:
        assert refusal(content)[0] == "not_an_image"


def test_a_footer_alone_does_not_make_a_tga() -> None:
    assert refusal(b"\0\0\2" + bytes(60) + b"TRUEVISION-XFILE.\0")[0] in ("corrupt", "truncated")


def test_no_usual_picture_is_taken_for_another() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        assert format_of(saved(PHOTO, kind)) == kind
    for name, (content, _, kind) in LOSSLESS.items():
        assert (name, format_of(content)) == (name, kind)


@pytest.mark.parametrize("name", ["test_card.jp2", "hopper.ppm", "gray16.pgm"])
def test_awkward_files_of_these_formats(name: str) -> None:
    if not (AWKWARD / name).is_file():
        pytest.skip(f"the awkward pictures ({AWKWARD}) are not on this machine")
    content = (AWKWARD / name).read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        assert (decoded(content).width_px, decoded(content).height_px) == image.size
        if name != "gray16.pgm":
            assert np.abs(decoded(content).pixels - as_pillow_has(image)).max() <= 1


# -- Files that end early, and such that cost too much


@pytest.mark.parametrize("name", ["jp2", "bare codestream", "jp2 in tiles", "ppm", "pgm", "lossless heic"])
def test_wherever_it_is_cut_it_is_truncated(name: str) -> None:
    content = LOSSLESS[name][0]
    for length in sorted({*range(20, 200, 7), *range(200, len(content) - 16, len(content) // 40)}):
        assert (name, length, refusal(content[:length])[0]) == (name, length, "truncated")


def test_what_is_left_of_a_jpeg_2000_that_was_cut() -> None:
    content = saved(PHOTO, "JPEG2000", tile_size=(32, 32))
    found = decoded(content[: len(content) * 2 // 3], accept_truncated=True).pixels
    assert np.abs(found - as_pillow_has(PHOTO))[:20].max() <= 1
    assert not np.array_equal(found, decoded(content).pixels)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_letters_in_the_data_are_no_size(kind: str) -> None:
    content = heif(PHOTO) if kind == "HEIF" else saved(PHOTO, "AVIF")
    chance = b"ispe" + bytes(4) + struct.pack(">LL", 60_000, 60_000)
    assert decoded(content + struct.pack(">L4s", 8 + len(chance), b"free") + chance).width_px == 120


def sized(width: int, height: int, content: bytes = LOSSLESS["jp2"][0]) -> bytes:
    """A JPEG 2000 whose headers have been told another size."""
    box, marker = content.index(b"ihdr") + 4, content.index(b"\xff\x4f\xff\x51") + 8
    changed = bytearray(content)
    struct.pack_into(">LL", changed, box, height, width)
    struct.pack_into(">LL", changed, marker, width, height)
    return bytes(changed)


def heif_sized(width: int, height: int) -> bytes:
    content = bytearray(heif(PHOTO))
    struct.pack_into(">LL", content, content.index(b"ispe") + 8, width, height)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (sized(60_000, 60_000), "too_many_pixels"),
        (LOSSLESS["jp2"][0].replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x52"), "corrupt"),
        (heif_sized(60_000, 60_000), "too_many_pixels"),
        (b"P6\n60000 60000\n255\n", "too_many_pixels"),
        (b"P3\n2000 2000\n255\n", "too_many_pixels"),
        (b"P5\n2000 2000\n1000\n", "too_many_pixels"),
        (V1[:12] + struct.pack("<HH", 60000, 60000) + V1[16:], "too_many_pixels"),
    ],
    ids=["jp2", "jp2 without a size", "heic", "ppm", "ppm as text", "pgm of an odd depth", "tga"],
)  # fmt: skip
def test_bombs_are_refused(content: bytes, code: str) -> None:
    assert refusal(content)[0] == code


def test_a_jpeg_2000_of_a_million_tiles_is_corrupt() -> None:
    content = bytearray(sized(4000, 4000))
    struct.pack_into(">LL", content, content.index(b"\xff\x4f\xff\x51") + 24, 4, 4)
    assert refusal(bytes(content)) == ("corrupt", "JPEG2000: of 3 components and 1,000,000 tiles, or empty")


def test_a_jpeg_2000_of_too_small_blocks_is_corrupt_wherever_they_are_told() -> None:
    content = sized(4000, 4000)
    coding = content.index(b"\xff\x52")
    segment = bytearray(content[coding : coding + 2 + int.from_bytes(content[coding + 2 : coding + 4])])
    segment[10:12] = bytes(2)  # exponents of the block's sides, of which 4 is the least
    tile = content.index(b"\xff\x90") + 12
    in_main_header = content[:coding] + segment + content[coding + len(segment) :]
    in_a_tile = content[:tile] + segment + content[tile:]
    for changed in (in_main_header, in_a_tile):
        code, detail = refusal(changed)
        assert (code, detail.endswith("blocks and packets")) == ("corrupt", True)
    layered = bytearray(content)
    layered[coding + 6 : coding + 8] = b"\xff\xff"
    assert refusal(bytes(layered))[1].endswith("blocks and packets")


def test_a_heif_that_is_larger_inside_than_its_header_says_is_refused() -> None:
    content = heif(Image.new("RGB", (1024, 1024)))
    at = content.index(b"ispe") + 8
    assert refusal(content[:at] + struct.pack(">LL", 64, 64) + content[at + 8 :])[0] == "corrupt"


def test_without_pillow_heif_a_heic_is_a_reject_that_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text("raise ImportError('not here', name='pillow_heif')")
    (tmp_path / "picture.heic").write_bytes(heif(PHOTO))
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from mirabelle.decode import decode
from mirabelle.errors import DecodeError
for _ in range(2):
    try:
        decode(open({str(tmp_path / "picture.heic")!r}, "rb").read(), 8)
    except DecodeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    sentence = "no_decoder: HEIF needs pillow_heif, which is not here; install mirabelle[heif] where workers run\n"
    assert done.stdout == sentence * 2
