"""A target's line, and what all of them have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]

PRECISIONS = ("auto", "float32")


@dataclass(frozen=True)
class Line:
    """A target.

    Attributes:
        what: is measured.
        wanted: the target itself.
        figure: what was found, empty where nothing was.
        verdict: ``met``, ``not met``, or why it is not judged.
        why: for one that is not met, where the time goes.
    """

    what: str
    wanted: str
    figure: str = ""
    verdict: str = ""
    why: str = ""


def missing(results: Results, part: str) -> str:
    """Why a part has no figures."""
    why = results["parts"].get(part, {}).get("not_run", f"the part {part} was left out")
    return f"not run: {why}"


def verdict_of(met: bool) -> str:
    """In words."""
    return "met" if met else "not met"
