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
from urllib.parse import unquote, urlsplit

from mirabelle.crawl.description import Described, Way
from mirabelle.crawl.finding import Part, all_values, value_by

# Where ways are looked for, and on how many parts each is tried.
SEARCHED = 40
TRIED = 400
CANDIDATES = 60
MAX_TEXT = 200
NAME = re.compile(r"[A-Za-z_][\w-]*")
MEANINGFUL = re.compile(r"itemprop|property|rel|role|name|title|aria-label|data-[\w-]+")


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
        places = _places(one, _fit(one, name, is_right), str(one.row[name]))
        found.update({(cost, way.model_dump_json()) for cost, way in places})
    # Of those that turned up often, the cheapest first.
    least = max(1, min(len(told), SEARCHED) // 5)
    often = sorted((c for c, n in found.items() if n >= least), key=lambda c: (c[0], len(c[1]), c[1]))
    ways = [(cost, Way.model_validate_json(text)) for cost, text in often[:CANDIDATES]]
    without = [one for one in known if not one.row.get(name)]
    tried = [_try(way, cost, told, without, name, is_right) for cost, way in ways]
    good = [one for one in tried if one.precision >= 0.9 and one.right]
    # What finds a value where there is none finds another field's, and the first of several is one by its position.
    order = {id(p): (-round(p.recall * p.precision, 2), -round(p.exact / p.of, 1), round(p.amiss, 1)) for p in good}
    return sorted(good, key=lambda one: (order[id(one)], round(one.several), one.cost))


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


def _places(one: Known, fits: Callable[[str], bool], value: str) -> Iterator[tuple[int, Way]]:
    """Ways by which the value can be had from this part."""
    root = one.part.selector.root
    if not hasattr(root, "iter"):
        return
    for element in root.iter():
        if not isinstance(element.tag, str) or element.tag in ("script", "style", "html", "head"):
            continue
        if element.tag == "meta":
            named = element.get("property") or element.get("name")
            if named and one.part.tree is None and fits(element.get("content") or ""):
                yield 5, Way(kind="meta", expression=named)
        else:
            yield from _in_text(element, root, fits, value)
            yield from _in_attributes(element, root, fits)


def _in_text(element: Any, root: Any, fits: Callable[[str], bool], value: str) -> Iterator[tuple[int, Way]]:
    text = _text(element)[:MAX_TEXT]
    if not text:
        return
    if fits(text):
        # The innermost element that has it whole.
        if not any(fits(_text(child)) for child in element):
            for cost, kind, path in _paths(element, root):
                yield cost, _text_way(kind, path)
    elif element.text and (found := _within(" ".join(element.text.split()), value)):
        for cost, kind, path in _paths(element, root):
            yield cost + 8, _text_way(kind, path, {"regex": found})


def _in_attributes(element: Any, root: Any, fits: Callable[[str], bool]) -> Iterator[tuple[int, Way]]:
    for name, content in element.attrib.items():
        if name in ("class", "style", "srcset", "id") or not content:
            continue
        if fits(content):
            for cost, kind, path in _paths(element, root, name):
                yield cost + 2, _attribute_way(kind, path, name)
        elif name in ("href", "src") and (pattern := _in_address(content, fits)):
            for cost, kind, path in _paths(element, root, name):
                yield cost + 12, _attribute_way(kind, path, name, [{"regex": pattern}, {"replace": {"-": " "}}])


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split()) if isinstance(element.tag, str) else ""


def _text_way(kind: str, path: str, *clean: Any) -> Way:
    steps = [*clean, "strip"]
    # All of its text: a name may be in bold, or have a link in it.
    return Way.model_validate({kind: path, "clean": steps})


def _attribute_way(kind: str, path: str, name: str, clean: Sequence[Any] = ()) -> Way:
    expression = f"{path}::attr({name})" if kind == "css" else f"{path}/@{name}"
    return Way.model_validate({kind: expression, "clean": [*clean, "strip"]})


def _paths(element: Any, root: Any, but: str = "") -> Iterator[tuple[int, str, str]]:
    """Cost, kind and expression of ways to an element below a part's root; ``but`` is the attribute that is wanted."""
    tag = element.tag
    own = list(_selectors(element, but))
    yield from ((cost, "css", path) for cost, path in own)
    parent = element.getparent()
    if element is not root and parent is not None:
        for cost, path in _selectors(parent, ""):
            yield cost + 5, "css", f"{path} > {tag}"
            place = [child for child in parent if child.tag == tag].index(element) + 1
            yield cost + 30, "css", f"{path} > {tag}:nth-of-type({place})"
        grand = parent.getparent()
        if parent is not root and grand is not None:
            for cost, path in _selectors(grand, ""):
                yield cost + 10, "css", f"{path} {parent.tag} > {tag}"
    if but:
        yield 40, "css", tag
    yield from _after_a_word(element)


def _selectors(element: Any, but: str) -> Iterator[tuple[int, str]]:
    """Selectors of an element by itself, but for what holds the value or is another on each page."""
    tag = element.tag
    for name, content in element.attrib.items():
        if name != but and MEANINGFUL.fullmatch(name):
            is_word = NAME.fullmatch(content or "") and not re.search(r"\d", content)
            yield (1, f'{tag}[{name}="{content}"]') if is_word else (4, f"{tag}[{name}]")
        elif name != but and name.startswith("data-"):
            yield 4, f"{tag}[{name}]"
    if but.startswith("data-"):
        yield 1, f"[{but}]"
    if tag == "a" and (start := _where_to(element.get("href") or "")):
        yield 2, f"a[href*='{start}']"
    identity = element.get("id") or ""
    if NAME.fullmatch(identity) and not re.search(r"\d", identity):
        yield 3, f"#{identity}"
    for one in (element.get("class") or "").split():
        if NAME.fullmatch(one):
            yield 6, f".{one}"
            yield 7, f"{tag}.{one}"


def _after_a_word(element: Any) -> Iterator[tuple[int, str, str]]:
    """The element after one with a word in it, as in a list of terms or a table's row."""
    before = element.getprevious()
    tag = element.tag
    word = _word(before)
    if word:
        yield 9, "xpath", f".//{before.tag}[normalize-space()={word}]/following-sibling::{tag}[1]"
    parent = element.getparent()
    if parent is not None and parent.getprevious() is not None and (word := _word(parent.getprevious())):
        before = parent.getprevious()
        path = f".//{before.tag}[normalize-space()={word}]/following-sibling::{parent.tag}[1]/{tag}"
        yield 11, "xpath", path


def _word(element: Any) -> str | None:
    text = "" if element is None else _text(element)
    return f'"{text}"' if 0 < len(text) <= 40 and '"' not in text else None


def _where_to(href: str) -> str | None:
    """The constant beginning of an address's path: /airline/ of /airline/air-france."""
    parts = [part for part in urlsplit(href).path.split("/") if part]
    found = []
    for part in parts[:-1]:
        if not NAME.fullmatch(part) or re.search(r"\d", part):
            break
        found.append(part)
    return f"/{'/'.join(found[:2])}/" if found else None


def _in_address(content: str, fits: Callable[[str], bool]) -> str | None:
    """A pattern for the part of an address that is the value, by the constant text before it."""
    split = urlsplit(content)
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


def _within(text: str, value: str) -> str | None:
    """A pattern for a value that has other text before or after it in its element."""
    start = text.casefold().find(value.casefold())
    if start < 0 or len(value) < 3:
        return None
    before, after = text[:start], text[start + len(value) :]
    if not before and not after:
        return None
    if re.search(r"\d", before + after) or len(before) > 40 or len(after) > 40:
        return None
    return f"^{re.escape(before)}(.+){re.escape(after)}$"
