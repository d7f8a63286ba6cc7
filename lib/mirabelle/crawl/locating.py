"""Where known photographs stand on pages: their parts, links to their own pages, their numbers. Touches nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from typing import Any

from mirabelle.crawl.description import Way
from mirabelle.crawl.finding import parts
from mirabelle.crawl.mining import Known
from mirabelle.crawl.page import Page, split_address
from mirabelle.crawl.paths import NAME, attributes, classes_of

# An address that happens to have a known number in it says nothing if that is short.
LEAST_TOKEN = 4
TOKEN = re.compile(r"[0-9A-Za-z]+")
# Selectors that are tried on all pages.
TRIED = 60


def tokens_of(row: dict[str, Any]) -> Iterator[str]:
    """What a photograph is known by in addresses and attributes: its number, and its picture's name."""
    if row.get("id"):
        yield row["id"]
    stem = split_address(row["image_url"]).path.rpartition("/")[2].partition(".")[0]
    for token in TOKEN.findall(stem):
        if len(token) >= LEAST_TOKEN and re.search(r"\d", token):
            yield token


def row_of_text(text: str, by_token: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The photograph that a text names by a token."""
    for token in TOKEN.findall(text):
        if len(token) >= LEAST_TOKEN and token in by_token:
            return by_token[token]
    return None


def row_of_address(url: str, by_token: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The photograph that an address is of: its path says so before its query."""
    split = split_address(url)
    return row_of_text(split.path, by_token) or row_of_text(split.query, by_token)


def blocks(lists: Sequence[Page], by_token: dict[str, dict[str, Any]]) -> tuple[list[Known], list[Way]]:
    """The parts of list pages that are a known photograph each, and the way to them."""
    elements: list[tuple[Page, Any]] = []
    for page in lists:
        elements += [(page, element) for element in _highest(page.tree.root, by_token)]
    if not elements:
        return [], []
    selectors: Counter[str] = Counter()
    for _, element in elements:
        selectors.update(set(_block_selectors(element, by_token)))
    found: list[tuple[int, int, str, list[Known]]] = []
    for selector, number in sorted(selectors.items(), key=lambda one: (-one[1], len(one[0])))[:TRIED]:
        known = _by_selector(selector, lists, by_token) if number >= 0.9 * len(elements) else None
        if known and len(known[0]) >= 0.9 * len(elements):
            found.append((known[1], len(selector), selector, known[0]))
    if not found:
        return [], []
    # What has no known photograph may be a new one, or an advertisement: the fewer, the better.
    _, _, best, parts_of = min(found, key=lambda one: one[:3])
    return parts_of, [Way(kind="css", expression=best)]


def _by_selector(
    selector: str, lists: Sequence[Page], by_token: dict[str, dict[str, Any]]
) -> tuple[list[Known], int] | None:
    """The parts with a known photograph each, and how many have none; None: there is one with several."""
    known, empty = [], 0
    for page in lists:
        for part in parts(page, (Way(kind="css", expression=selector),)):
            rows = {id(row): row for row in rows_in(part.selector.root, by_token)}
            if len(rows) > 1:
                return None
            known += [Known(part, row) for row in rows.values()]
            empty += not rows
    return known, empty


def _highest(root: Any, by_token: dict[str, dict[str, Any]]) -> list[Any]:
    """The highest elements that have one known photograph each."""
    rows: dict[Any, set[int]] = {}
    for element in root.iter():
        for row in _rows_of(element, by_token):
            for each in chain([element], element.iterancestors()):
                if id(row) in rows.setdefault(each, set()):
                    break
                rows[each].add(id(row))
    if len(rows.get(root, ())) < 2:
        return []
    return [e for e, found in rows.items() if len(found) == 1 and len(rows.get(e.getparent(), ())) > 1]


def rows_in(element: Any, by_token: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The photographs that attributes of an element and of those within name."""
    for one in element.iter():
        yield from _rows_of(one, by_token)


def _rows_of(element: Any, by_token: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if isinstance(element.tag, str):
        for name, content in element.attrib.items():
            if name != "class" and (row := row_of_text(content, by_token)):
                yield row


def _block_selectors(element: Any, by_token: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Selectors of an element, of those that are all that is in it, and by what in it has the number."""
    yield from _own_selectors(element)
    only = element
    while len(only) == 1 and isinstance(only[0].tag, str) and not any(row_of_text(v, by_token) for v in only.values()):
        only = only[0]
        yield from _own_selectors(only)
    for one in element.iter("a", "img"):
        if one is not element and next(rows_in(one, by_token), None):
            above = takewhile(lambda each: each is not element, one.iterancestors())
            tags = [one.tag, *(each.tag for each in above)]
            if all(map(NAME.fullmatch, (element.tag, *tags))):
                yield f"{element.tag}:has(> {' > '.join(reversed(tags))})"


def _own_selectors(element: Any) -> Iterator[str]:
    tag = element.tag
    if not NAME.fullmatch(tag):
        return
    classes = classes_of(element)
    yield from (f"{tag}.{one}" for one in classes)
    yield from (f"{tag}[{name}]" for name, _ in attributes(element) if name.startswith("data-"))
    if element.get("itemtype"):
        yield f"{tag}[itemscope]"
    parent = element.getparent()
    if parent is not None:
        if NAME.fullmatch(parent.get("id") or ""):
            yield f"#{parent.get('id')} > {tag}"
        yield from (f".{one} > {tag}" for one in classes_of(parent))
        if NAME.fullmatch(parent.tag):
            yield f"{parent.tag} > {tag}"


def links_to(lists: Sequence[Page], by_token: dict[str, dict[str, Any]]) -> tuple[list[Way], dict[str, dict[str, Any]]]:
    """The way to photographs' own pages, and the addresses of those that are known."""
    urls: dict[str, dict[str, Any]] = {}
    starts: Counter[str] = Counter()
    for page in lists:
        for href in page.tree.css("a::attr(href)").getall():
            url = page.joined(href)
            row = row_of_address(url, by_token) if url else None
            if url and row and not re.search(r"\.(jpe?g|png|webp|gif)$", split_address(url).path, re.IGNORECASE):
                urls.setdefault(url, row)
                starts[_until_token(href, by_token)] += 1
    if not starts:
        return [], {}
    start = starts.most_common(1)[0][0]
    kept = {url: row for url, row in urls.items() if start in url}
    return [Way(kind="css", expression=f"a[href*='{start}']::attr(href)")], kept


def _until_token(href: str, by_token: dict[str, dict[str, Any]]) -> str:
    """An address up to the number in it: /photo/ of /photo/123-air-france."""
    path = split_address(href).path
    for found in TOKEN.finditer(path):
        if found[0] in by_token:
            return path[: found.start()]
    return path


def way_to_id(known: Sequence[Known], own_pages: bool) -> Way | None:
    """Where a photograph's number stands: in its page's address, or in an attribute."""
    with_id = [one for one in known if one.row.get("id")]
    if not with_id:
        return None
    number = r"\d+" if all(one.row["id"].isdigit() for one in with_id) else r"[\w-]+"
    if own_pages:
        starts: Counter[str] = Counter()
        for one in with_id:
            path = split_address(one.part.page.url).path
            if one.row["id"] in path:
                starts[path[: path.index(one.row["id"])]] += 1
        start = starts.most_common(1)[0][0] if starts else "/"
        return Way(kind="url", expression=f"{re.escape(start)}({number})")
    tried: Counter[str] = Counter()
    for one in with_id:
        for element in one.part.selector.root.iter():
            if isinstance(element.tag, str):
                for name, content in element.attrib.items():
                    if one.row["id"] in TOKEN.findall(content) and name != "class":
                        before = content[: content.index(one.row["id"])]
                        place = "" if element is one.part.selector.root else element.tag
                        tried[f"{place}::attr({name})\n{re.escape(before)}({number})"] += 1
    expression, _, pattern = tried.most_common(1)[0][0].partition("\n")
    return Way.model_validate({"css": expression, "clean": [{"regex": pattern}]})
