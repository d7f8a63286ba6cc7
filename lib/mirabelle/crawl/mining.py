"""Finds where known values stand on pages: places, written as ways, with how often each is right. Touches nothing.

Places are tried from the most stable to the least: what an element means (itemprop, data-..., rel), where a link leads,
an id, a class, the word that stands before a value; its position last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import unquote

from mirabelle.crawl.cleaning import Step
from mirabelle.crawl.description import Described, Way
from mirabelle.crawl.finding import Part, all_values, value_by
from mirabelle.crawl.leaves import leaves
from mirabelle.crawl.page import split_address
from mirabelle.crawl.paths import NAME, attributes, paths, text_of
from mirabelle.crawl.wording import Pairs, by_heart, casing, within

# Where ways are looked for, and on how many parts each is tried.
SEARCHED = 40
TRIED = 400
CANDIDATES = 60
MAX_TEXT = 200
# Whose values may stand in a text beside another's.
WORDED = ("constructor", "model_type", "airline", "registration", "photographer")
# What a page says of itself for machines is stabler than how it looks; its scripts' own state is less so.
LEAF_COSTS = {"jsonld": 2, "microdata": 2, "json": 8}
Steps = Callable[[str], Iterator[tuple[int, list[Any]]]]


@dataclass(frozen=True)
class Known:
    """A part of a page, and what an earlier crawl says of the photograph on it."""

    part: Part
    row: dict[str, Any]


@dataclass(frozen=True, order=True)
class Proposal:
    """A way, and how it does on pages of which the values are known.

    Attributes:
        cost: the lower the better, of two that are right as often.
        way: as a description has it.
        right, wrong: of the parts, where it finds the known value and where another.
        of: how many have a known value.
        exact: where it is the same to the letter.
        amiss: share of the photographs without a known value for which it finds one.
        several: share of the photographs for which it finds more than one, of which the first is taken.
    """

    cost: int
    way: Way = field(compare=False)
    right: int = field(compare=False)
    wrong: int = field(compare=False)
    of: int = field(compare=False)
    exact: int = field(compare=False)
    amiss: float = field(default=0.0, compare=False)
    several: float = field(default=0.0, compare=False)

    @property
    def precision(self) -> float:
        """How often what it finds is right."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """For how many of those that have a value it finds the right one."""
        return self.right / max(1, self.of)


def plain(text: str) -> str:
    """For comparing a name with its form in an address."""
    return re.sub(r"[\W_]+", "", unquote(text)).casefold()


def propose(known: Sequence[Known], name: str, is_right: Callable[[str, Known], bool] | None = None) -> list[Proposal]:
    """Ways to a field, the best first.

    Args:
        known: parts with their photographs.
        name: of the field, a column of the rows.
        is_right: whether a found value is that of a photograph; by default whether it is its known one.
    """
    told = [one for one in known if one.row.get(name)]
    found: Counter[tuple[int, str]] = Counter()
    for one in told[:SEARCHED]:
        places = _places(one, _fit(one, name, is_right), name)
        found.update({(cost, way.model_dump_json()) for cost, way in places})
    # Of those that turned up often, the cheapest first.
    least = max(1, min(len(told), SEARCHED) // 5)
    often = sorted((c for c, n in found.items() if n >= least), key=lambda c: (c[0], len(c[1]), c[1]))
    ways = [(cost, Way.model_validate_json(text)) for cost, text in often[:CANDIDATES]]
    without = [one for one in known if not one.row.get(name)]
    tried = [_try(way, cost, told, without, name, is_right) for cost, way in ways]
    good = [one for one in tried if one.precision >= 0.9 and one.right]
    if not is_right:
        good = [_respelled(one, casing, told, without, name) for one in good]
    # What finds a value where there is none finds another field's, and the first of several is one by its position.
    order = {id(p): (-round(p.recall * p.precision, 2), -round(p.exact / p.of, 1), round(p.amiss, 1)) for p in good}
    best = sorted(good, key=lambda one: (order[id(one)], round(one.several), one.cost))
    return [_respelled(best[0], by_heart, told, without, name), *best[1:]] if best and not is_right else best


def _respelled(
    one: Proposal, by: Callable[[Pairs], list[Step]], told: Sequence[Known], without: Sequence[Known], name: str
) -> Proposal:
    """With what makes its values the known ones to the letter, if that helps."""
    if one.exact == one.right:
        return one
    found = ((value_by(each.part, one.way, Described(ways=(one.way,))), each.row[name]) for each in told[:TRIED])
    steps = by([(value, known) for value, known in found if value is not None and plain(value) == plain(known)])
    if not steps:
        return one
    way = one.way.model_copy(update={"clean": (*one.way.clean, *steps)})
    return _try(way, one.cost, told, without, name, None)


def _fit(one: Known, name: str, is_right: Callable[[str, Known], bool] | None) -> Callable[[str], bool]:
    value = plain(str(one.row[name]))
    return lambda text: is_right(text, one) if is_right else plain(text) == value


def _try(
    way: Way,
    cost: int,
    told: Sequence[Known],
    without: Sequence[Known],
    name: str,
    is_right: Callable[[str, Known], bool] | None,
) -> Proposal:
    right = wrong = exact = several = 0
    described = Described(ways=(way,))
    tried = told[:TRIED]
    for one in tried:
        value = value_by(one.part, way, described)
        if value is not None:
            good = _fit(one, name, is_right)(value)
            right, wrong = right + good, wrong + (not good)
            exact += value == one.row[name]
            several += len(list(islice(all_values(one.part, way), 2))) > 1
    amiss = sum(value_by(one.part, way, described) is not None for one in without[:TRIED])
    silent = max(1, len(without[:TRIED]))
    return Proposal(cost, way, right, wrong, len(tried), exact, amiss / silent, several / max(1, len(tried)))


def _places(one: Known, fits: Callable[[str], bool], name: str) -> Iterator[tuple[int, Way]]:
    """Ways by which the value can be had from this part."""
    others = [value for field, value in one.row.items() if field in WORDED and field != name]

    def steps(text: str) -> Iterator[tuple[int, list[Any]]]:
        """Cost and steps by which a text becomes the value; none where it is not in it."""
        text = " ".join(text[: 2 * MAX_TEXT].split())
        if fits(text):
            yield 0, []
        elif len(text) <= MAX_TEXT:
            yield from ((8, [{"regex": found}]) for found in within(text, str(one.row[name]), others))

    for kind, expression, text in leaves(one.part):
        for cost, clean in steps(text):
            yield LEAF_COSTS[kind] + cost, Way.model_validate({kind: expression, "clean": [*clean, "strip"]})
    root = one.part.selector.root
    if one.part.values is not None or not hasattr(root, "iter"):
        return
    for element in root.iter():
        if not NAME.fullmatch(str(element.tag)) or element.tag in ("script", "style", "html", "head"):
            continue
        if element.tag == "meta":
            named = element.get("property") or element.get("name")
            if named and one.part.tree is None:
                for cost, clean in steps(element.get("content") or ""):
                    yield 5 + cost, Way.model_validate({"meta": named, "clean": clean})
        else:
            yield from _in_text(element, root, fits, steps)
            yield from _in_attributes(element, root, fits, steps)


def _in_text(element: Any, root: Any, fits: Callable[[str], bool], steps: Steps) -> Iterator[tuple[int, Way]]:
    text = text_of(element)[:MAX_TEXT]
    if not text:
        return
    if fits(text):
        # The innermost element that has it whole.
        if not any(fits(text_of(child)) for child in element):
            for cost, kind, path in paths(element, root):
                yield cost, _text_way(kind, path)
    elif element.text:
        for more, clean in steps(element.text):
            for cost, kind, path in paths(element, root):
                yield cost + more, _text_way(kind, path, *clean)


def _in_attributes(element: Any, root: Any, fits: Callable[[str], bool], steps: Steps) -> Iterator[tuple[int, Way]]:
    for name, content in attributes(element):
        if name in ("class", "style", "srcset", "id") or not content:
            continue
        if name in ("href", "src") and not fits(content):
            if pattern := _in_address(content, fits):
                for cost, kind, path in paths(element, root, name):
                    yield cost + 12, _attribute_way(kind, path, name, [{"regex": pattern}, {"replace": {"-": " "}}])
            continue
        for more, clean in steps(content):
            for cost, kind, path in paths(element, root, name):
                yield cost + 2 + more, _attribute_way(kind, path, name, clean)


def _text_way(kind: str, path: str, *clean: Any) -> Way:
    steps = [*clean, "strip"]
    # All of its text: a name may be in bold, or have a link in it.
    return Way.model_validate({kind: path, "clean": steps})


def _attribute_way(kind: str, path: str, name: str, clean: Sequence[Any] = ()) -> Way:
    expression = f"{path}::attr({name})" if kind == "css" else f"{path}/@{name}"
    return Way.model_validate({kind: expression, "clean": [*clean, "strip"]})


def _in_address(content: str, fits: Callable[[str], bool]) -> str | None:
    """A pattern for the part of an address that is the value, by the constant text before it."""
    split = split_address(content)
    segments = split.path.split("/")
    for number, segment in enumerate(segments):
        if segment and fits(segment):
            before = [part for part in segments[:number] if part]
            if not before:
                return None
            # What comes before may itself be another on each page.
            return f"/{re.escape(before[0])}/{'[^/]+/' * (len(before) - 1)}([^/?#]+)"
    for pair in split.query.split("&"):
        name, _, value = pair.partition("=")
        if value and fits(value):
            return f"[?&]{re.escape(name)}=([^&#]+)"
    return None
