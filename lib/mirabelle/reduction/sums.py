"""Adding rows up block by block, in place: what the exact moments and the sketch have in common. Pure numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]

BLOCK_BYTES = 2**27
MOST_BLOCK_ROWS = 4096


def block_rows(width: int) -> int:
    """Rows to multiply at a time: enough that adding the product up costs little, and a bounded share of memory."""
    return max(64, min(MOST_BLOCK_ROWS, BLOCK_BYTES // (8 * width)))


class CentredSum(ABC):
    """Count, mean, and a product of the centred rows with themselves, summed in float64 whatever the rows are.

    A block is centred by its own mean. What that leaves out of the product, the pairwise update of Chan, Golub and
    LeVeque (1979), has rank one: it goes in as one more row, ``sqrt(n m / (n + m)) (mean of the block - mean so far)``.
    Large sums are never subtracted, so features far from zero lose no digits.

    Attributes:
        count: rows so far.
        mean: float64 (width,).
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Matrix = np.zeros(width)
        self._buffer: Matrix = np.empty((0, width))

    def add(self, rows: Rows) -> None:
        """Add (n, width) rows."""
        most = block_rows(len(self.mean))
        for start in range(0, len(rows), most):
            self._add_block(rows[start : start + most])

    def _add_block(self, rows: Rows) -> None:
        count = len(rows)
        if len(self._buffer) <= count:
            self._buffer = np.empty((count + 1, len(self.mean)))
        block = self._buffer[: count + 1]
        block[:count] = rows
        mean = block[:count].mean(axis=0)
        block[:count] -= mean
        block[count] = self._move(count, mean)
        self._add_product(block)

    def _move(self, count: int, mean: Matrix) -> Matrix:
        """Take so many rows of that mean into count and mean; returns the row that the product lacks for it."""
        delta = mean - self.mean
        both = self.count + count
        row = delta * np.sqrt(self.count * count / both)
        self.mean += delta * (count / both)
        self.count = both
        return np.asarray(row)

    @abstractmethod
    def _add_product(self, block: Matrix) -> None:
        """Add what centred rows contribute."""
