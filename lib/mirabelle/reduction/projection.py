"""A fitted PCA, and how it is made of moments. numpy; LAPACK where it is fitted."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mirabelle.errors import TrainingError
from mirabelle.reduction.eigen import Eigen
from mirabelle.reduction.moments import Moments
from mirabelle.reduction.sums import Matrix


@dataclass(frozen=True)
class Projection:
    """A fitted PCA: ``(x - mean) @ components.T``.

    Attributes:
        mean: float64 (width,).
        components: float64 (k, width), orthonormal rows, most variance first; the entry of largest magnitude in each
            is positive, so that runs agree.
        explained_variance: float64 (m,), of every component that is known, kept or not; divided by rows - 1. All
            min(rows - 1, width) are known from moments, the leading ones from a sketch.
        rows: it was fitted on.
        total_variance: of all components, known or not.
    """

    mean: Matrix
    components: Matrix
    explained_variance: Matrix
    rows: int
    total_variance: float

    @property
    def explained_variance_ratio(self) -> Matrix:
        """Each known component's share of all variance."""
        return np.asarray(self.explained_variance / self.total_variance)

    @property
    def available(self) -> int:
        """Components there are, known or not."""
        return min(self.rows - 1, len(self.mean))

    def apply(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """(n, width) to float32 (n, k)."""
        return ((rows.astype(np.float64) - self.mean) @ self.components.T).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file with arrays named as the attributes, and ``explained_variance_ratio``."""
        sink = io.BytesIO()
        np.savez(
            sink,
            mean=self.mean,
            components=self.components,
            explained_variance=self.explained_variance,
            explained_variance_ratio=self.explained_variance_ratio,
            rows=self.rows,
            total_variance=self.total_variance,
        )
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Projection:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            explained = arrays["explained_variance"]
            # Files from before there were sketches know all components.
            total = float(arrays["total_variance"]) if "total_variance" in arrays else float(explained.sum())
            return cls(arrays["mean"], arrays["components"], explained, int(arrays["rows"]), total)


def fit(moments: Moments, variance: float, components: int | None = None) -> Projection:
    """Principal components of centred, unscaled rows.

    Args:
        moments: of all rows; their matrix is overwritten.
        variance: share to reach with the fewest components, in (0, 1].
        components: or exactly this many.

    Raises:
        TrainingError: too few rows, all of them alike, or more components asked for than there are.
    """
    total = float(np.trace(moments.upper)) / max(1, moments.count - 1)
    available = check_rows(moments.count, len(moments.mean), total, components)
    eigen = Eigen(moments.upper)
    # Rounding can leave tiny negative values where there is no variance left.
    explained = np.clip(eigen.values()[:available], 0.0, None) / (moments.count - 1)
    kept = components or fewest_components(explained, variance)
    axes = fix_signs(eigen.vectors(kept))
    return Projection(moments.mean, axes, explained, moments.count, float(explained.sum()))


def check_rows(count: int, width: int, total_variance: float, components: int | None) -> int:
    """How many components there are.

    Raises:
        TrainingError: there is no variance, or fewer than ``components``.
    """
    if count < 2:
        raise TrainingError(f"PCA needs at least 2 rows of features, and there is {count}")
    if not np.isfinite(total_variance):
        raise TrainingError("PCA finds features that are no numbers (NaN or infinite); embed those pictures again")
    if total_variance <= 0:
        raise TrainingError("PCA finds no variance: all rows of features are the same; are the pictures?")
    available = min(count - 1, width)
    if components is not None and components > available:
        raise TrainingError(
            f"reduce.components is {components}, but {count} rows of {width} features have only {available}"
        )
    return available


def fix_signs(axes: Matrix) -> Matrix:
    """The same axes, (k, width), each with its entry of largest magnitude positive."""
    strongest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    axes *= np.sign(strongest)[:, None]
    return axes


def fewest_components(explained_variance: Matrix, variance: float, total: float | None = None) -> int:
    """The fewest leading components whose share of variance reaches ``variance``; all, if it isn't reached.

    Args:
        explained_variance: of each component, descending.
        variance: the share.
        total: of all components, if those are not all; None: their sum.
    """
    share = np.cumsum(explained_variance) / (total or explained_variance.sum())
    # Without the slack, variance 1.0 could ask for one component more than there is.
    return min(int(np.searchsorted(share, variance - 1e-12)) + 1, len(share))
