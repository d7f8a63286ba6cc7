"""Expressions that lead to an element of a page, from the most stable to the least. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mirabelle.crawl.page import split_address

NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
# Attributes and classes of an element that are looked at: no page that people write has more that say something.
MOST = 20
# Pieces of text in an element that may be a value.
MOST_PIECES = 50
MEANINGFUL = re.compile(r"itemprop|property|rel|role|name|title|aria-label|data-[\w-]+")


def text_of(element: Any) -> str:
    """Of an element its text, or the beginning of one too long to be a value; of a comment none."""
    if not isinstance(element.tag, str):
        return ""
    # Of everything that is above a value on a page this is asked, so that all of it would be a page times its depth.
    return " ".join("".join(islice(element.itertext(), MOST_PIECES)).split())


def attributes(element: Any) -> Iterator[tuple[str, str]]:
    """An element's attributes, of those that an expression can name."""
    return ((name, content) for name, content in islice(element.attrib.items(), MOST) if NAME.fullmatch(name))


def paths(element: Any, root: Any, but: str = "") -> Iterator[tuple[int, str, str]]:
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
    if but or element is not root:
        yield 40, "css", tag
    yield from _after_a_word(element)


def _selectors(element: Any, but: str) -> Iterator[tuple[int, str]]:
    """Selectors of an element by itself, but for what holds the value or is another on each page."""
    tag = element.tag
    for name, content in attributes(element):
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
    for one in classes_of(element):
        yield 6, f".{one}"
        yield 7, f"{tag}.{one}"
    # An icon says what a line is.
    for child in element:
        if isinstance(child.tag, str) and not text_of(child):
            yield from ((8, f"{tag}:has(> {child.tag}.{one})") for one in classes_of(child))


def classes_of(element: Any) -> list[str]:
    """An element's classes, of those that a selector can name."""
    return [one for one in (element.get("class") or "").split()[:MOST] if NAME.fullmatch(one)]


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
    text = text_of(element) if element is not None and NAME.fullmatch(str(element.tag)) else ""
    return f'"{text}"' if 0 < len(text) <= 40 and '"' not in text else None


def _where_to(href: str) -> str | None:
    """The constant beginning of an address's path: /airline/ of /airline/air-france."""
    parts = [part for part in split_address(href).path.split("/") if part]
    found = []
    for part in parts[:-1]:
        if not NAME.fullmatch(part) or re.search(r"\d", part):
            break
        found.append(part)
    return f"/{'/'.join(found[:2])}/" if found else None
