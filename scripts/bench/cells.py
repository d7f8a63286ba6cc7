"""Markdown tables and what stands in their cells. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from steady import Spread

NOTHING = ""


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; text that came from elsewhere can't end a cell."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells])


def said(figure: Spread | None, digits: int = 1) -> str:
    """A figure, or nothing."""
    return figure.text(digits) if figure else NOTHING
