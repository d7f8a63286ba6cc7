"""Lessons: which pictures are met when, what is kept, and that one which is cut short ends as one that is not."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mirabelle.config.finetuning import Finetune
from mirabelle.errors import ConfigError
from mirabelle.finetune import Epoch, Kept, Lesson, Rows, build, teach
from mirabelle.finetune.teaching import judged
from mirabelle.network.embedding import NORMALISATIONS
from mirabelle.storage import DiskStore

pytestmark = pytest.mark.slow

SIDE = 16
ADAM = {"optimizer": "Adam", "optimizer_params": {"learning_rate": 0.003}}


def lesson(folder: Path, many: int = 50, **more: Any) -> Lesson:
    """Pictures of two tints, every fifth set aside."""
    rows = Rows(str(folder), (SIDE, SIDE, 3), np.uint8)
    numbers = np.arange(many)
    classes = (numbers % 2).astype(np.int64)
    noise = np.random.default_rng(0).integers(0, 120, (many, SIDE, SIDE, 3))
    noise[..., 0] += 60 * classes[:, None, None]
    rows.write(0, noise.astype(np.uint8))
    aside = numbers % 5 == 0
    settings = Finetune.model_validate(
        {"input_px": SIDE, "hidden": [4], "batch_images": 8, "epochs": 4, **ADAM, **more}
    )
    parts = numbers[~aside], numbers[aside]
    return Lesson(settings, rows, classes, *parts, 2, NORMALISATIONS["tf"], (0, 0, 0))


def kept_at(folder: Path) -> Kept:
    return Kept(DiskStore(), str(folder / "kept"))


def network(of: Lesson, folder: Path) -> Any:
    return build(of.settings, 2, folder).model


def without_times(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0, waiting_seconds=0) for epoch in history]


# Which pictures are met when


def met(of: Lesson, epoch: int) -> list[int]:
    return [int(i) for step in range(of.steps) for i in of._chosen(epoch, step)[0]]


def test_a_round_meets_each_picture_once_in_another_order(tmp_path: Path) -> None:
    of = lesson(tmp_path)
    first, second = met(of, 0), met(of, 1)
    assert sorted(first) == sorted(second) == of.train.tolist()
    assert first != second
    assert first == met(lesson(tmp_path), 0)
    assert first != met(lesson(tmp_path, seed=1), 0)


@pytest.mark.parametrize("steps", [3, 5, 7, 12])
def test_rounds_of_ones_own_length_meet_all_pictures_equally(tmp_path: Path, steps: int) -> None:
    of = lesson(tmp_path, steps_per_epoch=steps)
    # Forty pictures in batches of eight: after five batches each was met once more.
    times = Counter(i for epoch in range(5) for i in met(of, epoch))
    assert set(times) == set(of.train.tolist())
    assert set(times.values()) == {steps}


def test_batches_are_the_pictures_normalised_and_their_classes(tmp_path: Path) -> None:
    of = lesson(tmp_path)
    rows, classes = of.batch(2, 1)
    positions = of._chosen(2, 1)[0]
    assert_array_equal(classes, of.classes[positions])
    assert_allclose(rows, of.rows[positions] / 127.5 - 1, atol=1e-6)


def test_views_differ_by_round_and_are_the_same_again(tmp_path: Path) -> None:
    of = lesson(tmp_path, augment={"rotation_degrees": 30})
    assert_array_equal(of.batch(1, 2)[0], of.batch(1, 2)[0])
    plain = lesson(tmp_path)
    assert np.abs(of.batch(1, 2)[0] - plain.batch(1, 2)[0]).max() > 0.1
    # The same picture in another round is another view.
    seen = {epoch: dict(zip(met(of, epoch)[:8], of.batch(epoch, 0)[0], strict=True)) for epoch in range(8)}
    again = [(one, other) for one in seen for other in seen if one < other for i in seen[one] if i in seen[other]]
    assert again
    one, other = again[0]
    both = next(i for i in seen[one] if i in seen[other])
    assert np.abs(seen[one][both] - seen[other][both]).max() > 0.05


# What is kept


class Stops(BaseException):
    """As a signal would end it."""


def test_one_that_is_stopped_again_and_again_ends_as_one_that_is_not(tmp_path: Path) -> None:
    options = {"augment": {"zoom": 0.2}, "dropout": 0.3, "schedule": "plateau"}
    whole = lesson(tmp_path, **options)
    undisturbed = network(whole, tmp_path)
    history, best = teach(undisturbed, whole, kept_at(tmp_path / "one"))
    chance, stops = random.Random(3), 0
    for _ in range(60):
        left = chance.randrange(1, 9)

        def told(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Stops

        cut = replace(lesson(tmp_path, **options), told=told if stops < 10 else lambda _: None)
        model = network(cut, tmp_path)
        try:
            found, best_of_cut = teach(model, cut, kept_at(tmp_path / "other"))
        except Stops:
            stops += 1
            continue
        break
    assert stops == 10
    assert best_of_cut == best
    for one, other in zip(without_times(history), without_times(found), strict=True):
        assert_allclose((one.loss, one.val_loss, one.accuracy), (other.loss, other.val_loss, other.accuracy), atol=2e-5)
        assert one.learning_rate == other.learning_rate
    for a, b in zip(undisturbed.get_weights(), model.get_weights(), strict=True):
        assert_allclose(a, b, atol=2e-5)


def test_a_write_that_fails_anywhere_loses_one_round_at_most(tmp_path: Path) -> None:
    class Fails(DiskStore):
        left = 0

        def write(self, path: str, content: bytes) -> None:
            type(self).left -= 1
            if type(self).left == 0:
                raise OSError("the power went")
            super().write(path, content)

    numbers = [np.array([1.0]), np.array([2], np.int32)]
    rounds: list[dict[str, Any]] = [{"epoch": 1}]
    for write in (1, 2, 3):
        kept = Kept(DiskStore(), str(tmp_path / str(write)))
        kept.put(rounds, 1, numbers, numbers[:1])
        Fails.left = write
        with pytest.raises(OSError, match="the power went"):
            Kept(Fails(), kept.folder).put([*rounds, {"epoch": 2}], 2, numbers, numbers[:1])
        found = kept.get()
        assert found is not None
        assert (found[0], found[1]) == (rounds, 1)
        for a, b in zip(found[2], numbers, strict=True):
            assert_array_equal(a, b)
            assert a.dtype == b.dtype
        kept.put([*rounds, {"epoch": 2}], 1, numbers, None)
        assert len(list((tmp_path / str(write)).glob("*.npz"))) == 2
        kept.remove()
        assert kept.get() is None


def test_the_best_so_far_is_what_a_stopped_one_came_to(tmp_path: Path) -> None:
    def told(text: str) -> None:
        if text.startswith("epoch 3"):
            raise Stops

    cut = replace(lesson(tmp_path), told=told)
    model = network(cut, tmp_path)
    with pytest.raises(Stops):
        teach(model, cut, kept_at(tmp_path))
    found = kept_at(tmp_path).get()
    assert found is not None
    said = judged(cut.probabilities(model, cut.validation), cut.classes[cut.validation])
    assert said[0] == pytest.approx(found[0][found[1] - 1]["val_loss"], abs=1e-5)


# Which round counts, and when it is over


def test_patience_ends_it_and_the_best_round_is_chosen(tmp_path: Path) -> None:
    # So fast that it gets worse.
    fast = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 30.0}}
    of = lesson(tmp_path, epochs=30, patience=2, **fast)
    model = network(of, tmp_path)
    history, best = teach(model, of, kept_at(tmp_path))
    assert len(history) == best + 2 < 30
    losses = [epoch.val_loss for epoch in history]
    assert losses[best - 1] == min(losses)  # type: ignore[type-var]
    said = judged(of.probabilities(model, of.validation), of.classes[of.validation])
    assert said[0] == pytest.approx(losses[best - 1], abs=1e-5)


def test_without_pictures_set_aside_the_last_round_counts(tmp_path: Path) -> None:
    of = replace(lesson(tmp_path, epochs=2), validation=np.array([], np.int64))
    history, best = teach(network(of, tmp_path), of, kept_at(tmp_path))
    assert (len(history), best) == (2, 2)
    assert history[0].val_loss is None


def test_figures_are_of_all_pictures_of_a_round(tmp_path: Path) -> None:
    # Nothing is learnt and nothing left out, so they are those of the network as it was.
    still = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 1e-12}, "dropout": 0}
    of = lesson(tmp_path, epochs=1, batch_images=7, **still)
    model = network(of, tmp_path)
    history, _ = teach(model, of, kept_at(tmp_path))
    said = judged(of.probabilities(model, of.train), of.classes[of.train])
    assert_allclose((history[0].loss, history[0].accuracy), said, atol=1e-5)


def test_schedules(tmp_path: Path) -> None:
    of = lesson(tmp_path, schedule="cosine")
    history, _ = teach(network(of, tmp_path), of, kept_at(tmp_path))
    assert_allclose([e.learning_rate / 0.003 for e in history], [1, 0.8536, 0.5, 0.1464], atol=1e-4)
    # Nothing is learnt at all, so nothing gets better.
    still = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 1e-12}}
    of = lesson(tmp_path, schedule="plateau", epochs=8, **still)
    history, _ = teach(network(of, tmp_path), of, kept_at(tmp_path / "other"))
    assert [round(e.learning_rate / 1e-12, 3) for e in history] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_classes_weigh_alike(tmp_path: Path) -> None:
    of = lesson(tmp_path, class_weights=True)
    of = replace(of, train=of.train[(of.classes[of.train] == 0) | (of.train < 12)])
    from mirabelle.finetune.teaching import _class_weights

    weights = _class_weights(of)
    numbers = Counter(of.classes[of.train].tolist())
    assert weights[0] * numbers[0] == pytest.approx(weights[1] * numbers[1])
    assert sum(weights[i] * numbers[i] for i in numbers) == pytest.approx(len(of.train))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"optimizer": "Adamm"}, "finetune.optimizer 'Adamm' is none of keras.optimizers"),
        ({"optimizer": "Adam", "optimizer_params": {"momentun": 1}}, "finetune.optimizer_params: Adam refuses them"),
        ({"optimizer": "get"}, "finetune.optimizer 'get' is none"),
    ],
)
def test_optimizers_that_are_not_there_are_told(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    of = lesson(tmp_path, **wrong)
    with pytest.raises(ConfigError, match=sentence):
        teach(network(of, tmp_path), of, kept_at(tmp_path))


def test_mixed_precision_learns_and_answers_in_float32(tmp_path: Path) -> None:
    of = lesson(tmp_path, precision="bf16", epochs=1)
    model = network(of, tmp_path)
    history, _ = teach(model, of, kept_at(tmp_path))
    assert np.isfinite(history[0].loss)
    assert {str(tensor.dtype) for tensor in model.get_weights()} == {"float32"}
    assert model.predict_on_batch(of.batch(0, 0)[0]).dtype == np.float32
