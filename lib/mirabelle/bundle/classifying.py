"""A classifier as arrays, and what it says of rows: numpy in float64, as Spark ML computes. Touches nothing.

OpenVINO's CPU plugin computes in float32, or in bf16 where the network does; a tree's threshold or a steep logistic
curve would make more of that difference than the 1e-5 that serving may be off.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.errors import BundleError

Rows = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]

# Bounds memory: a forest holds what every tree says of every row.
ROWS_AT_ONCE = 256
# Spark's own limit on maxDepth is 30.
MOST_DEPTH = 64


@dataclass(frozen=True)
class Classifier:
    """What turns a row of features into probabilities.

    Attributes:
        kind: how raw scores are made, a key of ``_SCORES``.
        link: how they become probabilities, a key of ``_LINKS``.
        arrays: what it learnt; names and shapes are those of the function of ``kind``.
        thresholds: what each class's probability is divided by before the largest wins; empty: nothing.
    """

    kind: str
    link: str
    arrays: Arrays
    thresholds: tuple[float, ...] = ()

    def probabilities(self, rows: npt.NDArray[np.floating[Any]]) -> Rows:
        """(n, width) into float64 (n, classes)."""
        parts = [rows[first : first + ROWS_AT_ONCE] for first in range(0, max(1, len(rows)), ROWS_AT_ONCE)]
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            found = [_LINKS[self.link](_SCORES[self.kind](self.arrays, part.astype(np.float64))) for part in parts]
        return np.concatenate(found)

    def chosen(self, probabilities: Rows) -> npt.NDArray[np.int64]:
        """The class that wins, int64 (n,); the first of several that are even, as in Spark ML."""
        if not self.thresholds:
            return np.asarray(probabilities.argmax(axis=1), np.int64)
        bars = np.array(self.thresholds)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(bars > 0, probabilities / bars, np.inf)
        return np.asarray(scaled.argmax(axis=1), np.int64)

    def check(self, width: int, classes: int, name: str) -> None:
        """Raise ``BundleError`` unless it takes rows of ``width`` and gives so many ``classes``; runs it on one row."""
        if self.kind not in _SCORES or self.link not in _LINKS:
            raise BundleError(
                f"{name}: a classifier of kind {self.kind}/{self.link} is not known here; update mirabelle"
            )
        try:
            if self.kind == "trees":
                _check_trees(self.arrays, width)
            found = self.probabilities(np.zeros((1, width)))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise BundleError(f"{name}: its arrays do not fit together ({error}); bundle it again") from error
        if found.shape != (1, classes) or len(self.thresholds) not in (0, classes):
            raise BundleError(
                f"{name}: it tells {found.shape[1]} classes apart, with {len(self.thresholds)} thresholds, and has"
                f" {classes} labels; bundle it again"
            )

    def to_bytes(self) -> bytes:
        """Its arrays as an ``.npz`` file."""
        sink = io.BytesIO()
        np.savez(sink, **self.arrays)  # type: ignore[arg-type]
        return sink.getvalue()


def read_arrays(content: bytes, name: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` file; nothing pickled, nothing that unpacks to more than it is.

    Raises:
        BundleError: it is none, or holds such.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                raise BundleError(f"{name}: its arrays are packed, which none of ours are; do not trust this bundle")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{name} holds no arrays ({error}); bundle it again") from error


def linear(weights: npt.ArrayLike, intercepts: npt.ArrayLike) -> dict[str, Rows]:
    """The arrays of kind ``linear``: weights (m, width), intercepts (m,)."""
    return {"weights": np.array(weights, np.float64), "intercepts": np.array(intercepts, np.float64)}


def _linear(arrays: Arrays, rows: Rows) -> Rows:
    return np.asarray(rows @ arrays["weights"].T + arrays["intercepts"])


def _gaussian(arrays: Arrays, rows: Rows) -> Rows:
    """Logarithms of priors (m,) and densities, of means and variances (m, width)."""
    scores = []
    for prior, mean, variance in zip(arrays["priors"], arrays["means"], arrays["variances"], strict=True):
        distances = ((rows - mean) ** 2 / variance).sum(axis=1)
        scores.append(prior - (distances + np.log(variance).sum()) / 2)
    return np.stack(scores, axis=1)


def _perceptron(arrays: Arrays, rows: Rows) -> Rows:
    """Layers ``weights_i`` (out, in) and ``intercepts_i`` (out,) with a logistic curve behind all but the last."""
    many = len(arrays) // 2
    for i in range(many):
        rows = rows @ arrays[f"weights_{i}"].T + arrays[f"intercepts_{i}"]
        if i + 1 < many:
            rows = 1 / (1 + np.exp(-rows))
    return rows


def _factors(arrays: Arrays, rows: Rows) -> Rows:
    """A linear part, and for each pair of features the product of both with their factors (m, width, k).

    S. Rendle, Factorization Machines, 2010, lemma 3.1.
    """
    pairs = [((rows @ one) ** 2 - rows**2 @ one**2).sum(axis=1) / 2 for one in arrays["factors"]]
    return np.asarray(_linear(arrays, rows) + np.stack(pairs, axis=1))


def _check_trees(arrays: Arrays, width: int) -> None:
    """Raise ``ValueError`` where a row could lead to no node or feature, or on and on."""
    nodes = len(arrays["left"])
    for name, most in (("roots", nodes), ("left", nodes), ("right", nodes), ("feature", width)):
        if not ((arrays[name] >= 0) & (arrays[name] < most)).all():
            raise ValueError(f"{name} leads out of the trees")
    if not 0 <= int(arrays["depth"]) <= MOST_DEPTH:
        raise ValueError(f"trees of depth {int(arrays['depth'])}")


def _trees(arrays: Arrays, rows: Rows) -> Rows:
    """Sums of what the leaves say.

    ``roots`` (trees,), ``left``, ``right``, ``feature`` and ``threshold`` (nodes,), ``values`` (nodes, m): a row goes
    left where its feature is at most the threshold. A leaf leads to itself, so ``depth`` steps reach all of them.
    """
    left, right, feature, threshold = (arrays[name] for name in ("left", "right", "feature", "threshold"))
    at = np.tile(arrays["roots"], (len(rows), 1))
    own = np.arange(len(rows))[:, None]
    for _ in range(int(arrays["depth"])):
        at = np.where(rows[own, feature[at]] <= threshold[at], left[at], right[at])
    found = np.zeros((len(rows), arrays["values"].shape[1]))
    # Tree by tree, as Spark adds them: to the last bit, so that classes that are even stay so.
    for tree in at.T:
        found += arrays["values"][tree]
    return found


_SCORES: dict[str, Callable[[Arrays, Rows], Rows]] = {
    "linear": _linear,
    "gaussian": _gaussian,
    "perceptron": _perceptron,
    "factors": _factors,
    "trees": _trees,
}


def _softmax(scores: Rows) -> Rows:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _both(second: Rows) -> Rows:
    return np.hstack([1 - second, second])


_LINKS: dict[str, Callable[[Rows], Rows]] = {
    "softmax": _softmax,
    # Two classes, one score, which speaks for the second.
    "logistic": lambda scores: _both(1 / (1 + np.exp(-scores))),
    "boosted": lambda scores: _both(1 / (1 + np.exp(-2 * scores))),
    # As ``spark/classify.py`` makes shares of the margins of a classifier that has no probabilities.
    "margins": lambda scores: _softmax(np.hstack([-scores, scores])),
    "shares": lambda scores: np.asarray(scores / scores.sum(axis=1, keepdims=True)),
}
