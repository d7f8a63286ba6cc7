"""How far features of one precision are from those of another, picture by picture and in what is done with them.

Pure: arrays in, figures out. [numpy, scipy, scikit-learn]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.evaluation.comparing import Interval, draw_groups, mcnemar
from mirabelle.evaluation.splitting import fold_numbers

Matrix = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]

NEIGHBOURS = 10
FOLDS = 5


@dataclass(frozen=True)
class Spread:
    """Of a figure over the pictures: the worst, the one that 99 in 100 are above, and the mean."""

    worst: float
    percentile_1: float
    mean: float


@dataclass(frozen=True)
class Fidelity:
    """How near features are to reference features of the same n pictures.

    Attributes:
        cosine: of each picture's features to its reference features.
        centred: the same, each side without its own mean, which much hides behind.
        neighbours: share of the ten nearest pictures, by cosine, that are the same; mean over the pictures.
        angle_largest, angle_median: degrees, principal angles between the spans of the first k principal components
            (Björck and Golub, Mathematics of Computation 27, 1973). The largest is large where the k-th and the next
            component hold nearly the same variance, whatever the precision.
    """

    cosine: Spread
    centred: Spread
    neighbours: float
    angle_largest: float
    angle_median: float

    def to_json(self) -> dict[str, Any]:
        """As plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """What a classifier loses when it is trained and judged on other features of the same pictures.

    Attributes:
        accuracy: on the features, by folds.
        loss: the reference features' accuracy minus that; below 0: it is better.
        loss_interval: that 95 in 100 draws of groups give.
        p: McNemar's exact p: how likely they would differ so much if neither were better.
    """

    accuracy: float
    loss: float
    loss_interval: Interval
    p: float

    def to_json(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return {**asdict(self), "loss_interval": list(self.loss_interval)}


def fidelity(reference: npt.NDArray[np.floating], found: npt.NDArray[np.floating], components: int) -> Fidelity:
    """Compare features with reference features.

    Args:
        reference, found: (n, width), of the same n pictures in the same order, n two or more.
        components: k, at most n - 1 and width.
    """
    one, other = reference.astype(np.float64), found.astype(np.float64)
    angles = principal_angles(one, other, components)
    return Fidelity(
        _spread(cosines(one, other)),
        _spread(cosines(one - one.mean(axis=0), other - other.mean(axis=0))),
        neighbour_agreement(one, other),
        float(angles.max()),
        float(np.median(angles)),
    )


def cosines(one: Matrix, other: Matrix) -> Matrix:
    """Of each row to the same row of the other, (n,); 0 where one of them is all zeros."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.where(lengths > 0, lengths, np.inf))


def neighbour_agreement(one: Matrix, other: Matrix, count: int = NEIGHBOURS) -> float:
    """Share of each row's nearest rows, by cosine, that both sides have; mean over the rows."""
    nearest = [_nearest(rows, min(count, len(rows) - 1)) for rows in (one, other)]
    shared = [len(set(a) & set(b)) / len(a) for a, b in zip(*(near.tolist() for near in nearest), strict=True)]
    return float(np.mean(shared))


def principal_angles(one: Matrix, other: Matrix, components: int) -> Matrix:
    """Degrees, (k,), between the spans of both sides' first principal components, the largest first."""
    from scipy.linalg import subspace_angles

    spans = (principal_axes(rows, components).T for rows in (one, other))
    return np.asarray(np.degrees(subspace_angles(*spans)))


def principal_axes(rows: Matrix, components: int) -> Matrix:
    """The first principal components of a few rows, (k, width), orthonormal."""
    return np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:components]


def components_for(rows: Matrix, variance: float) -> int:
    """The fewest principal components of a few rows that hold a share of their variance."""
    squares = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    if not squares.sum():
        return 1
    return min(int(np.searchsorted(np.cumsum(squares) / squares.sum(), variance - 1e-12)) + 1, len(rows) - 1)


def right_answers(features: Matrix, labels: Sequence[str], folds: npt.NDArray[np.int64], components: int) -> Right:
    """Which pictures a classifier gets right that learnt from the other folds: bool (n,).

    As ``train`` does it where nobody says otherwise: PCA of all rows, then logistic regression.

    Args:
        features: (n, width).
        labels: of each row.
        folds: number of each row's fold.
        components: of the PCA.
    """
    from sklearn.linear_model import LogisticRegression

    centred = features - features.mean(axis=0)
    reduced = centred @ principal_axes(features, components).T
    # To one scale, that of the first component: the solver stops early on features of any size.
    reduced /= max(float(reduced[:, 0].std()), np.finfo(np.float64).tiny)
    known = np.asarray(labels, object)
    right = np.zeros(len(known), dtype=np.bool_)
    for fold in np.unique(folds):
        aside = folds == fold
        if len(set(known[~aside])) > 1:
            model = LogisticRegression(C=10.0, max_iter=2000).fit(reduced[~aside], known[~aside])
            right[aside] = model.predict(reduced[aside]) == known[aside]
    return right


def folds_of(labels: Sequence[str], groups: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """A fold for each row, 0 to 4, classes in proportion and no group in two.

    Raises:
        TrainingError: fewer groups than folds.
    """
    return fold_numbers(labels, groups, FOLDS, seed)


def change(reference: Right, found: Right, groups: Sequence[str], seed: int = 0) -> Change:
    """What is lost from one set of right answers to another, of the same pictures.

    Args:
        reference, found: bool (n,).
        groups: of each picture; they are drawn whole.
        seed: of the draws.
    """
    lost = reference.astype(np.float64) - found
    drawn = [float((weight * lost).sum() / weight.sum()) for weight in draw_groups(groups, seed)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Change(float(found.mean()), float(lost.mean()), (float(low), float(high)), mcnemar(reference, found))


def _nearest(rows: Matrix, count: int) -> npt.NDArray[np.int64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1.0)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :count]


def _spread(values: Matrix) -> Spread:
    return Spread(float(values.min()), float(np.quantile(values, 0.01)), float(values.mean()))
