"""Classifiers as arrays: what they say of rows that can be worked out by hand, and which arrays are none."""

from typing import Any

import numpy as np
import pytest

from mirabelle.bundle.classifying import Classifier, linear, read_arrays
from mirabelle.errors import BundleError


def stump(**changes: Any) -> Classifier:
    """Two trees: the first asks feature 1 and then feature 0, the second is a leaf."""
    arrays = {
        "roots": np.array([0, 5], np.int32),
        "left": np.array([1, 1, 3, 3, 4, 5], np.int32),
        "right": np.array([2, 1, 4, 3, 4, 5], np.int32),
        "feature": np.array([1, 0, 0, 0, 0, 0], np.int32),
        "threshold": np.array([0.5, 0, 2.0, 0, 0, 0]),
        "values": np.array([[0, 0], [1, 0], [0, 0], [0.5, 0.5], [0, 1], [0.2, 0.8]]),
        "depth": np.array(2, np.int32),
    }
    return Classifier("trees", "shares", {**arrays, **changes})


def test_trees_go_left_at_the_threshold() -> None:
    above = np.nextafter(np.float32(2), np.float32(3))
    rows = np.array([[9, 0.5], [2, 0.6], [above, 0.6]], np.float32)
    np.testing.assert_allclose(stump().probabilities(rows), [[0.6, 0.4], [0.35, 0.65], [0.1, 0.9]])


def test_many_rows_are_as_each_alone() -> None:
    rows = np.random.default_rng(0).uniform(0, 3, (1000, 2)).astype(np.float32)
    whole = stump().probabilities(rows)
    np.testing.assert_array_equal(whole, np.concatenate([stump().probabilities(row[None]) for row in rows]))
    assert stump().probabilities(rows[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"left": np.array([1, 1, 3, 3, 4, 6], np.int32)},
        {"right": np.array([2, 1, -1, 3, 4, 5], np.int32)},
        {"roots": np.array([0, 99], np.int32)},
        {"feature": np.array([2, 0, 0, 0, 0, 0], np.int32)},
        {"depth": np.array(2**30, np.int64)},
        {"values": np.zeros((2, 2))},
        {"threshold": np.array(["a"])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_trees_that_lead_nowhere_are_refused(changes: dict[str, Any]) -> None:
    stump().check(2, 2, "c")
    with pytest.raises(BundleError, match="c: its arrays do not fit together"):
        stump(**changes).check(2, 2, "c")


def test_steep_scores_stay_numbers() -> None:
    rows = np.array([[1e4], [-1e4]])
    for link, expected in (
        ("logistic", [[0, 1], [1, 0]]),
        ("margins", [[0, 1], [1, 0]]),
        ("boosted", [[0, 1], [1, 0]]),
    ):
        found = Classifier("linear", link, linear([[10.0]], [0.0])).probabilities(rows)
        np.testing.assert_allclose(found, expected, atol=1e-300)
    found = Classifier("linear", "softmax", linear([[10.0], [-10.0]], [0, 0])).probabilities(rows)
    np.testing.assert_allclose(found, [[1, 0], [0, 1]])


def test_a_threshold_divides() -> None:
    """As Spark ML says: p / t, and a threshold of 0 always wins."""
    shares = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33], [0.9, 0.1, 0.0]])
    arrays = linear(np.zeros((3, 1)), np.zeros(3))
    assert Classifier("linear", "softmax", arrays, (0.9, 0.2, 0.8)).chosen(shares).tolist() == [1, 1, 0]
    assert Classifier("linear", "softmax", arrays, (0.5, 0.5, 0.0)).chosen(shares).tolist() == [2, 2, 2]
    assert Classifier("linear", "softmax", arrays).chosen(np.array([[0.2, 0.4, 0.4]])).tolist() == [1]


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_what_holds_no_arrays_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"a\.npz holds no arrays"):
        read_arrays(content, "a.npz")
