"""Figures of fidelity against cases that can be worked out by hand, and against scikit-learn."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from mirabelle.evaluation import fidelity as module
from mirabelle.evaluation.fidelity import Fidelity, change, components_for, cosines, fidelity, folds_of, right_answers


def drawn(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) * np.linspace(3, 1, width)


def test_equal_features_are_equal_in_all_figures() -> None:
    found = fidelity(drawn(40, 6), drawn(40, 6).astype(np.float32), 3)
    for spread in (found.cosine, found.centred):
        assert (spread.worst, spread.percentile_1, spread.mean) == pytest.approx((1, 1, 1), abs=1e-6)
    assert found.neighbours == 1
    assert found.angle_largest < 1e-3


def test_cosines_by_hand() -> None:
    one = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    other = np.array([[0.0, 3.0], [2.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert cosines(one, other).tolist() == pytest.approx([0, 2**-0.5, 0, -1])


def test_centring_shows_what_a_common_part_hides() -> None:
    own, other = drawn(50, 8, 1), drawn(50, 8, 2)
    found = fidelity(own + 1000, other + 1000, 2)
    assert found.cosine.worst > 0.99
    assert abs(found.centred.mean) < 0.3


def test_the_spread_is_worst_then_one_in_a_hundred_then_mean() -> None:
    one = np.tile([1.0, 0.0], (101, 1)) + np.arange(101)[:, None] * [0, 1e-9]
    other = one.copy()
    other[0] = [0.0, 1.0]
    found = fidelity(one, other, 1).cosine
    assert (found.worst, found.percentile_1, found.mean) == pytest.approx((0, 1, 100 / 101), abs=1e-6)


def test_neighbours_are_counted_by_cosine_and_without_the_picture_itself() -> None:
    angles = np.radians([0, 1, 3, 90, 91, 93])
    one = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Length says nothing; the last one moves over to the first three.
    other = one * 7
    other[5] = [7.0, 0.5]
    assert module.neighbour_agreement(one, one * 7, 2) == 1
    # Of two each: rows 0 and 1 keep one of theirs, row 2 both, 3 and 4 one, 5 none.
    kept = module.neighbour_agreement(one, other, 2)
    assert kept == pytest.approx(np.mean([shared(one, other, row) for row in range(6)]))
    assert 0 < kept < 1


def shared(one: np.ndarray, other: np.ndarray, row: int) -> float:
    def two(rows: np.ndarray) -> set[int]:
        unit = [r / np.sqrt((r * r).sum()) for r in rows]
        near = sorted((i for i in range(len(rows)) if i != row), key=lambda i: -float(unit[i] @ unit[row]))
        return set(near[:2])

    return len(two(one) & two(other)) / 2


def test_angles_are_those_by_which_the_axes_were_turned() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3)) * [9, 3, 1]
    # White in itself, so that the axes are exactly the coordinates'.
    left, _, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    rows = left * [9, 3, 1] @ np.eye(3)
    turned = np.radians(20)
    turn = np.array([[np.cos(turned), 0, np.sin(turned)], [0, 1, 0], [-np.sin(turned), 0, np.cos(turned)]])
    found = fidelity(rows, rows @ turn, 2)
    assert found.angle_largest == pytest.approx(20, abs=1e-6)
    assert found.angle_median == pytest.approx(10, abs=1e-6)
    assert right.shape == (3, 3)


def test_components_reach_their_share_as_in_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    rows = drawn(60, 12)
    for variance in (0.3, 0.8, 0.95):
        assert components_for(rows, variance) == PCA(variance, svd_solver="full").fit(rows).n_components_
    assert components_for(np.ones((5, 4)), 0.8) == 1


def test_a_classifier_learns_what_is_there_and_nothing_from_noise() -> None:
    labels = [f"kind {i % 3}" for i in range(90)]
    apart = drawn(90, 10) + 30 * np.eye(10)[[i % 3 for i in range(90)]]
    folds = folds_of(labels, [str(i) for i in range(90)], 0)
    assert right_answers(apart, labels, folds, 4).all()
    # Turned and scaled features are as good.
    assert right_answers(1e-6 * apart @ ortho_group.rvs(10, random_state=0), labels, folds, 4).all()
    assert right_answers(drawn(90, 10, 5), labels, folds, 4).mean() < 0.6


def test_folds_keep_groups_whole() -> None:
    labels = [f"kind {i % 2}" for i in range(60)]
    groups = [str(i // 4) for i in range(60)]
    folds = folds_of(labels, groups, 3)
    assert set(folds) == set(range(5))
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))


def test_a_loss_and_its_interval() -> None:
    before = np.arange(200) < 180
    after = np.arange(200) < 160
    groups = [str(i) for i in range(200)]
    found = change(before, after, groups)
    assert (found.accuracy, found.loss) == pytest.approx((0.8, 0.1))
    low, high = found.loss_interval
    # Of 200 pictures 20 are lost: sqrt(0.1 * 0.9 / 200) is 0.021.
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.0212, 0.1 + 1.96 * 0.0212), abs=0.01)
    assert found.p < 1e-4
    same = change(before, before, groups)
    assert (same.loss, same.loss_interval, same.p) == (0, (0, 0), 1)
    # One group is one draw: less is known.
    wide = change(before, after, [str(i // 20) for i in range(200)]).loss_interval
    assert wide[1] - wide[0] > high - low


def test_it_can_be_kept_as_json() -> None:
    told = fidelity(drawn(30, 4), drawn(30, 4, 1), 2).to_json()
    assert set(told) == set(Fidelity.__dataclass_fields__)
    assert set(told["cosine"]) == {"worst", "percentile_1", "mean"}
