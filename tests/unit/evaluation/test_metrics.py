import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle.errors import TrainingError
from mirabelle.evaluation import Metrics, confused_pairs, evaluate
from mirabelle.evaluation.splitting import fold_numbers, hold_out

LABELS = ["a", "b", "c", "d"]


def test_metrics_worked_out_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 1, 0])
    probabilities = np.full((6, 4), 0.1)
    probabilities[np.arange(6), predicted] = 0.6
    # The last picture's truth, c, is the least likely of the four: not among its three.
    probabilities[5] = [0.6, 0.2, 0.05, 0.15]
    metrics = evaluate(truth, predicted, probabilities, LABELS)
    assert metrics.confusion.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.top3 == pytest.approx(5 / 6)
    assert metrics.precision.tolist() == pytest.approx([2 / 3, 2 / 3, 0, 0])
    assert metrics.recall.tolist() == pytest.approx([2 / 3, 1, 0, 0])
    assert metrics.support.tolist() == [3, 2, 1, 0]
    # F1: a 2/3, b 0.8, c 0; d never occurs and is left out.
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    assert confused_pairs(metrics.confusion, 5) == [(0, 1, 1), (2, 0, 1)]
    assert confused_pairs(np.eye(3, dtype=np.int64), 5) == []
    again = Metrics.from_json(metrics.to_json())
    assert again.to_json() == metrics.to_json()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_no_group_is_on_both_sides(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    groups = [f"{c}-{g}" for c in range(classes) for g in range(6) for _ in range(random.integers(1, 9))]
    labels = [group[0] for group in groups]
    held = hold_out(labels, groups, 0.25, seed)
    sides = {group: set() for group in groups}
    for group, side in zip(groups, held, strict=True):
        sides[group].add(bool(side))
    assert all(len(side) == 1 for side in sides.values())
    assert 0 < held.mean() < 0.6
    folds = fold_numbers(labels, groups, 3, seed)
    assert all(len({f for f, g in zip(folds, groups, strict=True) if g == group}) == 1 for group in set(groups))


def test_hold_out_by_share_keeps_the_classes_in_proportion_and_agrees_with_itself() -> None:
    labels = ["a"] * 80 + ["b"] * 20
    held = hold_out(labels, None, 0.2, seed=3)
    assert (held[:80].sum(), held[80:].sum()) == (16, 4)
    assert (held == hold_out(labels, None, 0.2, seed=3)).all()
    assert (held != hold_out(labels, None, 0.2, seed=4)).any()


def test_too_few_to_hold_out_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match="cannot hold out"):
        hold_out(["a", "b"], None, 0.2, 0)
    with pytest.raises(TrainingError, match=r"set classify\.group_by to a finer one"):
        hold_out(["a", "b", "a"], ["x", "x", "y"], 0.2, 0)


def test_ties_do_not_flatter_the_top_three() -> None:
    # A tree's pure leaf: all but one class at 0, and the truth the last of them.
    metrics = evaluate(np.array([3]), np.array([0]), np.array([[1.0, 0.0, 0.0, 0.0]]), LABELS)
    assert metrics.top3 == 0.0


@pytest.mark.parametrize("unseen", ["aardvark", "zucchini"])
def test_a_class_that_no_model_saw_is_no_hit_whatever_its_name(unseen: str) -> None:
    labels = sorted(["lemon", "mango", unseen])
    probabilities = np.zeros((1, 3))
    probabilities[0, labels.index("lemon")] = 1.0
    truth, predicted = np.array([labels.index(unseen)]), np.array([labels.index("lemon")])
    assert evaluate(truth, predicted, probabilities, labels).top3 == 0.0
