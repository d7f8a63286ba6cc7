"""The sketch against the exact PCA."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirabelle.errors import TrainingError
from mirabelle.reduction import Moments, Projection, Sketch, SketchSum, fit, fit_sketch, next_basis


def _low_rank_and_noise(count: int, width: int, rank: int, noise: float, offset: float = 3.0) -> np.ndarray:
    random = np.random.default_rng(0)
    strong = random.normal(size=(count, rank)) * np.geomspace(10, 1, rank) @ random.normal(size=(rank, width))
    return (strong + noise * random.normal(size=(count, width)) + offset).astype(np.float32)


def _sketch(rows: np.ndarray, basis: np.ndarray, parts: int = 1) -> Sketch:
    total = SketchSum(basis)
    for part in np.array_split(rows, parts):
        own = SketchSum(basis)
        own.add(part)
        total.merge(Sketch.from_bytes(own.result().to_bytes()))
    return total.result()


def _exact(rows: np.ndarray) -> Moments:
    """In float64, as a sketch multiplies; float32 rows would be multiplied in float32."""
    return Moments.of(rows.astype(np.float64))


def _approximate(rows: np.ndarray, columns: int, passes: int, components: int) -> Projection:
    product = None
    for number in range(passes):
        basis = next_basis(product, rows.shape[1], columns, number)
        sketch = _sketch(rows, basis)
        product = sketch.product
    return fit_sketch(sketch, basis, 0.8, components)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([0.0, 1e3, -1e4]))
def test_it_is_the_scatters_product_however_rows_are_parted(seed: int, parts: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    rows = (random.normal(size=(100, 8)) + offset).astype(np.float32)
    basis = next_basis(None, 8, 3, seed)
    sketch, exact = _sketch(rows, basis, parts), _exact(rows)
    assert sketch.count == 100
    np.testing.assert_allclose(sketch.mean, exact.mean, rtol=1e-12)
    np.testing.assert_allclose(sketch.total, np.trace(exact.scatter), rtol=1e-9)
    np.testing.assert_allclose(sketch.product, exact.scatter @ basis, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_low_rank_and_noise_is_found_in_a_few_passes() -> None:
    rows = _low_rank_and_noise(400, 300, 10, 0.5)
    exact, found = fit(_exact(rows), 0.8, 10), _approximate(rows, 20, 3, 10)
    np.testing.assert_allclose(found.explained_variance[:10], exact.explained_variance[:10], rtol=1e-6)
    np.testing.assert_allclose(found.total_variance, exact.total_variance, rtol=1e-9)
    cosines = np.linalg.svd(found.components @ exact.components.T, compute_uv=False)
    assert np.sqrt(1 - min(1.0, cosines.min()) ** 2) < 1e-3
    assert found.available == exact.available == 300


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_no_share_is_overstated_and_each_pass_betters_it(passes: int) -> None:
    rows = _low_rank_and_noise(300, 200, 60, 2.0)
    exact = fit(_exact(rows), 0.8, 15)
    fewer, more = _approximate(rows, 25, passes, 15), _approximate(rows, 25, passes + 1, 15)
    for found in (fewer, more):
        assert (found.explained_variance <= exact.explained_variance[:25] * (1 + 1e-9)).all()
    assert fewer.explained_variance[:15].sum() <= more.explained_variance[:15].sum() * (1 + 1e-9)


def test_as_many_columns_as_ranks_is_exact_at_once() -> None:
    rows = _low_rank_and_noise(30, 200, 5, 0.1)
    exact, found = fit(_exact(rows), 0.999), _approximate(rows, 40, 1, 12)
    assert len(found.explained_variance) == 29
    np.testing.assert_allclose(found.explained_variance, exact.explained_variance, rtol=1e-6)


def test_what_exact_pca_refuses_is_refused() -> None:
    basis = next_basis(None, 4, 2, 0)
    with pytest.raises(TrainingError, match="at least 2 rows"):
        fit_sketch(_sketch(np.ones((1, 4)), basis), basis, 0.8)
    with pytest.raises(TrainingError, match="a sketch of 4 features finds 2"):
        fit_sketch(_sketch(np.random.default_rng(0).normal(size=(9, 4)), basis), basis, 0.8, 3)
    with pytest.raises(TrainingError, match="all rows of features are the same"):
        fit_sketch(_sketch(np.ones((5, 4)), basis), basis, 0.8)
