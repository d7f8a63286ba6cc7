"""How good a classifier is. [numpy, scikit-learn]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
