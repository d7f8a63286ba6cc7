"""Mean and scatter of a set of rows: all that an exact PCA needs of them. Pure numpy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mirabelle.reduction.sums import CentredSum, Matrix, Rows, block_rows

__all__ = ["Matrix", "Moments", "MomentsSum", "block_rows"]

# Columns of the scatter matrix that are added to at a time, so that a product is in the cache when it is added.
PANEL = 512


@dataclass(frozen=True)
class Moments:
    """What PCA needs of a set of rows; a set's moments are its parts' moments merged, in any order.

    Attributes:
        count: rows.
        mean: float64 (width,).
        upper: float64 (width, width), the sum over rows of (x - mean)(x - mean)' from its diagonal to the right; what
            is left of that is undefined.
    """

    count: int
    mean: Matrix
    upper: Matrix

    @property
    def scatter(self) -> Matrix:
        """The whole of that symmetric sum, a copy."""
        return np.triu(self.upper) + np.triu(self.upper, 1).T

    @classmethod
    def of(cls, rows: Rows) -> Moments:
        """Moments of (n, width) rows, n at least 1, as ``MomentsSum.add`` takes them."""
        total = MomentsSum(rows.shape[1])
        total.add(rows)
        return total.result()

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together; neither is changed."""
        total = MomentsSum(len(self.mean))
        total.merge(self)
        total.merge(other)
        return total.result()

    def to_bytes(self, about: str = "") -> bytes:
        """As an ``.npz`` file with arrays ``count, mean, triangle, about``.

        ``triangle`` is the scatter matrix from its diagonal to the right, row by row; ``about`` is any text.
        """
        sink = io.BytesIO()
        width = len(self.mean)
        triangle = np.empty(width * (width + 1) // 2)
        for row, place in _triangle(width):
            triangle[place] = self.upper[row, row:]
        np.savez(sink, count=self.count, mean=self.mean, triangle=triangle, about=about)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Moments:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            mean, triangle = arrays["mean"], arrays["triangle"]
            upper = np.zeros((len(mean), len(mean)))
            for row, place in _triangle(len(mean)):
                upper[row, row:] = triangle[place]
            return cls(int(arrays["count"]), mean, upper)


class MomentsSum(CentredSum):
    """Moments in the making: one matrix of float64, added to in place; float32 rows are multiplied in float32."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self._upper: Matrix = np.zeros((width, width))

    @classmethod
    def continuing(cls, known: Moments) -> MomentsSum:
        """A sum that has those moments already; it takes their matrix over."""
        total = cls(0)
        total.count, total.mean, total._upper = known.count, known.mean.copy(), known.upper
        return total

    def merge(self, other: Moments) -> None:
        """Add another set's moments, which are not changed."""
        if not other.count:
            return
        for panel in self._panels():
            self._upper[: panel.stop, panel] += other.upper[: panel.stop, panel]
        self._add_product(self._move(other.count, other.mean)[None])

    def result(self) -> Moments:
        """The moments; they hold this sum's own matrix, so add nothing more."""
        return Moments(self.count, self.mean, self._upper)

    def _add_product(self, block: Rows) -> None:
        for panel in self._panels():
            right = block[:, panel]
            # The product of an array with itself is one of BLAS's symmetric ones, at half the work.
            self._upper[panel, panel] += right.T @ right
            if panel.start:
                self._upper[: panel.start, panel] += block[:, : panel.start].T @ right

    def _panels(self) -> Iterator[slice]:
        width = len(self.mean)
        return (slice(start, min(start + PANEL, width)) for start in range(0, width, PANEL))


def _triangle(width: int) -> Iterator[tuple[int, slice]]:
    """Each row of a triangle of that width, and its place in the file."""
    start = 0
    for row in range(width):
        yield row, slice(start, start + width - row)
        start += width - row
