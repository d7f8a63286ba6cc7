"""Numbers to Vega-Lite specifications. Expected values are worked out by hand or by a plain loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mirabelle.report import Picture, Scatter, charts, scatter


def marks(spec: dict[str, Any], style: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"].get("style") == style]


def rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the chart's largest dataset."""
    return max(spec["datasets"].values(), key=len)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def test_scree_says_what_the_components_explain_together() -> None:
    spec = charts.scree(np.array([0.5, 0.25, 0.125, 0.125]), 2, 0.8, description="in words")
    told = {row["k"]: row["together"] for row in next(r for r in spec["datasets"].values() if "own" in r[0])}
    assert told == {1: 0.5, 2: 0.75, 3: 0.875, 4: 1.0}
    assert spec["description"] == "in words"
    assert [row["text"] for data in spec["datasets"].values() for row in data if "text" in row] == [
        "2 kept, 75.0%",
        "target 80%",
    ]


def test_scree_without_a_target_draws_no_target() -> None:
    spec = charts.scree(np.array([0.6, 0.4]), 1, None, description="")
    assert marks(spec, "kept-rule")
    assert not marks(spec, "target")


@pytest.mark.parametrize("count", [1, 299, 300, 301, 2048, 25088])
def test_thinning_keeps_the_ends_the_first_ones_and_the_chosen_one(count: int) -> None:
    kept = charts.thin(count, keep=min(count, 777))
    assert {1, min(2, count), min(count, 777), count} <= set(kept.tolist())
    assert len(kept) <= 301
    assert (np.diff(kept) > 0).all()


def test_confusion_has_a_row_for_each_cell_that_is_not_empty() -> None:
    spec = charts.confusion(["a", "b", "c"], np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]]), description="")
    names = next(p["value"] for p in spec["params"] if p["name"] == "names")
    assert all((row["true"], row["taken"]) == (names[row["i"]], names[row["j"]]) for row in rows(spec))
    cells = {(row["true"], row["taken"]): (row["count"], row["share"], row["right"]) for row in rows(spec)}
    assert cells == {("a", "a"): (8, 0.8, True), ("a", "b"): (2, 0.2, False), ("b", "b"): (5, 1.0, True)}
    assert {row["of"] for row in rows(spec)} == {"80.0% of 10", "20.0% of 10", "100.0% of 5"}


@pytest.mark.parametrize(("k", "counted", "container"), [(12, True, True), (20, False, True), (60, False, False)])
def test_confusion_suits_its_size(k: int, counted: bool, container: bool) -> None:
    spec = charts.confusion([f"l{i}" for i in range(k)], np.eye(k, dtype=int), description="")
    assert bool(marks(spec, "count-strong")) == counted
    assert (spec["width"] == "container") == container


def test_confusion_of_nothing_is_drawn() -> None:
    assert charts.confusion(["a"], np.zeros((1, 1), dtype=int), description="")["layer"]


def test_bars_keep_their_order_and_say_their_texts() -> None:
    spec = charts.bars({"slow": 9.0, "fast": 0.0}, {"slow": "9 s", "fast": "0 s"}, description="")
    assert [(row["i"], row["value"], row["text"]) for row in rows(spec)] == [(0, 9.0, "9 s"), (1, 0.0, "0 s")]
    assert next(p["value"] for p in spec["params"] if p["name"] == "names") == ["slow", "fast"]


def plot(labels: list[str | None], prefer: tuple[str, ...] = (), **changed: Any) -> scatter.Plot:
    pictures = [Picture(f"p{i}", label, b"RIFF" if i % 2 else None) for i, label in enumerate(labels)]
    places, split = np.arange(2.0 * len(labels)).reshape(-1, 2), [None] * len(labels)
    given: dict[str, Any] = {"coordinates": places, "split": split, "total": len(labels)}
    return scatter.plot(Scatter(pictures=pictures, **(given | changed)), [0.5, 0.25], prefer)


def test_map_numbers_labels_by_name_and_finds_their_middles() -> None:
    made = plot(["b", "A", "b", None, "b"])
    assert [(entry.index, entry.label, entry.count, entry.row) for entry in made.key] == [
        (0, "A", 1, 1),
        (1, "b", 3, 0),
    ]
    assert [point["l"] for point in made.spec["datasets"]["points"]] == [1, 0, 1, -1, 1]
    assert made.spec["datasets"]["centres"] == [
        {"l": 0, "label": "A", "x": 2.0, "y": 3.0},
        {"l": 1, "label": "b", "x": 4.0, "y": 5.0},
    ]
    assert "PC1 · 50.0% of the variance" in set(strings(made.spec["layer"]))


def test_map_leaves_out_what_is_not_finite_and_counts_it() -> None:
    places = np.array([[0.0, 1.0], [np.nan, 1.0], [2.0, np.inf], [3.0, 4.0]])
    made = plot(["a", "b", "c", "d"], coordinates=places)
    assert [picture.path for picture in made.shown] == ["p0", "p3"]
    assert made.dropped == 2
    assert [entry.label for entry in made.key] == ["a", "d"]


def test_twelve_labels_have_a_colour_each_and_more_are_lit_by_choice() -> None:
    few, many = (
        plot([f"l{i:02}" for i in range(12)]),
        plot([f"l{i % 60:02}" for i in range(600)], ("l59", "none", "l07")),
    )
    starts = [next(p["value"] for p in made.spec["params"] if p["name"] == "slots") for made in (few, many)]
    assert few.few
    assert sorted(starts[0]) == list(range(12))
    assert not many.few
    assert set(starts[1]) == {-1}
    assert len(many.lit) == scatter.FIRST_LIT
    assert list(many.lit[:2]) == [59, 7]


def test_map_offers_splits_only_when_there_are_two() -> None:
    assert plot(["a", "a", "a"], split=["train", None, "test"]).splits == ["train", "test"]
    assert plot(["a", "a"], split=["train", "train"]).splits == []


def test_map_of_one_image_or_of_none_is_drawn() -> None:
    assert plot(["a"]).spec["layer"]
    assert plot([]).spec["layer"]


def every_spec(labels: list[str]) -> list[dict[str, Any]]:
    k = len(labels)
    return [
        charts.bars(dict.fromkeys(labels, 1.0), dict.fromkeys(labels, "1"), description=""),
        charts.scree(np.full(400, 1 / 400), 60, 0.8, description=""),
        charts.confusion(labels, np.ones((k, k), dtype=int), description=""),
        plot(list(labels)).spec,
    ]


@pytest.mark.slow
def test_specifications_name_no_colour_no_address_and_are_the_same_each_time(hostile: tuple[str, ...]) -> None:
    first = every_spec(list(hostile))
    for spec in first:
        assert not {"$schema", "config"} & set(spec)
        structure = list(strings({key: value for key, value in spec.items() if key != "datasets"}))
        assert not [text for text in structure if text.startswith(("#", "http")) and text not in hostile]
        json.dumps(spec, allow_nan=False)
    assert first == every_spec(list(hostile))


@pytest.mark.slow
def test_data_never_becomes_a_field_name_or_an_expression(hostile: tuple[str, ...]) -> None:
    harmless = [f"label {i}" for i in range(len(hostile))]

    def expressions(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, part in value.items():
                if key in ("expr", "filter", "calculate", "field", "as", "name") and isinstance(part, str):
                    yield part
                if key != "datasets":
                    yield from expressions(part)
        elif isinstance(value, list):
            for part in value:
                yield from expressions(part)

    for attacked, plain in zip(every_spec(list(hostile)), every_spec(harmless), strict=True):
        # Altair names inline data by its hash, so those names differ.
        told = [sorted(t for t in expressions(spec) if not t.startswith("data-")) for spec in (attacked, plain)]
        assert told[0] == told[1]
