"""The ways to find a value on a page. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import jmespath
from parsel import Selector

from mirabelle.crawl.cleaning import clean
from mirabelle.crawl.description import Described, Kind, Way
from mirabelle.crawl.page import Page

# However a page was made, a value longer than this is none that anyone looks for.
MAX_VALUE = 4_000


@dataclass(frozen=True)
class Part:
    """Where a photograph's fields are looked for: a page, or a part of its tree or of its JSON."""

    page: Page
    tree: Selector | None = None
    values: Any = None

    @property
    def selector(self) -> Selector:
        """The tree below it."""
        return self.page.tree if self.tree is None else self.tree

    @property
    def json(self) -> Any:
        """The JSON below it."""
        return self.page.values if self.values is None else self.values


def parts(page: Page, ways: tuple[Way, ...]) -> list[Part]:
    """The parts of a page that are a photograph each, by the first way that finds any; without ways the page is one."""
    if not ways:
        return [Part(page)]
    for way in ways:
        if way.kind in ("css", "xpath"):
            found: list[Any] = list(getattr(page.tree, way.kind)(way.expression))
            if found:
                return [Part(page, tree=tree) for tree in found]
        elif way.kind == "json":
            values = _search(way.expression, page.values)
            if isinstance(values, list) and values:
                return [Part(page, values=value) for value in values]
    return []


def all_values(part: Part, way: Way) -> Iterator[Any]:
    """All that a way finds, uncleaned, in the page's order."""
    return FINDERS[way.kind](part, way.expression)


def links(page: Page, ways: tuple[Way, ...]) -> list[str]:
    """What the first way finds that finds any: each once, cleaned."""
    for way in ways:
        cleaned = (clean(text, way.clean) for text in map(as_text, all_values(Part(page), way)) if text)
        found = list(dict.fromkeys(text for text in cleaned if text))
        if found:
            return found
    return []


def value_by(part: Part, way: Way, field: Described) -> str | None:
    """The first value that a way finds and that its steps and the field's leave something of."""
    for found in all_values(part, way):
        text = as_text(found)
        if text is not None and (cleaned := clean(text, (*way.clean, *field.clean))):
            return cleaned[:MAX_VALUE]
    return None


def as_text(found: Any) -> str | None:
    """A value as text; None for what is no single value."""
    if isinstance(found, str):
        return found
    if isinstance(found, bool) or found is None:
        return None
    return str(found) if isinstance(found, int | float) else None


def _css(part: Part, expression: str) -> Iterator[Any]:
    # Without ::text or ::attr() an element is meant for its text.
    for one in part.selector.css(expression):
        yield _text_of(one)


def _xpath(part: Part, expression: str) -> Iterator[Any]:
    for one in part.selector.xpath(expression):
        yield _text_of(one)


def _text_of(one: Selector) -> str:
    # Of an element all of its text; an expression may also come to a text or a number.
    return "".join(one.xpath(".//text()").getall()) if hasattr(one.root, "iter") else str(one.root)


def _json(part: Part, expression: str) -> Iterator[Any]:
    found = _search(expression, part.json)
    yield from found if isinstance(found, list) else [found]


def _search(expression: str, values: Any) -> Any:
    try:
        return _compiled(expression).search(values)
    except jmespath.exceptions.JMESPathError:  # a function on what it does not take
        return None


@lru_cache(maxsize=256)
def _compiled(expression: str) -> Any:
    return jmespath.compile(expression)


def _jsonld(part: Part, expression: str) -> Iterator[Any]:
    kind, _, path = expression.partition(".")
    for node in _nodes(part.page.embedded.get("json-ld", [])):
        if kind in _as_list(node.get("@type")):
            found = _search(path, node)
            yield from found if isinstance(found, list) else [found]


def _nodes(values: Any) -> Iterator[dict[str, Any]]:
    """Every object, those within others too."""
    if isinstance(values, list):
        for one in values:
            yield from _nodes(one)
    elif isinstance(values, dict):
        yield values
        for one in values.values():
            yield from _nodes(one)


def _microdata(part: Part, expression: str) -> Iterator[Any]:
    kind, _, path = expression.partition(".")
    for node in _nodes(part.page.embedded.get("microdata", [])):
        if any(str(one).rstrip("/").rpartition("/")[2] == kind for one in _as_list(node.get("type"))):
            found = _search(path, node.get("properties"))
            yield from found if isinstance(found, list) else [found]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _meta(part: Part, expression: str) -> Iterator[Any]:
    yield from part.page.tree.xpath("//meta[@property=$name or @name=$name]/@content", name=expression).getall()


def _url(part: Part, expression: str) -> Iterator[Any]:
    found = re.search(expression, unquote(part.page.url))
    if found:
        yield found[1] if found.re.groups else found[0]


def _start(part: Part, expression: str) -> Iterator[Any]:
    yield part.page.address.told.get(expression)


FINDERS: dict[Kind, Callable[[Part, str], Iterator[Any]]] = {
    "css": _css,
    "xpath": _xpath,
    "json": _json,
    "jsonld": _jsonld,
    "meta": _meta,
    "microdata": _microdata,
    "url": _url,
    "start": _start,
}
