"""The part of a page that says how a chain of two classifiers did. Pure; runs on the driver."""

from __future__ import annotations

from typing import Any

from mirabelle.report import charts
from mirabelle.report.judged import Chained
from mirabelle.report.wording import percent, whole

View = dict[str, Any]


def chained(told: Chained | None) -> View:
    """Steps with their intervals as a chart and a table, how finely was answered, and what was taken for what."""
    if told is None:
        return {"absent": "The classifier is no chain; classify.chain makes it one", "command": None}
    drawn = [row for row in told.figures if row["accuracy"] is not None]
    drawn = [{**row, "accuracy_interval": row["interval"]} for row in drawn]
    words = ", ".join(f"{row['name']} {percent(row['accuracy'])}" for row in drawn)
    names = {"fine": told.fine, "coarse": told.coarse}
    return {
        "absent": None,
        "coarse": told.coarse,
        "fine": told.fine,
        "spec": charts.intervals(drawn, description=f"Accuracy of each step: {words}."),
        "rows": [
            {
                "name": row["name"],
                "rows": whole(row["rows"]),
                "accuracy": percent(row["accuracy"]),
                "interval": _interval(row["interval"]),
            }
            for row in told.figures
        ],
        "precision": None if told.precision is None else percent(told.precision, 0),
        "answers": [
            {
                "level": names.get(row["level"], row["level"]),
                "given": whole(row["given"]),
                "share": percent(row["share"]),
                "right": percent(row["accuracy"]),
            }
            for row in told.answers
        ],
        "wrong": [(true, predicted, whole(count)) for true, predicted, count in told.wrong],
    }


def _interval(ends: Any) -> str:
    return "" if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"
