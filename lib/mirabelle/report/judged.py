"""What a report is made of, continued: how classifiers did. Pure; runs on the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.report.pictures import Picture


@dataclass(frozen=True)
class Flattered:
    """Why a classifier's figures may be better than they will be on other images.

    Attributes:
        sentence: what images on both sides share, and how many.
        accuracy, macro_f1: without those images; ``None`` where none is left.
    """

    sentence: str
    accuracy: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class Evaluation:
    """How a classifier did on images it was not trained on.

    Attributes:
        labels: the k labels, distinct, in the order of the arrays.
        confusion: int (k, k), counts of test images; rows are the true label, columns the predicted one.
        accuracy: share of test images whose label was right, 0 to 1.
        top3: share whose label was among the three most probable, 0 to 1; NaN when not measured.
        macro_f1: mean of ``f1`` over the labels, 0 to 1.
        precision: float (k,), 0 to 1; NaN where a label was never predicted and nobody chose a value.
        recall: float (k,), 0 to 1.
        f1: float (k,), 0 to 1.
        support: int (k,), test images of each label.
        estimator: the classifier, in words.
        features: what it was given, e.g. ``61 principal components``.
        split: a sentence that says how train and test were parted.
        train_rows: how many images it learned from.
        test_rows: how many it was judged on.
        flattered: why its figures may be too good.

    Raises:
        ValueError: an array's shape does not match ``labels``.
    """

    labels: Sequence[str]
    confusion: npt.NDArray[np.integer[Any]]
    accuracy: float
    top3: float
    macro_f1: float
    precision: npt.NDArray[np.floating[Any]]
    recall: npt.NDArray[np.floating[Any]]
    f1: npt.NDArray[np.floating[Any]]
    support: npt.NDArray[np.integer[Any]]
    estimator: str
    features: str
    split: str
    train_rows: int
    test_rows: int
    flattered: Sequence[Flattered] = ()

    def __post_init__(self) -> None:
        k = len(self.labels)
        if self.confusion.shape != (k, k):
            raise ValueError(f"confusion has shape {self.confusion.shape} for {k} labels")
        for name in ("precision", "recall", "f1", "support"):
            shape = getattr(self, name).shape
            if shape != (k,):
                raise ValueError(f"{name} has shape {shape} for {k} labels")


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one label that were taken for another.

    Attributes:
        true: what they are.
        predicted: what they were taken for.
        count: how many there are in all.
        pictures: a few of them.
        examples: a few images that really are ``predicted``, to compare with; may be empty.
    """

    true: str
    predicted: str
    count: int
    pictures: Sequence[Picture]
    examples: Sequence[Picture] = ()


@dataclass(frozen=True)
class Compared:
    """Classifiers judged on the same images.

    Attributes:
        rows: the best first; each with ``name``, ``accuracy``, ``macro_f1``, ``log_loss``, ``calibration_error``, the
            interval of each as ``accuracy_interval`` and so on, ``p_next``, ``training_seconds``,
            ``predicting_seconds`` and ``size_bytes``; what is not known is ``None``.
        pictures: how many they were judged on.
        groups: how many groups these are of.
    """

    rows: Sequence[Mapping[str, Any]]
    pictures: int
    groups: int


@dataclass(frozen=True)
class Chained:
    """How a chain of two classifiers did.

    Attributes:
        coarse, fine: the label columns.
        figures: one mapping each, ``name, rows, accuracy, interval``: the first step, the second given the first, both,
            one classifier over all fine labels instead, then the second step by coarse label; what cannot be told is
            ``None``.
        answers: one mapping each, ``level, given, share, accuracy``: how finely images were answered.
        precision: share of right answers that was asked for, or ``None``: the finest answer was always given.
        wrong: fine labels most often confused: true, predicted, count.
    """

    coarse: str
    fine: str
    figures: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    precision: float | None
    wrong: Sequence[tuple[str, str, int]]


@dataclass(frozen=True)
class Certified:
    """What each precision and way of decoding costs in fidelity, by a certificate; figures as text.

    Attributes:
        id: of the run that measured.
        pictures, listed: measured on, of how many.
        machine: in words.
        head: names of the columns but the first.
        rows: a name, then a figure for each column; the reference first.
        about: what the figures are of.
        left_out: sentences on what could not be measured.
        taken: the name of the row that this page's features are of, or ``None``: of none of them.
    """

    id: str
    pictures: int
    listed: int
    machine: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str
    left_out: Sequence[str]
    taken: str | None
