"""Views of a picture: where its pixels go, and what is seen beyond its edge."""

import numpy as np
import pytest

from mirabelle.config.finetuning import Augment
from mirabelle.finetune import augmented

NOTHING = {"rotation_degrees": 0, "width_shift": 0, "height_shift": 0, "shear": 0, "zoom": 0, "flip": "none"}
GROUND = (9, 8, 7)


def wanted(**more: object) -> Augment:
    return Augment.model_validate({**NOTHING, **more})


def picture(side: int = 32) -> np.ndarray:
    """Smooth, so that resampling changes little, and alike nowhere."""
    along = np.linspace(20, 230, side)
    return np.stack(np.broadcast_arrays(along[None, :], along[:, None], 128), axis=-1).astype(np.uint8)


class Says:
    """Eight numbers, as a generator would draw them."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    def uniform(self, *_: object) -> tuple[float, ...]:
        return self.numbers


def view(settings: Augment, *numbers: float, side: int = 32) -> np.ndarray:
    return augmented(picture(side), settings, Says(*numbers), GROUND)  # type: ignore[arg-type]


def test_what_may_not_change_does_not() -> None:
    drawn = augmented(picture(), wanted(), np.random.default_rng(3), GROUND)
    np.testing.assert_array_equal(drawn, picture())


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 1), ("vertical", 0)])
def test_a_mirrored_picture_is_the_mirrored_picture(flip: str, axis: int) -> None:
    numbers = (0, 0, 0, 0, 0, 0, 1, 1)
    np.testing.assert_array_equal(view(wanted(flip=flip), *numbers), np.flip(picture(), axis))
    np.testing.assert_array_equal(view(wanted(flip="both"), *numbers), picture()[::-1, ::-1])
    np.testing.assert_array_equal(view(wanted(flip=flip), 0, 0, 0, 0, 0, 0, -1, -1), picture())


def test_a_quarter_turn_is_numpys() -> None:
    turned = view(wanted(rotation_degrees=90), 1, 0, 0, 0, 0, 0, -1, -1)
    either = [np.abs(turned.astype(int) - np.rot90(picture(), times)).max() for times in (1, 3)]
    assert min(either) <= 1


def test_a_shift_moves_and_shows_the_last_pixels_beyond_the_edge() -> None:
    moved = view(wanted(width_shift=0.25), 0, 1, 0, 0, 0, 0, -1, -1)
    expected = np.concatenate([picture()[:, 8:], np.repeat(picture()[:, -1:], 8, axis=1)], axis=1)
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize(
    ("fill", "beyond"), [("nearest", picture()[5, -1]), ("reflect", picture()[5, -2]), ("constant", GROUND)]
)
def test_what_is_beyond_the_edge(fill: str, beyond: np.ndarray) -> None:
    moved = view(wanted(width_shift=0.25, fill=fill), 0, 1, 0, 0, 0, 0, -1, -1)
    np.testing.assert_array_equal(moved[5, 24], beyond)


def test_zooming_keeps_the_middle() -> None:
    for much in (1, -1):
        zoomed = view(wanted(zoom=0.5), 0, 0, 0, 0, much, much, -1, -1).astype(int)
        assert np.abs(zoomed[15:17, 15:17] - picture()[15:17, 15:17].astype(int)).max() <= 4
        spread = zoomed[:, 24, 0].mean() - zoomed[:, 8, 0].mean()
        assert (spread > 107) == (much > 0)


@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("side", [1, 2, 33])
def test_the_furthest_corners_of_any_view_are_there(fill: str, side: int) -> None:
    """With all that is allowed, a white picture has nothing else in it, but the ground where that is wanted."""
    settings = Augment(rotation_degrees=180, width_shift=0.9, height_shift=0.9, shear=0.9, zoom=0.9, fill=fill)  # type: ignore[arg-type]
    white = np.full((side, side, 3), 255, np.uint8)
    for seed in range(200 if side > 2 else 20):
        drawn = augmented(white, settings, np.random.default_rng(seed), (255, 255, 255))
        assert drawn.shape == white.shape
        assert drawn.dtype == np.uint8
        if fill != "reflect":
            assert drawn.min() == 255


def test_naming_a_key_turns_it_on() -> None:
    assert not Augment().enabled
    assert Augment.model_validate({"zoom": 0.1}).enabled
    assert not Augment.model_validate({"enabled": False, "zoom": 0.1}).enabled
