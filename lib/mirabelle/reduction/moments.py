"""Mean and scatter of a set of rows: all that an exact PCA needs of them. Pure numpy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mirabelle.reduction.sums import CentredSum, Matrix, block_rows

__all__ = ["Matrix", "Moments", "MomentsSum", "block_rows"]

# Columns of the scatter matrix that are added to at a time, so that no product is as large as the matrix itself.
PANEL = 1024


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
    """Moments in the making: one matrix, added to in place."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        # Only the diagonal and what is right of it until it is done.
        self._scatter: Matrix = np.zeros((width, width))

    @classmethod
    def continuing(cls, known: Moments) -> MomentsSum:
        """A sum that has those moments already; it takes their matrix over."""
        total = cls(0)
        total.count, total.mean, total._scatter = known.count, known.mean.copy(), known.scatter
        total._buffer = np.empty((0, len(known.mean)))
        return total

    def merge(self, other: Moments) -> None:
        """Add another set's moments, which are not changed."""
        if not other.count:
            return
        row = self._move(other.count, other.mean)
        for panel in self._panels():
            end = panel.stop
            self._scatter[:end, panel] += other.scatter[:end, panel]
            self._scatter[:end, panel] += np.outer(row[:end], row[panel])

    def result(self) -> Moments:
        """The moments; they hold this sum's own matrix, so add nothing more."""
        _mirror(self._scatter)
        return Moments(self.count, self.mean, self._scatter)

    def _add_product(self, block: Matrix) -> None:
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
        below = np.tril_indices(end - start, -1)
        corner[below] = corner.T[below]
