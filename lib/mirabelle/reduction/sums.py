"""Adding rows up block by block, in place: what the exact moments and the sketch have in common. Pure numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]

BLOCK_BYTES = 2**27
MOST_BLOCK_ROWS = 4096
# The rounding of a float32 product grows with its rows; fewer than these would cost time (docs/decisions/0002).
MOST_PRODUCT_ROWS = 1024
# Largest entry of a block whose squares float32 holds with all its digits; its inverse bounds it above.
SMALLEST = 1e-12


def block_rows(width: int) -> int:
    """Rows to add at a time: enough that what each addition costs is little, and a bounded share of memory."""
    return max(64, min(MOST_BLOCK_ROWS, BLOCK_BYTES // (8 * width)))


class CentredSum(ABC):
    """Count, mean, and a product of the centred rows with themselves, summed in float64.

    Rows are multiplied a block at a time, each block centred by its own mean. What that leaves out of the product, the
    pairwise update of Chan, Golub and LeVeque (1979), has rank one: it goes in as one more row, in float64,
    ``sqrt(n m / (n + m)) (mean of the block - mean so far)``. Large sums are never subtracted, so features far from
    zero lose no digits.

    Attributes:
        count: rows so far.
        mean: float64 (width,).
    """

    # What blocks are centred and multiplied in; None: what the rows are.
    precision: ClassVar[type[np.float64] | None] = None

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Matrix = np.zeros(width)

    def add(self, rows: Rows) -> None:
        """Add (n, width) rows, float32 or float64."""
        most = min(MOST_PRODUCT_ROWS, block_rows(len(self.mean)))
        lacking = [self._add_block(rows[start : start + most]) for start in range(0, len(rows), most)]
        if lacking:
            self._add_product(np.stack(lacking))

    def _add_block(self, rows: Rows) -> Matrix:
        """Add one block's own product; returns the row that is to be added for it."""
        mean = rows.mean(axis=0, dtype=np.float64)
        near = mean.astype(self.precision or rows.dtype)
        block = rows - near
        # Far from zero, what float32 rounds off a mean is a good part of how much the features vary. The subtraction
        # was exact there, so that part can be taken away by itself.
        block -= (mean - near).astype(block.dtype)
        # Squares of these would leave float32's range, or its digits.
        if not SMALLEST < max(block.max(), -block.min()) < 1 / SMALLEST:
            block = rows - mean
        self._add_product(block)
        return self._move(len(rows), mean)

    def _move(self, count: int, mean: Matrix) -> Matrix:
        """Take so many rows of that mean into count and mean; returns the row that the product lacks for it."""
        delta = mean - self.mean
        both = self.count + count
        row = delta * np.sqrt(self.count * count / both)
        self.mean += delta * (count / both)
        self.count = both
        return np.asarray(row)

    @abstractmethod
    def _add_product(self, block: Rows) -> None:
        """Add what centred rows contribute."""
