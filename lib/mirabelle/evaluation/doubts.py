"""Why a figure may flatter: what pictures that are judged on share with those that were learnt from. [numpy, pandas]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mirabelle import schema
from mirabelle.evaluation.comparing import macro_f1

if TYPE_CHECKING:
    import pandas as pd

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Columns whose equal values mean pictures that belong together, by the names that people give them.
BELONGING = ("registration", "group", "session", "thing", "object", schema.TAKEN)
# Of the pictures judged on, one in so many may be as close to one of another label by chance.
BY_CHANCE = 0.001
ROWS_AT_ONCE = 256
# A value of another column decides the label where so many rows have it and all but this share are of one label.
LEAST_ROWS = 20
BUT_FOR = 0.01
MOST_VALUES = 100
# A row of zeros has no direction; any other has, however small its numbers.
TINY = float(np.finfo(np.float32).tiny)
# The classifier is told of what concerns at least this share of the pictures it was judged on.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Doubt:
    """One thing that the two sides share.

    Attributes:
        kind: ``near_duplicates``, ``astride`` or ``decided``.
        sentence: what, for people.
        rows: bool (n,), the pictures judged on that it concerns.
        accuracy, macro_f1: without them; None where none is left.
    """

    kind: str
    sentence: str
    rows: Mask
    accuracy: float | None
    macro_f1: float | None


def find_doubts(
    judged: pd.DataFrame,
    learnt: pd.DataFrame,
    features: tuple[Floats, Floats] | None = None,
    named: str = "images judged on",
) -> list[Doubt]:
    """What makes a classifier's figures look better than they will be on other pictures.

    Args:
        judged: ``path, label, predicted`` and further label columns.
        learnt: ``path, label`` and the same label columns.
        features: float32 (n, d) of the pictures judged on, and (m, d) of those learnt from, in the frames' order, best
            centred; None: there are none.
        named: what the first are, in sentences.
    """
    found: list[tuple[str, str, Mask]] = []
    if features is not None:
        near, threshold = near_duplicates(*features, judged[schema.LABEL].tolist(), learnt[schema.LABEL].tolist())
        found.append(
            (
                "near_duplicates",
                f"{{}} look almost the same as one that was learnt from: a cosine above {threshold:.3f}, which one in"
                f" {1 / BY_CHANCE:,.0f} has with another label.",
                near,
            )
        )
    columns = [name for name in judged.columns if name not in _NO_FACTS and name in learnt.columns]
    for name in (one for one in BELONGING if one in columns):
        known, there = _values(judged, name), set(_values(learnt, name).dropna())
        shared = known.isin(there).to_numpy()
        found.append(("astride", f"{{}} share a value of {name} with one that was learnt from.", shared))
    for name in columns:
        if name not in BELONGING and (decided := _decided(judged, learnt, name)):
            values, rows = decided
            found.append(("decided", f"{{}} are told by {name} alone: {values}.", rows))
    return [_doubt(kind, sentence, rows, judged, named) for kind, sentence, rows in found if rows.mean() >= LEAST_SHARE]


_NO_FACTS = frozenset({schema.PATH, schema.LABEL, schema.SPLIT, schema.PREDICTED, schema.PROBABILITIES})


def near_duplicates(
    judged: Floats, learnt: Floats, judged_labels: Sequence[str], learnt_labels: Sequence[str]
) -> tuple[Mask, float]:
    """Which pictures judged on are closer to one of their label than pictures of different labels come to each other.

    Args:
        judged, learnt: float32 (n, d) and (m, d).
        judged_labels, learnt_labels: of each row.

    Returns:
        bool (n,), and the cosine from which on it is so: what one in a thousand reaches with the nearest of another
        label.
    """
    places = {label: i for i, label in enumerate(sorted({*judged_labels, *learnt_labels}))}
    own, theirs = (np.array([places[label] for label in labels]) for labels in (judged_labels, learnt_labels))
    one, other = _unit(judged), _unit(learnt)
    same, different = np.full(len(one), -1, np.float32), np.full(len(one), -1, np.float32)
    for first in range(0, len(one), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        cosines = one[rows] @ other.T
        alike = own[rows, None] == theirs[None, :]
        same[rows] = np.where(alike, cosines, -1).max(axis=1, initial=-1)
        different[rows] = np.where(alike, -1, cosines).max(axis=1, initial=-1)
    threshold = float(np.quantile(different, 1 - BY_CHANCE)) if len(different) else 1.0
    return same > threshold, threshold


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY), np.float32)


def _values(frame: pd.DataFrame, name: str) -> pd.Series[str]:
    values = frame[name].where(frame[name].isna(), frame[name].astype(str))
    return values.str[:10] if name == schema.TAKEN else values


def _decided(judged: pd.DataFrame, learnt: pd.DataFrame, name: str) -> tuple[str, Mask] | None:
    """Values of a column that all but a few rows of one label have, and the rows judged on with them."""
    values = _values(learnt, name)
    if not 2 <= values.nunique() <= MOST_VALUES:
        return None
    told = []
    for value, labels in learnt[schema.LABEL].groupby(values):
        shares = labels.value_counts(normalize=True)
        if len(labels) >= LEAST_ROWS and shares.iloc[0] >= 1 - BUT_FOR:
            told.append((str(value), str(shares.index[0])))
    # A finer label decides the coarser one always, and says nothing of the split.
    if not told or len(told) == values.nunique():
        return None
    rows = _values(judged, name).isin([value for value, _ in told]).to_numpy()
    shown = ", ".join(f"{value!r} is {label!r}" for value, label in told[:5])
    return shown + (f" and {len(told) - 5} more" if len(told) > 5 else ""), rows


def _doubt(kind: str, sentence: str, rows: Mask, judged: pd.DataFrame, named: str) -> Doubt:
    # Names and values may have braces of their own.
    sentence = sentence.replace("{}", f"{int(rows.sum()):,} of {len(rows):,} {named}", 1)
    left = judged[~rows]
    if not len(left):
        return Doubt(kind, sentence, rows, None, None)
    truth, predicted = left[schema.LABEL], left[schema.PREDICTED]
    places = {label: i for i, label in enumerate(sorted({*truth, *predicted}))}
    numbers, said = (np.array([places[label] for label in labels], np.int64) for labels in (truth, predicted))
    accuracy = float((truth == predicted).mean())
    return Doubt(kind, sentence, rows, accuracy, macro_f1(numbers, said, np.ones(len(left))))
