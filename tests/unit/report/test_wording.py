"""Numbers and loose values to words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirabelle.report import wording


def spaced(text: str) -> str:
    return text.replace(wording.NARROW, " ")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.973, "97.3 %"),
        (1, "100.0 %"),
        (0, "0.0 %"),
        (0.99999, "99.9 %"),
        (0.00001, "< 0.1 %"),
        (np.float32(0.5), "50.0 %"),
        (math.nan, wording.ABSENT),
        (None, wording.ABSENT),
        ("many", wording.ABSENT),
    ],
)
def test_percent(share: object, text: str) -> None:
    assert spaced(wording.percent(share)) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1234, "1.2 kB"),
        (999_600, "1.0 MB"),
        (25_300_000, "25.3 MB"),
        (None, wording.ABSENT),
    ],
)
def test_size(size: object, text: str) -> None:
    assert spaced(wording.size(size)) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0.0 s"),
        (0.01, "< 0.1 s"),
        (5.13, "5.1 s"),
        (42.4, "42 s"),
        (194, "3 min 14 s"),
        (119.6, "2 min 00 s"),
        (7500, "2 h 05 min"),
        (None, wording.ABSENT),
    ],
)
def test_seconds(span: object, text: str) -> None:
    assert spaced(wording.seconds(span)) == text


def test_dates_are_told_in_utc_and_oddities_as_they_are() -> None:
    assert wording.date("2026-11-21T23:42:00+02:00") == "21 November 2026, 21:42 UTC"
    assert wording.date("2026-11-21T21:42:00") == "21 November 2026, 21:42"
    assert wording.date("yesterday") == "yesterday"
    assert wording.span_seconds("2026-11-21T21:42:00Z", "2026-11-21T21:43:30Z") == 90
    assert wording.span_seconds("2026-11-21T21:42:00Z", "2026-11-21T21:41:00Z") is None
    assert wording.span_seconds("2026-11-21T21:42:00Z", "2026-11-21T21:43:00") is None


def test_numbers_keeps_order_and_drops_what_is_none() -> None:
    odd = {"b": 2, "a": 1.5, "c": None, "d": "7", "e": math.inf, "f": -1, "g": True, "h": np.int64(3)}
    assert wording.numbers(odd) == {"b": 2.0, "a": 1.5, "h": 3.0}
    assert wording.numbers([1, 2]) == {}


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.binary()
)


@given(anything)
def test_nothing_a_manifest_holds_is_an_error(value: object) -> None:
    for say in (wording.whole, wording.percent, wording.size, wording.seconds, wording.date, wording.plain):
        assert isinstance(say(value), str)
    assert isinstance(wording.pretty({"key": value}), str)
