"""The drawn sample set: what a demo and the other tests may rely on. Small sets, but for one at full size."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import render_fruits

pytestmark = pytest.mark.slow

KINDS = ("Apple Red", "Banana", "Blueberry", "Cherry Dark", "Lemon", "Lime", "Orange", "Peach", "Pear", "Strawberry")


def _draw(out: Path, *options: str) -> int:
    return int(render_fruits.main([str(out), *options]))


def _files(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob("*.jpg"))


def _good(out: Path, split: str = "*", kind: str = "*") -> list[Path]:
    found = [path for path in out.glob(f"{split}/{kind}/*.jpg") if not path.name.startswith("broken-")]
    return sorted(found, key=lambda path: (path.parent, int(path.name.split("_")[0])))


def _pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(path) as image:
        return np.asarray(image, np.float64)


def _difference(first: Path, second: Path) -> float:
    return float(np.abs(_pixels(first) - _pixels(second)).mean())


@pytest.fixture(scope="module")
def fruits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten kinds, twelve training and four test views of each, five broken files."""
    out = tmp_path_factory.mktemp("fruits")
    assert _draw(out, "--views", "12", "--test-views", "4", "--kinds", ",".join(KINDS)) == 0
    return out


def test_layout_and_counts(fruits: Path) -> None:
    for split, count in (("Training", 12), ("Test", 4)):
        assert sorted(folder.name for folder in (fruits / split).iterdir()) == list(KINDS)
        assert all(len(_good(fruits, split, kind)) == count for kind in KINDS)
    assert len(_files(fruits)) == 10 * 16 + 5


def test_the_default_is_a_dozen_kinds_of_54_views() -> None:
    out, settings = render_fruits.parse(["x"])
    views = [view for kind in settings.kinds for view in render_fruits.plan_views(kind, settings)]
    assert out == Path("x")
    assert len(settings.kinds) == 12
    assert sum(view.path.startswith("Training/") for view in views) == 480
    assert sum(view.path.startswith("Test/") for view in views) == 168
    assert len({view.path for view in views}) == 648
    assert len(render_fruits.plan_broken(settings)) == 5


def test_pictures_are_rgb_jpegs_of_the_size_on_white(fruits: Path) -> None:
    for path in _good(fruits):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (100, 100))
        pixels = _pixels(path)
        corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.min() > 245, path
        drawn = (pixels.min(axis=2) < 225).mean()
        assert 0.03 < drawn < 0.9, path  # a banana seen from its end is small


def test_the_fruit_stays_inside_the_frame(fruits: Path) -> None:
    for path in _good(fruits):
        pixels = _pixels(path)
        frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert frame.min() > 200, path


@pytest.mark.parametrize("size", ["32", "48"])
def test_another_size(tmp_path: Path, size: str) -> None:
    assert _draw(tmp_path, "--size", size, "--views", "2", "--test-views", "1", "--kinds", "Pear") == 0
    assert {_pixels(path).shape for path in _good(tmp_path)} == {(int(size), int(size), 3)}
    assert all(path.stem.endswith(f"_{size}") for path in _files(tmp_path))


def test_no_two_files_are_equal(fruits: Path) -> None:
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in _files(fruits)]
    assert len(set(digests)) == len(digests)


def test_equal_options_give_equal_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    options = ["--views", "3", "--test-views", "2", "--kinds", "Grape White,Pineapple Mini"]
    for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        assert _draw(tmp_path / name, *options, "--seed", seed) == 0
    a, b, c = ({p.relative_to(tmp_path / n): p.read_bytes() for p in _files(tmp_path / n)} for n in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[path] != c[path] for path in a if not path.name.startswith("broken-"))


def test_test_views_lie_between_training_views() -> None:
    for views, test_views in ((40, 14), (12, 4), (3, 5), (5, 5), (7, 1), (1, 3), (4, 0)):
        settings = render_fruits.Settings(views=views, test_views=test_views, kinds=("Lemon",))
        planned = render_fruits.plan_views("Lemon", settings)
        turns = [view.turn_degrees for view in planned]
        assert turns == sorted(set(turns)), (views, test_views)
        assert turns[0] >= 0 and turns[-1] < 360
        splits = [view.path.split("/")[0] for view in planned]
        assert (splits.count("Training"), splits.count("Test")) == (views, test_views)
        if test_views <= views:
            assert ("Test", "Test") not in itertools.pairwise(splits)


def test_turning_changes_the_picture_less_than_another_kind_does(fruits: Path) -> None:
    kinds = [_good(fruits, "Training", kind) for kind in KINDS]
    turned = [_difference(a, b) for views in kinds for a, b in itertools.pairwise(views)]
    across = [
        _difference(a, b) for one, other in itertools.combinations(kinds, 2) for a, b in zip(one, other, strict=True)
    ]
    assert min(turned) > 1.0  # more than the grain, which is about 1 on the fruit and 0 elsewhere
    assert np.mean(turned) < 0.6 * np.mean(across)
    for views in kinds:
        own = np.mean([_difference(a, b) for a, b in itertools.pairwise(views)])
        others = min(
            np.mean([_difference(a, b) for a, b in zip(views, other, strict=True)])
            for other in kinds
            if other is not views
        )
        assert own < others, views[0].parent.name


def test_a_training_neighbour_is_the_nearest_kind_for_most_test_views(fruits: Path) -> None:
    train = _good(fruits, "Training")
    gallery = np.stack([_pixels(path) for path in train])
    right = [
        train[int(np.abs(gallery - _pixels(path)).mean(axis=(1, 2, 3)).argmin())].parent.name == path.parent.name
        for path in _good(fruits, "Test")
    ]
    assert np.mean(right) > 0.9


def test_broken_files_cannot_be_decoded(fruits: Path) -> None:
    broken = [path for path in _files(fruits) if path.name.startswith("broken-")]
    assert len(broken) == 5
    assert {path.parent.parent.name for path in broken} == {"Training"}
    assert len({path.parent for path in broken}) == 5
    for path in broken:
        with pytest.raises((OSError, SyntaxError)):
            Image.open(io.BytesIO(path.read_bytes())).load()


@pytest.mark.parametrize("count", [0, 1, 13])
def test_as_many_broken_files_as_asked(tmp_path: Path, count: int) -> None:
    options = ["--size", "24", "--views", "1", "--test-views", "0", "--kinds", "Lemon,Lime"]
    assert _draw(tmp_path, *options, "--broken", str(count)) == 0
    assert len(_files(tmp_path)) == 2 + count


def test_a_finished_set_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--size", "24", "--views", "2", "--test-views", "1", "--kinds", "Lemon,Pear"]
    assert _draw(tmp_path, *options) == 0
    assert "drew 6 pictures" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert _draw(tmp_path, *options) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_damaged_set_is_mended(tmp_path: Path) -> None:
    options = ["--size", "24", "--views", "2", "--test-views", "1", "--kinds", "Pear"]
    assert _draw(tmp_path, *options) == 0
    whole = {path: path.read_bytes() for path in _files(tmp_path)}
    lost, cut, *_ = _good(tmp_path)
    lost.unlink()
    cut.write_bytes(b"short")
    assert _draw(tmp_path, *options) == 0
    assert {path: path.read_bytes() for path in _files(tmp_path)} == whole


def test_other_options_replace_the_old_set(tmp_path: Path) -> None:
    small = ["--size", "24", "--test-views", "1", "--broken", "0"]
    assert _draw(tmp_path, *small, "--views", "3", "--kinds", "Lemon,Pear") == 0
    assert _draw(tmp_path, *small, "--views", "2", "--kinds", "Pear") == 0
    assert [folder.name for folder in (tmp_path / "Training").iterdir()] == ["Pear"]
    assert len(_files(tmp_path)) == 3
    assert len(json.loads((tmp_path / ".rendered.json").read_text())["files"]) == 3


def test_strangers_pictures_are_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "Training" / "Pear" / "holiday.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert _draw(tmp_path, "--views", "1", "--kinds", "Pear") == 2
    assert "holiday.jpg" in capsys.readouterr().err
    assert _files(tmp_path) == [mine]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--views", "0"], "--views"),
        (["--test-views", "-1"], "--test-views"),
        (["--size", "4"], "--size"),
        (["--seed", "-3"], "--seed"),
        (["--broken", "-1"], "--broken"),
        (["--kinds", "Lemon,Durian"], "Durian"),
        (["--kinds", "Lemon,Lemon"], "each once"),
        (["--kinds", " , "], "--kinds"),
    ],
)
def test_options_without_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], word: str
) -> None:
    assert _draw(tmp_path / "out", *options) == 2
    told = capsys.readouterr().err
    assert word in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert _draw(tmp_path / "file", "--views", "1", "--kinds", "Lemon") == 2
    told = capsys.readouterr().err
    assert "can't write" in told and told.count("\n") == 1
