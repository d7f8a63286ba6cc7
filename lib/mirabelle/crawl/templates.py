"""Start addresses with ranges and choices in them. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

FIELD = re.compile(r"\{(\w+):([^{}]*)\}")
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
MAX_RANGE = 1_000_000


@dataclass(frozen=True)
class Address:
    """One start address.

    Attributes:
        url: with every place filled.
        told: what stands in the places, by name; a field may take it from there.
    """

    url: str
    told: dict[str, str] = field(default_factory=dict)


def expand(template: str) -> Iterator[list[Address]]:
    """The start addresses of a template, in sequences.

    ``{page:1..125}`` is a range: its addresses follow one another and are one sequence, which may end before its end.
    ``{type:Airbus_A320|Boeing_737}`` is a choice: each word begins a sequence of its own.

    Raises:
        ValueError: a place that is neither, two ranges, or a range too long.
    """
    places = list(FIELD.finditer(template))
    if "{" in FIELD.sub("", template) or "}" in FIELD.sub("", template):
        raise ValueError(f"{template!r}: write a place as {{page:1..125}} or {{word:one|other}}")
    ranges = [place[1] for place in places if RANGE.fullmatch(place[2])]
    if len(ranges) > 1:
        raise ValueError(f"{template!r}: one range an address, and there are {len(ranges)}")
    choices = [[(p[1], word) for word in p[2].split("|")] for p in places if not RANGE.fullmatch(p[2])]
    numbers: list[tuple[str, str] | None] = [None]
    for place in places:
        if found := RANGE.fullmatch(place[2]):
            first, last = int(found[1]), int(found[2])
            if abs(last - first) >= MAX_RANGE:
                raise ValueError(f"{template!r}: a range of more than {MAX_RANGE:,}")
            step = 1 if last >= first else -1
            numbers = [(place[1], str(n)) for n in range(first, last + step, step)]
    for chosen in product(*choices):
        yield [_filled(template, dict([*chosen, *([number] if number else [])])) for number in numbers]


def _filled(template: str, told: dict[str, str]) -> Address:
    return Address(FIELD.sub(lambda place: told[place[1]], template), told)
