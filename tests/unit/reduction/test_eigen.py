import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle.errors import TrainingError
from mirabelle.reduction import Moments, fit
from mirabelle.reduction.eigen import Eigen


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 60), st.integers(1, 80))
def test_equals_numpy(seed: int, width: int, kept: int, rank: int) -> None:
    """Of full rank and less, whatever part of the vectors is wanted, and whatever is left of the diagonal."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(rank, width)) * np.geomspace(10, 0.1, width)
    matrix, kept = rows.T @ rows, min(kept, width)
    values = np.linalg.eigvalsh(matrix)[::-1]
    eigen = Eigen(np.where(np.tri(width, k=-1), np.nan, matrix))
    np.testing.assert_allclose(eigen.values(), values, atol=1e-11 * values[0])
    vectors = eigen.vectors(kept)
    assert vectors.shape == (kept, width)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(kept), atol=1e-10)
    np.testing.assert_allclose(matrix @ vectors.T, vectors.T * values[:kept], atol=1e-9 * values[0])


def test_features_that_are_no_numbers_are_told_of() -> None:
    rows = np.ones((5, 4), np.float32)
    rows[2, 1] = np.nan
    with pytest.raises(TrainingError, match="no numbers"):
        fit(Moments.of(rows), 0.8)
