import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from mirabelle.errors import TrainingError
from mirabelle.reduction import Moments, MomentsSum, Projection, fewest_components, fit


def _rows(seed: int, count: int, width: int, offset: float = 0.0) -> np.ndarray:
    """Values of float32, in float64: for tests of the algebra. What float32 rounds off has tests of its own."""
    random = np.random.default_rng(seed)
    spread = np.geomspace(10, 0.1, width)
    return (random.normal(size=(count, width)) * spread + offset).astype(np.float32).astype(np.float64)


def _exactly(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the covariance and eigenvectors as columns, largest first, in float64 and all at once."""
    values, vectors = np.linalg.eigh(np.cov(rows.astype(np.float64).T))
    return values[::-1], vectors[:, ::-1]


def _far_from_zero(offset: float) -> np.ndarray:
    random = np.random.default_rng(7)
    strong = random.normal(size=(3000, 40)) * np.arange(1, 41) ** -0.5 @ random.normal(size=(40, 200)) / 6
    return strong + 0.1 * random.normal(size=(3000, 200)) + offset * random.uniform(1, 2, 200)


def _close_at_the_cut(gap: float) -> np.ndarray:
    """20 eigenvalues of 1, 20 smaller by that much, and small ones; in some basis."""
    random = np.random.default_rng(8)
    values = np.concatenate([np.ones(20), np.full(20, 1 - gap), np.full(160, 0.01)])
    axes = np.linalg.qr(random.normal(size=(200, 200)))[0]
    latent = random.normal(size=(3000, 200))
    return np.linalg.qr(latent - latent.mean(axis=0))[0] * np.sqrt(3000 * values) @ axes.T + 0.5


def _after_an_activation() -> np.ndarray:
    random = np.random.default_rng(9)
    strong = random.normal(size=(3000, 60)) * np.arange(1, 61) ** -0.6 @ random.normal(size=(60, 200))
    return np.maximum(strong * random.gamma(1, 1, 200) / 3 + 0.3 * random.normal(size=(3000, 200)) - 0.5, 0)


def _by_class() -> np.ndarray:
    """Rows in the order of three classes that lie further apart than rows of one class."""
    return _far_from_zero(0.0) + np.repeat([-5.0, 5.0, 15.0], 1000)[:, None]


@pytest.mark.slow
# The exact subspace to 1e-4, an order below what users are told, and the variance to 1e-7, likewise.
@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (_far_from_zero(0.0), 20),
        (_far_from_zero(1e3), 20),
        (_far_from_zero(1e4), 20),
        (_close_at_the_cut(1e-2), 20),
        (_close_at_the_cut(1e-3), 20),
        (_after_an_activation(), 20),
        (_after_an_activation(), 60),
        (_by_class(), 20),
        (_rows(10, 3000, 200), 100),
    ],
)
def test_float32_is_near_the_exact_subspace(made: np.ndarray, kept: int) -> None:
    rows = made.astype(np.float32)
    values, vectors = _exactly(rows)
    total = MomentsSum(200)
    # In batches that blocks don't divide, as a reader's are.
    for batch in np.split(rows, [1100, 1101, 2500]):
        total.add(batch)
    found = fit(total.result(), 0.8, kept)
    leading = vectors[:, :kept]
    outside = found.components.T - leading @ (leading.T @ found.components.T)
    assert np.linalg.norm(outside, 2) < 1e-4
    np.testing.assert_allclose(found.explained_variance_ratio, values / values.sum(), atol=1e-7)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [2.0**-80, 2.0**80])
def test_squares_that_float32_cannot_hold(scale: float) -> None:
    rows = _rows(11, 100, 8, 3.0)
    expected = Moments.of(rows).scatter
    scaled = Moments.of((rows * scale).astype(np.float32)).scatter
    np.testing.assert_allclose(scaled / scale**2, expected, rtol=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(1, 199), max_size=6), st.sampled_from([0.0, 1e3, -1e4]))
def test_float32_does_not_depend_on_how_rows_are_parted_but_for_rounding(
    seed: int, cuts: list[int], offset: float
) -> None:
    rows = _rows(seed, 200, 6, offset).astype(np.float32)
    parts = [Moments.of(part) for part in np.split(rows, sorted(set(cuts))) if len(part)]
    np.random.default_rng(seed).shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    exact = np.cov(rows.astype(np.float64).T)
    size = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    # What rounding can do to a sum of 200 products at most, and to their factors; mostly it is a tenth of that.
    np.testing.assert_allclose(merged.scatter / 199 / size, exact / size, rtol=0, atol=210 * 2.0**-24)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(1, 199), max_size=6), st.sampled_from([0.0, 1e3, -1e4]))
def test_moments_do_not_depend_on_how_rows_are_parted(seed: int, cuts: list[int], offset: float) -> None:
    rows = _rows(seed, 200, 6, offset)
    parts = [part for part in np.split(rows, sorted(set(cuts))) if len(part)]
    np.random.default_rng(seed).shuffle(parts)
    merged = Moments.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(Moments.of(part))
    exact = rows.astype(np.float64)
    assert merged.count == 200
    np.testing.assert_allclose(merged.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.scatter / 199, np.cov(exact.T), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("count", "width"), [(300, 20), (30, 60)])
@pytest.mark.parametrize("variance", [0.5, 0.8, 0.95])
def test_equals_scikit_learn(count: int, width: int, variance: float) -> None:
    rows = _rows(1, count, width, offset=5.0)
    theirs = PCA(variance, svd_solver="full").fit(rows.astype(np.float64))
    ours = fit(Moments.of(rows), variance)
    assert len(ours.components) == theirs.n_components_
    np.testing.assert_allclose(
        ours.explained_variance_ratio[: theirs.n_components_], theirs.explained_variance_ratio_, atol=1e-9
    )
    np.testing.assert_allclose(np.abs(np.sum(ours.components * theirs.components_, axis=1)), 1, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(ours.apply(rows)), np.abs(theirs.transform(rows.astype(np.float64))), rtol=1e-4, atol=1e-4
    )


def test_components_fixes_the_number() -> None:
    assert fit(Moments.of(_rows(2, 100, 20)), 0.8, components=7).components.shape == (7, 20)


def test_signs_are_fixed() -> None:
    rows = _rows(3, 100, 10)
    forwards, backwards = fit(Moments.of(rows), 0.99), fit(Moments.of(rows[::-1]), 0.99)
    np.testing.assert_allclose(forwards.components, backwards.components, atol=1e-9)
    assert (
        forwards.components[np.arange(len(forwards.components)), np.abs(forwards.components).argmax(axis=1)] > 0
    ).all()


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_fewest_is_fewest(values: list[float], variance: float) -> None:
    explained = np.sort(np.array(values))[::-1]
    k = fewest_components(explained, variance)
    share = explained / explained.sum()
    assert share[:k].sum() >= variance - 1e-9
    assert k == 1 or share[: k - 1].sum() < variance


def test_too_little_to_fit_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match="at least 2 rows"):
        fit(Moments.of(_rows(0, 1, 4)), 0.8)
    with pytest.raises(TrainingError, match="all rows of features are the same"):
        fit(Moments.of(np.ones((5, 4), np.float32)), 0.8)
    with pytest.raises(TrainingError, match=r"reduce.components is 9.*have only\s+3"):
        fit(Moments.of(_rows(0, 4, 20)), 0.8, components=9)


def test_files_round_trip() -> None:
    moments = Moments.of(_rows(4, 50, 5))
    again = Moments.from_bytes(moments.to_bytes())
    assert again.count == 50
    np.testing.assert_array_equal(again.scatter, moments.scatter)
    projection = fit(moments, 0.9)
    np.testing.assert_array_equal(Projection.from_bytes(projection.to_bytes()).components, projection.components)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(1, 199), max_size=12), st.data())
def test_any_tree_of_mergers_equals_one_pass(seed: int, cuts: list[int], data: st.DataObject) -> None:
    rows = _rows(seed, 200, 6, 1e3)
    left = [Moments.of(part) for part in np.split(rows, sorted(set(cuts)))]
    while len(left) > 1:
        first = left.pop(data.draw(st.integers(0, len(left) - 1)))
        second = left.pop(data.draw(st.integers(0, len(left) - 1)))
        left.append(Moments.from_bytes(first.merge(second).to_bytes()))
    once = Moments.of(rows)
    assert left[0].count == once.count
    np.testing.assert_allclose(left[0].mean, once.mean, rtol=1e-12)
    np.testing.assert_allclose(left[0].scatter, once.scatter, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("width", [1, 1024, 1500, 2100])
def test_panels_and_blocks_leave_no_seam(width: int) -> None:
    rows = _rows(5, 40, width, 7.0)
    total = MomentsSum(width)
    for part in np.array_split(rows, 3):
        total.add(part)
    exact = np.cov(rows.astype(np.float64).T).reshape(width, width) * 39
    np.testing.assert_allclose(total.result().scatter, exact, atol=1e-9)


def test_moments_can_be_added_to_later() -> None:
    rows = _rows(6, 100, 8, -50.0)
    total = MomentsSum.continuing(Moments.of(rows[:70]))
    total.merge(Moments.of(rows[70:]))
    both, once = total.result(), Moments.of(rows)
    assert both.count == 100
    np.testing.assert_allclose(both.scatter, once.scatter, rtol=1e-9, atol=1e-9)
