"""Principal components from one pass: mean and scatter, eigenvectors, how many to keep. Pure numpy.

``Moments`` are gathered on executors and merged on the driver; ``Projection`` is used on both, and by serving.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mirabelle.errors import TrainingError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What PCA needs of a set of rows; a set's moments are its parts' moments merged, in any order.

    Attributes:
        count: rows.
        mean: float64 (width,).
        scatter: float64 (width, width), the sum over rows of (x - mean)(x - mean)'.
    """

    count: int
    mean: Matrix
    scatter: Matrix

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating]) -> Moments:
        """Moments of (n, width) rows, n at least 1; summed in float64 whatever the rows are."""
        values = rows.astype(np.float64)
        mean = values.mean(axis=0)
        values -= mean
        return cls(len(values), mean, values.T @ values)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together.

        The pairwise update of Chan, Golub and LeVeque (1979): it never subtracts two large sums, as
        ``E[xx'] - mean mean'`` would, so features far from zero lose no digits.
        """
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        scatter = self.scatter + other.scatter
        scatter += np.outer(delta, delta) * (self.count * other.count / count)
        return Moments(count, mean, scatter)

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file."""
        sink = io.BytesIO()
        np.savez(sink, count=self.count, mean=self.mean, scatter=self.scatter)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Moments:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(int(arrays["count"]), arrays["mean"], arrays["scatter"])


@dataclass(frozen=True)
class Projection:
    """A fitted PCA: ``(x - mean) @ components.T``.

    Attributes:
        mean: float64 (width,).
        components: float64 (k, width), orthonormal rows, most variance first; the entry of largest magnitude in each
            is positive, so that runs agree.
        explained_variance: float64 (min(rows - 1, width),), of every component, kept or not; divided by rows - 1.
        rows: it was fitted on.
    """

    mean: Matrix
    components: Matrix
    explained_variance: Matrix
    rows: int

    @property
    def explained_variance_ratio(self) -> Matrix:
        """Each component's share of all variance."""
        return np.asarray(self.explained_variance / self.explained_variance.sum())

    def apply(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """(n, width) to float32 (n, k)."""
        return ((rows.astype(np.float64) - self.mean) @ self.components.T).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file with arrays ``mean, components, explained_variance, explained_variance_ratio, rows``."""
        sink = io.BytesIO()
        np.savez(
            sink,
            mean=self.mean,
            components=self.components,
            explained_variance=self.explained_variance,
            explained_variance_ratio=self.explained_variance_ratio,
            rows=self.rows,
        )
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Projection:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["mean"], arrays["components"], arrays["explained_variance"], int(arrays["rows"]))


def fit(moments: Moments, variance: float, components: int | None = None) -> Projection:
    """Principal components of centred, unscaled rows.

    Args:
        moments: of all rows.
        variance: share to reach with the fewest components, in (0, 1].
        components: or exactly this many.

    Raises:
        TrainingError: too few rows, all of them alike, or more components asked for than there are.
    """
    if moments.count < 2:
        raise TrainingError(f"PCA needs at least 2 rows of features, and there is {moments.count}")
    available = min(moments.count - 1, len(moments.mean))
    values, vectors = np.linalg.eigh(moments.scatter)
    # eigh sorts upwards; rounding can leave tiny negative values where there is no variance left.
    explained = np.clip(values[::-1][:available], 0.0, None) / (moments.count - 1)
    if explained[0] <= 0:
        raise TrainingError("PCA finds no variance: all rows of features are the same; are the pictures?")
    if components is None:
        components = fewest_components(explained, variance)
    elif components > available:
        raise TrainingError(
            f"reduce.components is {components}, but {moments.count} rows of {len(moments.mean)} features have only"
            f" {available}"
        )
    axes = vectors[:, ::-1][:, :components].T
    strongest = axes[np.arange(components), np.abs(axes).argmax(axis=1)]
    return Projection(moments.mean, np.ascontiguousarray(axes * np.sign(strongest)[:, None]), explained, moments.count)


def fewest_components(explained_variance: Matrix, variance: float) -> int:
    """The fewest leading components whose share of variance reaches ``variance``."""
    share = np.cumsum(explained_variance) / explained_variance.sum()
    # Without the slack, variance 1.0 could ask for one component more than there is.
    return min(int(np.searchsorted(share, variance - 1e-12)) + 1, len(share))
