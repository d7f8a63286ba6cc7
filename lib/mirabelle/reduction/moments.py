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
        scatter: float64 (width, width), the sum over rows of (x - mean)(x - mean)'.
    """

    count: int
    mean: Matrix
    scatter: Matrix

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
            triangle[place] = self.scatter[row, row:]
        np.savez(sink, count=self.count, mean=self.mean, triangle=triangle, about=about)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Moments:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            mean, triangle = arrays["mean"], arrays["triangle"]
            scatter = np.empty((len(mean), len(mean)))
            for row, place in _triangle(len(mean)):
                scatter[row, row:] = triangle[place]
            _mirror(scatter)
            return cls(int(arrays["count"]), mean, scatter)


class MomentsSum(CentredSum):
    """Moments in the making: one matrix of float64, added to in place; float32 rows are multiplied in float32."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        # Only the diagonal and what is right of it until it is done.
        self._scatter: Matrix = np.zeros((width, width))

    @classmethod
    def continuing(cls, known: Moments) -> MomentsSum:
        """A sum that has those moments already; it takes their matrix over."""
        total = cls(0)
        total.count, total.mean, total._scatter = known.count, known.mean.copy(), known.scatter
        return total

    def merge(self, other: Moments) -> None:
        """Add another set's moments, which are not changed."""
        if not other.count:
            return
        for panel in self._panels():
            self._scatter[: panel.stop, panel] += other.scatter[: panel.stop, panel]
        self._add_product(self._move(other.count, other.mean)[None])

    def result(self) -> Moments:
        """The moments; they hold this sum's own matrix, so add nothing more."""
        _mirror(self._scatter)
        return Moments(self.count, self.mean, self._scatter)

    def _add_product(self, block: Rows) -> None:
        for panel in self._panels():
            right = block[:, panel]
            # The product of an array with itself is one of BLAS's symmetric ones, at half the work.
            self._scatter[panel, panel] += right.T @ right
            if panel.start:
                self._scatter[: panel.start, panel] += block[:, : panel.start].T @ right

    def _panels(self) -> Iterator[slice]:
        width = len(self.mean)
        return (slice(start, min(start + PANEL, width)) for start in range(0, width, PANEL))


def _triangle(width: int) -> Iterator[tuple[int, slice]]:
    """Each row of a triangle of that width, and its place in the file."""
    start = 0
    for row in range(width):
        yield row, slice(start, start + width - row)
        start += width - row


def _mirror(matrix: Matrix) -> None:
    """Copy what is above the diagonal to below it, in place."""
    for start in range(0, len(matrix), PANEL):
        end = min(start + PANEL, len(matrix))
        matrix[start:end, :start] = matrix[:start, start:end].T
        corner = matrix[start:end, start:end]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
