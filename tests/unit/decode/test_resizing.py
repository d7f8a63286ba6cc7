import numpy as np
import pytest
from PIL import Image

from mirabelle.decode import resizing
from mirabelle.decode.resizing import stretch

needs_simd = pytest.mark.skipif(resizing.simd is None, reason="there is no wheel of cykooz-resizer for this machine")
SIZES = [(1, 1), (1, 9000), (9000, 1), (3, 500), (100, 100), (223, 225), (225, 223), (448, 448), (1600, 1000)]


def picture(width: int, height: int, levels: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, levels, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values * np.uint8(255 // (levels - 1)))


@needs_simd
@pytest.mark.parametrize("levels", [2, 256], ids=["black and white", "noise"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_faster_resize_is_never_off_by_more_than_one_level(size: tuple[int, int], levels: int) -> None:
    given = picture(*size, levels)
    exact, fast = (stretch(given, 224, exact) for exact in (True, False))
    np.testing.assert_array_equal(exact, given.resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(fast.astype(int) - exact).max() <= 1
    assert (fast.dtype, fast.shape, fast.flags.c_contiguous) == (np.uint8, (224, 224, 3), True)


@needs_simd
@pytest.mark.parametrize("size", [(100, 100), (700, 500)], ids=str)
def test_it_gives_the_same_bits_without_the_instructions_of_this_machine(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Portable(resizing.simd.Resizer):
        def __init__(self) -> None:
            super().__init__()
            self.cpu_extensions = resizing.simd.CpuExtensions.none

    fast = stretch(picture(*size, 256), 224, exact=False)
    monkeypatch.setattr(resizing.simd, "Resizer", Portable)
    np.testing.assert_array_equal(stretch(picture(*size, 256), 224, exact=False), fast)


def test_pillow_resizes_where_there_is_no_such_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "simd", None)
    given = picture(100, 80, 256)
    np.testing.assert_array_equal(stretch(given, 224, exact=False), stretch(given, 224, exact=True))


@pytest.mark.parametrize("exact", [True, False])
def test_a_picture_of_the_right_size_is_left_as_it_is(exact: bool) -> None:
    given = picture(224, 224, 256)
    np.testing.assert_array_equal(stretch(given, 224, exact), np.asarray(given))
