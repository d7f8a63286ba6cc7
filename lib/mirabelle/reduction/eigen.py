"""Eigenvalues of a symmetric matrix, all of them, and eigenvectors, only those wanted, for one reduction. LAPACK."""

from __future__ import annotations

from typing import Any

import numpy as np

from mirabelle.reduction.sums import Matrix


class Eigen:
    """A symmetric matrix brought to tridiagonal form, the costliest step, so that values and vectors share it.

    ``numpy.linalg.eigh`` finds every vector, in twice the time and three times the memory; asking LAPACK's drivers for
    values first and some vectors afterwards reduces the matrix twice. The four routines are those of ``dsyevr``.

    Args:
        matrix: float64 (n, n), of which the diagonal and what is right of it are read; it is overwritten.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._lapack = _lapack()
        n = len(matrix)
        work = int(self._lapack.dsytrd_lwork(n, lower=1)[0])
        # What is above the diagonal is below it in the transpose, which LAPACK takes without a copy.
        self._reflectors, self._diagonal, self._beside, self._tau, _ = self._lapack.dsytrd(
            matrix.T, lwork=work, lower=1, overwrite_a=1
        )

    def values(self) -> Matrix:
        """All n eigenvalues, largest first.

        Raises:
            numpy.linalg.LinAlgError: the matrix holds what is no number.
        """
        if len(self._diagonal) == 1:
            return np.asarray(self._diagonal)
        values, failed = self._lapack.dsterf(self._diagonal, self._beside)
        if failed:
            raise np.linalg.LinAlgError(f"dsterf failed to find {failed} eigenvalues")
        return np.asarray(values[::-1])

    def vectors(self, count: int) -> Matrix:
        """Eigenvectors of the ``count`` largest eigenvalues, float64 (count, n), orthonormal rows."""
        n = len(self._diagonal)
        if n == 1:
            return np.ones((1, 1))
        by_index, beside = 2, np.append(self._beside, 0.0)
        found, _, vectors, failed = self._lapack.dstemr(self._diagonal, beside, by_index, 0.0, 0.0, n - count + 1, n)
        if failed or found != count:
            raise np.linalg.LinAlgError(f"dstemr found {found} of {count} eigenvectors ({failed})")
        # The reflectors stand below the first row, and leave it as it is (dormtr, which SciPy does not have).
        rest, _, _ = self._lapack.dormqr(
            "L", "N", np.asfortranarray(self._reflectors[1:, :-1]), self._tau, np.asfortranarray(vectors[1:, :count]),
            64 * count, overwrite_c=1,
        )  # fmt: skip
        return np.ascontiguousarray(np.vstack([vectors[:1, :count], rest])[:, ::-1].T)


def _lapack() -> Any:
    # The driver's package; workers need none of this.
    from scipy.linalg import lapack

    return lapack
