"""PCA of rows too wide for their scatter matrix: randomised subspace iteration, a pass over the rows each. numpy.

Halko, Martinsson and Tropp (2011) with the Nystrom approximation at the end (Tropp, Yurtsever, Udell and Cevher 2017).
With S the scatter matrix and Q some orthonormal columns, each pass over the rows gives S Q without S; its range is the
next Q. Count, mean and total variance are exact from any pass, and no share of variance is ever overstated.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from mirabelle.errors import TrainingError
from mirabelle.reduction.projection import Projection, check_rows, fewest_components, fix_signs
from mirabelle.reduction.sums import CentredSum, Matrix, Rows


@dataclass(frozen=True)
class Sketch:
    """What a pass gathers.

    Attributes:
        count: rows.
        mean: float64 (width,).
        total: sum of the squared distances of all rows from the mean.
        product: float64 (width, l), the scatter matrix times the pass's basis.
    """

    count: int
    mean: Matrix
    total: float
    product: Matrix

    def to_bytes(self) -> bytes:
        """As an ``.npz`` file."""
        sink = io.BytesIO()
        np.savez(sink, count=self.count, mean=self.mean, total=self.total, product=self.product)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Sketch:
        """The inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(int(arrays["count"]), arrays["mean"], float(arrays["total"]), arrays["product"])


class SketchSum(CentredSum):
    """A sketch in the making.

    Args:
        basis: float64 (width, l), the same for all sums that are to be merged.
    """

    precision = np.float64

    def __init__(self, basis: Matrix) -> None:
        super().__init__(len(basis))
        self._basis = basis
        self._total = 0.0
        self._product: Matrix = np.zeros(basis.shape)

    def merge(self, other: Sketch) -> None:
        """Add another set's sketch, which is not changed."""
        if not other.count:
            return
        self._add_product(self._move(other.count, other.mean)[None])
        self._total += other.total
        self._product += other.product

    def result(self) -> Sketch:
        """The sketch; it holds this sum's own matrix, so add nothing more."""
        return Sketch(self.count, self.mean, self._total, self._product)

    def _add_product(self, block: Rows) -> None:
        self._total += float(np.vdot(block, block))
        self._product += block.T @ (block @ self._basis)


def next_basis(product: Matrix | None, width: int, columns: int, seed: int) -> Matrix:
    """The basis of the next pass: orthonormal float64 (width, columns).

    Args:
        product: of the pass before, whose range comes first; None: there was none.
        width: of the rows.
        columns: as many as that product's, or more, which are random.
        seed: of the random ones.
    """
    known = np.empty((width, 0)) if product is None else product
    fresh = np.random.default_rng(seed).standard_normal((width, columns - known.shape[1]))
    if known.size:
        # Columns of like size, so that none is lost to rounding beside the others.
        known = known / np.maximum(np.linalg.norm(known, axis=0), np.finfo(np.float64).tiny)
    return np.asarray(np.linalg.qr(np.hstack([known, fresh]))[0])


def fit_sketch(sketch: Sketch, basis: Matrix, variance: float, components: int | None = None) -> Projection:
    """Principal components of centred, unscaled rows, as far as a pass's basis shows them.

    Args:
        sketch: of all rows.
        basis: of that pass, orthonormal.
        variance: share to reach with the fewest components; if it is not reached, all that are known are kept.
        components: or exactly this many, at most the basis's columns.

    Raises:
        TrainingError: too few rows, all of them alike, or more components asked for than there are.
    """
    divisor = max(1, sketch.count - 1)
    total = sketch.total / divisor
    available = check_rows(sketch.count, len(sketch.mean), total, components)
    if components is not None and components > basis.shape[1]:
        raise TrainingError(
            f"reduce.components is {components}, and a sketch of {len(basis):,} features finds {basis.shape[1]:,}"
        )
    values, axes = _nystrom(basis, sketch.product)
    explained = values[:available] / divisor
    kept = components or fewest_components(explained, variance, total)
    return Projection(sketch.mean, fix_signs(np.ascontiguousarray(axes[:kept])), explained, sketch.count, total)


def _nystrom(basis: Matrix, product: Matrix) -> tuple[Matrix, Matrix]:
    """Leading eigenvalues and eigenvectors (as rows) of S from Q and S Q: those of (S Q)(Q' S Q)^-1 (S Q)'.

    It is never above S, so no eigenvalue comes out too large.
    """
    # A hair's breadth is added to S and taken away again, so that the small matrix has a Cholesky factor (their shift).
    shift = float(np.sqrt(len(basis)) * np.finfo(np.float64).eps * np.linalg.norm(product))
    shifted = product + shift * basis
    core = basis.T @ shifted
    factor = np.linalg.cholesky((core + core.T) / 2)
    # (S Q) times the factor's inverse, transposed: rows.
    root = np.linalg.solve(factor, shifted.T)
    _, singular, axes = np.linalg.svd(root, full_matrices=False)
    return np.clip(singular**2 - shift, 0.0, None), axes
