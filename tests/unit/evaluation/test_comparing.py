"""Classifiers beside each other: figures as scikit-learn has them, intervals that hold, McNemar by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import accuracy_score, f1_score, log_loss

from mirabelle.evaluation import Answers, compare
from mirabelle.evaluation.comparing import mcnemar


def answers(name: str, truth: np.ndarray, right: float, seed: int, classes: int = 3) -> Answers:
    """Right by chance, with probabilities that say so."""
    random = np.random.default_rng(seed)
    wrong = (truth + random.integers(1, classes, len(truth))) % classes
    predicted = np.where(random.random(len(truth)) < right, truth, wrong)
    probabilities = np.full((len(truth), classes), (1 - right) / (classes - 1))
    probabilities[np.arange(len(truth)), predicted] = right
    return Answers(name, predicted, probabilities)


TRUTH = np.random.default_rng(0).integers(0, 3, 400)


def test_figures_are_scikit_learns_and_the_best_is_first() -> None:
    made = [answers("worse", TRUTH, 0.6, 1), answers("better", TRUTH, 0.9, 2)]
    better, worse = compare(TRUTH, made, [str(i) for i in range(400)])
    assert (better.name, worse.name) == ("better", "worse")
    for standing, one in ((better, made[1]), (worse, made[0])):
        assert standing.accuracy == pytest.approx(accuracy_score(TRUTH, one.predicted))
        assert standing.macro_f1 == pytest.approx(f1_score(TRUTH, one.predicted, average="macro"))
        assert standing.log_loss == pytest.approx(log_loss(TRUTH, one.probabilities))
        for name in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
            low, high = getattr(standing, f"{name}_interval")
            assert low <= high
            if name != "calibration_error":
                assert low < getattr(standing, name) < high
    assert better.p_next is not None
    assert better.p_next < 1e-6
    assert worse.p_next is None
    # As probabilities are those that it is right with, little is to be calibrated; where it is sure of all, much.
    assert better.calibration_error < 0.05
    sure = Answers("sure", made[0].predicted, np.eye(3)[made[0].predicted])
    assert compare(TRUTH, [sure], ["a"] * 400)[0].calibration_error == pytest.approx(1 - worse.accuracy)


def test_intervals_are_of_groups() -> None:
    """Twenty things of twenty pictures each, every thing right or wrong as a whole: little is known of such."""
    groups = np.repeat(np.arange(20), 20)
    right = np.random.default_rng(3).random(20) < 0.7
    predicted = np.where(right[groups], TRUTH, (TRUTH + 1) % 3)
    one = Answers("one", predicted, np.eye(3)[predicted] * 0.9 + 0.05)
    by_group = compare(TRUTH, [one], groups.astype(str).tolist())[0].accuracy_interval
    by_picture = compare(TRUTH, [one], [str(i) for i in range(400)])[0].accuracy_interval
    assert by_group[1] - by_group[0] > 3 * (by_picture[1] - by_picture[0])
    # The spread of a mean of twenty draws.
    expected = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 20)
    assert by_group[1] - by_group[0] == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(30):
        truth = np.random.default_rng(seed).integers(0, 3, 150)
        made = answers("one", truth, 0.8, 1000 + seed)
        low, high = compare(truth, [made], [str(i) for i in range(150)], seed)[0].accuracy_interval
        held += low <= 0.8 <= high
    assert held >= 25


def test_mcnemar_by_hand() -> None:
    one = np.array([True] * 8 + [False] * 2 + [True] * 5)
    other = np.array([False] * 8 + [True] * 2 + [True] * 5)
    # Ten that differ, two of them one way: twice the sum of the binomials of 0, 1 and 2 of 10.
    assert mcnemar(one, other) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(one, one) == 1.0


def test_a_class_that_one_never_saw_costs_it_and_breaks_nothing() -> None:
    truth = np.array([0, 1, 2, 2])
    blind = Answers(
        "blind", np.array([0, 1, 0, 1]), np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.9, 0.1, 0], [0.3, 0.7, 0]])
    )
    standing = compare(truth, [blind], list("abcd"))[0]
    assert standing.accuracy == 0.5
    assert standing.log_loss > 15
    assert_allclose(standing.macro_f1, (2 / 3 + 2 / 3 + 0) / 3)
