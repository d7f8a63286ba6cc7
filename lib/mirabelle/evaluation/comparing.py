"""Several classifiers judged on the same pictures, and how sure one can be of the difference. [numpy, scipy]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

ROUNDS = 1000
BINS = 10
FIGURES = ("accuracy", "macro_f1", "log_loss", "calibration_error")
# As scikit-learn has it: no probability is nothing.
LEAST = 1e-15


@dataclass(frozen=True)
class Answers:
    """What a classifier says of n pictures.

    Attributes:
        name: of the classifier.
        predicted: int64 (n,), classes.
        probabilities: float64 (n, k), of each class; 0 for one that it never saw.
    """

    name: str
    predicted: Ints
    probabilities: Floats


@dataclass(frozen=True)
class Standing:
    """How a classifier did, each figure with the interval that 95 in 100 draws of groups fall into.

    Attributes:
        name: of the classifier.
        accuracy, macro_f1: higher is better.
        log_loss: mean of minus the logarithm of the true class's probability.
        calibration_error: how far the probability of an answer is from the share of such answers that are right, on
            average over ten bins of equal width (expected calibration error).
        p_next: McNemar's exact p of the next one in the table: how likely the two would differ so much if neither were
            better; None: there is none.
    """

    name: str
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    log_loss: float
    log_loss_interval: Interval
    calibration_error: float
    calibration_error_interval: Interval
    p_next: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.__dict__.items()}


def compare(truth: Ints, answers: Sequence[Answers], groups: Sequence[str], seed: int = 0) -> list[Standing]:
    """Judge classifiers on the same pictures, the best first.

    Args:
        truth: int64 (n,), classes.
        answers: of each classifier, for the same n pictures in the same order.
        groups: of each picture: they are drawn whole, for pictures of one thing are right or wrong together.
        seed: of the draws; all classifiers are judged on the same ones.
    """
    order = sorted(answers, key=lambda one: -float((one.predicted == truth).mean()))
    weights = draw_groups(groups, seed)
    standings = []
    for place, one in enumerate(order):
        figures = _figures(truth, one, np.ones(len(truth)))
        drawn = np.array([_figures(truth, one, weight.astype(np.float64)) for weight in weights])
        ends = np.quantile(drawn, [0.025, 0.975], axis=0).T
        told: dict[str, Any] = {}
        for name, figure, (low, high) in zip(FIGURES, figures, ends, strict=True):
            told |= {name: figure, f"{name}_interval": (float(low), float(high))}
        following = order[place + 1] if place + 1 < len(order) else None
        p = None if following is None else mcnemar(one.predicted == truth, following.predicted == truth)
        standings.append(Standing(one.name, **told, p_next=p))
    return standings


def share_interval(right: npt.NDArray[np.bool_], groups: Sequence[str], seed: int = 0) -> Interval:
    """The interval that 95 in 100 draws of groups give for the share of right answers.

    Args:
        right: bool (n,), one or more.
        groups: of each.
        seed: of the draws.
    """
    drawn = [float(weight[right].sum() / weight.sum()) for weight in draw_groups(groups, seed)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def draw_groups(groups: Sequence[str], seed: int) -> list[Ints]:
    """How often each picture counts in each draw of whole groups."""
    numbers = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)[1]
    draws = np.random.default_rng(seed)
    many = int(numbers.max()) + 1
    return [np.bincount(draws.integers(0, many, many), minlength=many)[numbers] for _ in range(ROUNDS)]


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """The exact p of McNemar's test (Psychometrika 12, 1947): of the pictures that one alone has right."""
    from scipy.stats import binomtest

    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if only_one + only_other == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_other).pvalue)


def _figures(truth: Ints, answers: Answers, weights: Floats) -> tuple[float, float, float, float]:
    """``FIGURES``, each picture counting as often as its weight says."""
    total = weights.sum()
    right = answers.predicted == truth
    own = np.clip(answers.probabilities[np.arange(len(truth)), truth], LEAST, 1)
    return (
        float(weights[right].sum() / total),
        macro_f1(truth, answers.predicted, weights),
        float(-(weights * np.log(own)).sum() / total),
        _calibration_error(answers.probabilities.max(axis=1), right, weights),
    )


def macro_f1(truth: Ints, predicted: Ints, weights: Floats) -> float:
    """Mean F1 over the classes that occur, as truth or as prediction, each row counting as often as its weight says."""
    classes = int(max(truth.max(), predicted.max())) + 1
    hits = np.bincount(truth, weights * (truth == predicted), classes)
    both = np.bincount(truth, weights, classes) + np.bincount(predicted, weights, classes)
    occurs = both > 0
    return float((2 * hits[occurs] / both[occurs]).mean())


def _calibration_error(said: Floats, right: npt.NDArray[np.bool_], weights: Floats) -> float:
    bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(bins, weights * (said - right), BINS)
    return float(np.abs(gap).sum() / weights.sum())
