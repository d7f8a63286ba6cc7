"""How good a classifier is, and fair ways to hold pictures out. [numpy, scikit-learn]

Pure: arrays in, arrays out; driver only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.errors import TrainingError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_FOLDS = 10


@dataclass(frozen=True)
class Metrics:
    """A classifier's results on held-out pictures.

    Attributes:
        labels: class names, in the order of every array here.
        confusion: int64 (k, k), rows true, columns predicted.
        accuracy: share predicted rightly.
        top3: share whose true class is among the three likeliest.
        macro_f1: mean F1 over the classes that occur, as truth or as prediction.
        precision, recall, f1: float64 (k,), 0 where undefined.
        support: int64 (k,), pictures of each class.
    """

    labels: tuple[str, ...]
    confusion: Ints
    accuracy: float
    top3: float
    macro_f1: float
    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints

    def to_json(self) -> dict[str, Any]:
        """As plain lists and numbers."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Metrics:
        """The inverse of ``to_json``."""
        whole = {k: np.array(facts[k], np.int64) for k in ("confusion", "support")}
        real = {k: np.array(facts[k], np.float64) for k in ("precision", "recall", "f1")}
        return cls(**{**facts, "labels": tuple(facts["labels"]), **whole, **real})


def evaluate(truth: Ints, predicted: Ints, probabilities: npt.NDArray[np.floating], labels: Sequence[str]) -> Metrics:
    """Metrics of predictions.

    Args:
        truth, predicted: int64 (n,), positions in ``labels``.
        probabilities: (n, k), larger is likelier; 0 for a class that is out of the question, such as one that the
            model never saw, which is no hit whatever else is at 0.
        labels: class names.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = np.arange(len(labels))
    confusion = confusion_matrix(truth, predicted, labels=classes).astype(np.int64)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=classes, zero_division=0.0
    )
    occurs = np.union1d(truth, predicted)
    # Rank of the truth: how many classes are likelier, or as likely and earlier, as scikit-learn breaks ties.
    own = probabilities[np.arange(len(truth)), truth][:, None]
    rank = ((probabilities > own) | ((probabilities == own) & (classes < truth[:, None]))).sum(axis=1)
    return Metrics(
        labels=tuple(labels),
        confusion=confusion,
        accuracy=float((truth == predicted).mean()),
        top3=float(((rank < 3) & (own[:, 0] > 0)).mean()),
        macro_f1=float(f1[occurs].mean()),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
    )


def confused_pairs(confusion: Ints, most: int) -> list[tuple[int, int, int]]:
    """The (true, predicted, count) with the most errors, most first; none with no error."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = [(int(i), int(j), int(errors[i, j])) for i, j in (np.unravel_index(o, errors.shape) for o in order)]
    return [pair for pair in pairs if pair[2]]


def hold_out(labels: Sequence[str], groups: Sequence[str] | None, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Choose which rows to hold out, each class in its proportion, and no group on both sides.

    Args:
        labels: class of each row.
        groups: rows of one group stay together; None: each row for itself.
        share: of the rows to hold out, nearly.
        seed: of the choice.

    Returns:
        bool (n,), true for rows held out.

    Raises:
        TrainingError: too few rows or groups to hold any out.
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    held = np.zeros(len(labels), dtype=np.bool_)
    if groups is None:
        # At least one picture of each class on either side, where each has two.
        classes = len(set(labels))
        number = max(1, min(max(math.ceil(share * len(labels)), classes), len(labels) - classes))
        try:
            splitter = StratifiedShuffleSplit(1, test_size=number, random_state=seed)
            held[next(splitter.split(np.zeros(len(labels)), labels))[1]] = True
        except ValueError as error:
            raise TrainingError(
                f"cannot hold out {share:.0%} of {len(labels)} labelled pictures in {len(set(labels))} classes: {error}"
            ) from error
        return held
    # The share as a fraction of small terms, 0.4 as 2 folds of 5: more folds would need more groups.
    part = Fraction(share).limit_denominator(MOST_FOLDS)
    folds = max(2, part.denominator)
    held[_fold_numbers(labels, groups, folds, seed) < min(folds - 1, max(1, part.numerator))] = True
    return held


def fold_numbers(labels: Sequence[str], groups: Sequence[str] | None, folds: int, seed: int) -> Ints:
    """A fold number, 0 to ``folds`` - 1, for each row: classes in proportion, no group in two folds."""
    own = groups if groups is not None else [str(i) for i in range(len(labels))]
    return _fold_numbers(labels, own, folds, seed)


def _fold_numbers(labels: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> Ints:
    from sklearn.model_selection import StratifiedGroupKFold

    distinct = len(set(groups))
    if distinct < folds:
        raise TrainingError(f"there are {distinct} groups and {folds} are needed; set classify.group_by to a finer one")
    numbers = np.zeros(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of fewer rows than folds: some folds go without it, which is the best there is.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
                numbers[rows] = number
        except ValueError as error:
            raise TrainingError(f"cannot make {folds} folds of {len(labels)} labelled pictures: {error}") from error
    return numbers
