"""The arithmetic of the figures: steady speed, spread over rounds, efficiency, where core time went. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

PARTS = ("engine", "decode", "waiting for the store", "write")


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 1) -> str:
        """As the tables have it: the median, and what it lies between."""
        if self.low == self.high:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of those that are there; None where none is."""
    found = [value for value in values if value is not None]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def interval(values: Sequence[float], *errors: float) -> Spread:
    """The median of ratios, and what their mean lies between in 95 of 100 cases: Student's t, of their logarithms.

    ``errors`` are relative standard errors that all of the ratios share.
    """
    logarithms = np.log(values)
    error = np.sqrt(np.var(logarithms, ddof=1) / len(values) + np.sum(np.square(errors)))
    reach, middle = stats.t.ppf(0.975, len(values) - 1) * error, np.mean(logarithms)
    return Spread(statistics.median(values), float(np.exp(middle - reach)), float(np.exp(middle + reach)))


def speeds(entry: dict[str, Any]) -> list[float | None]:
    """Steady images a second of each round, by the median start: one that stalled would make its round look fast."""
    few, many, start = entry["few"], entry["many"], few_seconds(entry)
    return [steady(few, many, start, row["many_seconds"]) for row in entry["rounds"]]


def few_seconds(entry: dict[str, Any]) -> float:
    """The median over the rounds; 0 where there is none."""
    return float(np.median([row["few_seconds"] for row in entry["rounds"]] or [0.0]))


def start_error(entry: dict[str, Any]) -> float:
    """Relative standard error of all speeds of an entry by that median: by the median absolute deviation from it."""
    few = [row["few_seconds"] for row in entry["rounds"]]
    deviation = stats.median_abs_deviation(few, scale="normal")
    error = np.sqrt(np.pi / 2) * deviation / np.sqrt(len(few))
    return float(error / (statistics.median(row["many_seconds"] for row in entry["rounds"]) - few_seconds(entry)))


def steady(few: int, many: int, few_seconds: float, many_seconds: float) -> float | None:
    """Images a second once started: the images more over the seconds more; None where noise has eaten these."""
    return (many - few) / (many_seconds - few_seconds) if many_seconds > few_seconds else None


def times_as_fast(ours: dict[str, Any], theirs: dict[str, Any]) -> Spread | None:
    """Steady speed over steady speed, over the rounds that both have; None where noise has eaten all of them."""
    ratios = [mine / other for mine, other in zip(speeds(ours), speeds(theirs), strict=False) if mine and other]
    return interval(ratios, start_error(ours), start_error(theirs)) if len(ratios) > 1 else spread(ratios)


@dataclass(frozen=True)
class Summary:
    """A side's figures over the rounds.

    Attributes:
        steady: images a second.
        whole: seconds of the process on the larger number of pictures.
        bound: images a second of the engine alone, measured before and after; for Mirabelle on its own.
        efficiency: steady over the mean of that round's two bounds.
        over_bound: whole seconds times the bound over the images: 1 would be the engine and nothing else.
    """

    steady: Spread | None
    whole: Spread | None
    bound: Spread | None
    efficiency: Spread | None
    over_bound: Spread | None


def summarise(entry: dict[str, Any]) -> Summary:
    """The figures of one entry of a comparison."""
    many, rounds, found = entry["many"], entry["rounds"], speeds(entry)
    bounds = [statistics.mean(row["bounds"]) if row.get("bounds") else None for row in rounds]
    return Summary(
        spread(found),
        spread(row["many_seconds"] for row in rounds),
        spread(bound for row in rounds for bound in row.get("bounds", [])),
        spread(speed / bound for speed, bound in zip(found, bounds, strict=True) if speed and bound),
        spread(row["many_seconds"] * bound / many for row, bound in zip(rounds, bounds, strict=True) if bound),
    )


def share_left(bound: float, core_ms: float, cores: int) -> float:
    """Of the engine's images a second, ``bound``, what is left where each picture costs a core so much besides."""
    engine_seconds = cores / bound
    return engine_seconds / (engine_seconds + core_ms / 1000)


def core_shares(entry: dict[str, Any], cores: int) -> dict[str, float]:
    """Where the cores' time goes once started: shares of all of it, from what many pictures cost more than few.

    ``other`` is what no worker counts: waiting for tasks, Spark, Python between the parts, an idle core at the end.
    """
    found: dict[str, list[float]] = {}
    for row in entry["rounds"]:
        whole = cores * (row["many_seconds"] - few_seconds(entry))
        if whole <= 0 or "many_workers" not in row:
            continue
        parts = {p: (row["many_workers"].get(p, 0) - row["few_workers"].get(p, 0)) / whole for p in PARTS}
        parts["other"] = 1 - sum(parts.values())
        for name, share in parts.items():
            found.setdefault(name, []).append(share)
    return {name: statistics.median(shares) for name, shares in found.items()}


def stage_seconds(entry: dict[str, Any]) -> dict[str, float]:
    """Seconds of a whole run by stage, medians; ``before and after`` is what lies outside of all stages."""
    rounds = [row for row in entry["rounds"] if "many_stages" in row]
    if not rounds:
        return {}
    names = list(rounds[0]["many_stages"])
    found = {name: statistics.median(row["many_stages"].get(name, 0.0) for row in rounds) for name in names}
    found["before and after"] = statistics.median(
        row["many_seconds"] - sum(row["many_stages"].values()) for row in rounds
    )
    return found
