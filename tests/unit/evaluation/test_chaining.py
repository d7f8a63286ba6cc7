"""Chains of two answers, against figures counted by hand."""

import numpy as np
import pandas as pd
import pytest

from mirabelle.evaluation import Said, Thresholds, answer, chain, choose_thresholds, judge_chain
from mirabelle.evaluation.chaining import threshold_for


def said(labels: str, predicted: str, shares: list[list[float]]) -> Said:
    return Said(tuple(labels.split()), np.array(predicted.split(), object), np.array(shares))


@pytest.fixture
def rows() -> pd.DataFrame:
    """Six pictures: kinds A and B; A has fine labels a and b, B is the whole answer."""
    first = said("A B", "A A A B B A", [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.55, 0.45]])
    step = said("a b", "a b a a b b", [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    about = pd.DataFrame(
        {
            "label": ["A", "A", "A", "B", "B", "B"],
            "chain_label": ["a", "a", "a", None, "c", "c"],
            "predicted": first.predicted,
            "chain_flat": ["A / a", "A / a", "A / a", "B / c", "B / c", "A / a"],
        }
    )
    return about.join(chain(first, {"A": step}))


def test_both_answers_and_their_product(rows: pd.DataFrame) -> None:
    assert rows["chain_predicted"].tolist() == ["a", "b", "a", None, None, "b"]
    np.testing.assert_allclose(rows["chain_coarse_probability"], [0.9, 0.8, 0.6, 0.7, 0.9, 0.55])
    np.testing.assert_allclose(rows["chain_step_probability"], [0.9, 0.7, 0.8, np.nan, np.nan, 0.8])
    np.testing.assert_allclose(rows["chain_probability"], [0.81, 0.56, 0.48, 0.7, 0.9, 0.44])


def test_less_is_said_below_a_threshold(rows: pd.DataFrame) -> None:
    given = answer(rows, Thresholds(fine=0.5, coarse=0.6))
    assert given["chain_answer"].tolist() == ["A / a", "A / b", "A", "B", "B", None]
    assert given["chain_level"].tolist() == ["fine", "fine", "coarse", "coarse", "coarse", "not sure"]
    assert answer(rows, Thresholds(None, None))["chain_level"].tolist() == ["not sure"] * 6
    everything = answer(rows, Thresholds())
    assert everything["chain_answer"].tolist() == ["A / a", "A / b", "A / a", "B", "B", "A / b"]


def test_figures_by_step_and_level(rows: pd.DataFrame) -> None:
    rows = rows.join(answer(rows, Thresholds(fine=0.5, coarse=0.6)))
    judged = judge_chain(rows, list("pqrstu"))
    shares = {key: (judged[key]["rows"], judged[key]["accuracy"]) for key in ("first", "second", "end_to_end", "flat")}
    # B / c has no fine answer in the chain, and so cannot be right to the end.
    assert shares["first"] == (6, pytest.approx(5 / 6))
    assert shares["second"] == (3, pytest.approx(2 / 3))
    assert shares["end_to_end"] == (5, pytest.approx(2 / 5))
    assert shares["flat"] == (5, pytest.approx(4 / 5))
    assert [(one["of"], one["rows"]) for one in judged["steps"]] == [("A", 3)]
    by_level = {one["level"]: (one["given"], one["accuracy"]) for one in judged["answers"]}
    assert by_level == {"fine": (2, 0.5), "coarse": (3, 1.0), "not sure": (1, None)}
    low, high = judged["first"]["interval"]
    assert low < 5 / 6 <= high


def test_a_threshold_keeps_what_it_promises_on_what_it_was_chosen_by() -> None:
    scores = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, True, False])
    assert threshold_for(scores, right, 0.95) == 0.9
    # At 0.8 two of three are right, for equal scores stand together; from 0.6 on four of five.
    assert threshold_for(scores, right, 0.8) == 0.6
    assert threshold_for(scores, right, 0.5) == 0.5
    assert threshold_for(scores, np.zeros(6, bool), 0.5) is None
    assert threshold_for(np.zeros(0), np.zeros(0, bool), 0.5) is None


def test_the_coarse_threshold_is_of_what_the_fine_one_leaves(rows: pd.DataFrame) -> None:
    chosen = choose_thresholds(rows, 0.9)
    # Of the fine answers 0.81 is right and 0.56 is wrong; of those left, 0.55 is wrong and all above it are right.
    assert chosen.fine == pytest.approx(0.81)
    assert chosen.coarse == pytest.approx(0.6)
