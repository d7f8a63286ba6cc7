"""The page of an exploration: tables with what they mean, in the report's own style. Pure; runs on the driver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mirabelle.report import assets

STYLES = ("page.css", "parts.css", "explore.css")
MAX_TEXT = 300


@dataclass(frozen=True)
class Shown:
    """A table as the page shows it.

    Attributes:
        name: of its files.
        title: for people.
        meaning: what it means for learning.
        rows: all of them; the page shows the first.
        bar: column of shares that are drawn as well, or None.
    """

    name: str
    title: str
    meaning: str
    rows: pd.DataFrame
    bar: str | None = None


def render_exploration(
    title: str, facts: Sequence[tuple[str, str, str]], tables: Sequence[Shown], top: int, run: str
) -> str:
    """One HTML page that loads nothing.

    Args:
        title: its heading.
        facts: tiles: name, value and a word about it.
        tables: in this order. Their text may hold anything.
        top: rows of each that are shown.
        run: the run's id.
    """
    from markupsafe import Markup

    sections = [
        {
            "name": table.name,
            "title": table.title,
            "meaning": table.meaning,
            "columns": [_heading(name) for name in table.rows.columns],
            "numeric": [pd.api.types.is_numeric_dtype(table.rows[name]) for name in table.rows.columns],
            "rows": [_cells(row, table) for row in table.rows.head(top).to_dict("records")],
            "more": max(0, len(table.rows) - top),
        }
        for table in tables
    ]
    page = (
        assets.environment()
        .get_template("explore.html")
        .render(
            title=title,
            facts=facts,
            sections=sections,
            run=run,
            style=Markup("\n".join(assets.resource(name) for name in STYLES)),
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _heading(name: Any) -> str:
    return str(name).replace("_", " ")


def _cells(row: dict[Any, Any], table: Shown) -> list[dict[str, Any]]:
    cells = []
    for name, value in row.items():
        bar = None
        if name == table.bar and isinstance(value, float) and math.isfinite(value):
            bar = f"{100 * min(1.0, max(0.0, value)):.1f}"
        text = _text(str(name), value)
        is_many = not isinstance(value, str) and "\n" in text
        shown = text if is_many else text[:MAX_TEXT]
        cells.append({"text": shown, "bar": bar, "number": isinstance(value, int | float), "many": is_many})
    return cells


def _text(name: str, value: Any) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return f"{value:.1%}" if "share" in name else f"{value:,.0f}"
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return "\n".join(map(str, value)) if not isinstance(value, str) else value
