"""All that a description finds on a page: photographs, links, and how each field was found. Touches nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from w3lib.url import canonicalize_url

from mirabelle.crawl.description import Description, Way
from mirabelle.crawl.finding import Part, all_values, as_text, links, parts, value_by
from mirabelle.crawl.page import Page

# Fields that are addresses, which may be relative to the page.
ADDRESSES = ("image_url", "page_url", "licence_url")


@dataclass(frozen=True)
class Found:
    """A photograph on a page.

    Attributes:
        key: the same photograph has the same one, wherever it is listed.
        values: by field; None where no way found one.
        ways: by field, the number of the way that found it.
        agree: by field that several ways found: whether all say the same.
        odd: fields whose value did not look as is expected of it, and was dropped.
    """

    key: str
    values: dict[str, str | None]
    ways: dict[str, int] = field(default_factory=dict)
    agree: dict[str, bool] = field(default_factory=dict)
    odd: tuple[str, ...] = ()

    def missing(self, description: Description) -> list[str]:
        """Required fields that it has not."""
        required = (name for name, one in description.fields.items() if one.required or name == "image_url")
        return [name for name in required if not self.values.get(name)]


@dataclass(frozen=True)
class Listed:
    """A list page.

    Attributes:
        photos: that are on it whole.
        links: to photographs' own pages, by key.
        next: further list pages.
    """

    photos: list[Found]
    links: dict[str, str]
    next: list[str]


def read_list(page: Page, description: Description) -> Listed:
    """A list page by a description."""
    follow = description.follow
    onward = _joined(page, links(page, follow.next))
    onward += [_with_parameters(page.url, found) for found in _objects(page, follow.parameters)]
    if not description.has_own_pages:
        return Listed([read_part(part, description) for part in parts(page, description.photos)], {}, onward)
    urls = _joined(page, links(page, follow.photo))
    return Listed([], {key_of_link(url, description): url for url in urls}, onward)


def _joined(page: Page, found: list[str]) -> list[str]:
    return [url for url in map(page.joined, found) if url]


def read_photo(page: Page, description: Description, key: str) -> Found:
    """A photograph's own page; ``key`` is that of the link that led there."""
    found = next(iter(parts(page, description.photos)), Part(page))
    return read_part(found, description, key)


def read_part(part: Part, description: Description, key: str | None = None) -> Found:
    """One photograph."""
    values: dict[str, str | None] = {}
    ways: dict[str, int] = {}
    agree: dict[str, bool] = {}
    odd: list[str] = []
    for name, described in description.fields.items():
        found = {i: v for i, way in enumerate(described.ways) if (v := value_by(part, way, described)) is not None}
        expected = description.expect.get(name)
        if expected and expected.matches is not None:
            fitting = {i: value for i, value in found.items() if re.fullmatch(expected.matches, value)}
            odd += [name] if found and not fitting else []
            found = fitting
        if len(found) > 1:
            agree[name] = len({_plain(value) for value in found.values()}) == 1
        if found:
            ways[name] = min(found)
        value = found.get(min(found, default=-1))
        values[name] = part.page.joined(value) if value and name in ADDRESSES else value
    values.setdefault("page_url", None)
    values["page_url"] = values["page_url"] or part.page.url
    return Found(key or _key(values), values, ways, agree, tuple(odd))


def key_of_link(url: str, description: Description) -> str:
    """The key of the photograph whose own page this is: its id, where the description reads one off the address."""
    described = description.fields.get("id")
    for way in described.ways if described else ():
        if way.kind == "url" and described and (found := value_by(Part(Page(url, b"")), way, described)):
            return f"id={found}"
    return f"page={canonicalize_url(url)}"


def key_of_row(row: dict[str, Any], description: Description) -> str:
    """The key of a photograph that an earlier crawl has kept."""
    if row.get("id"):
        return f"id={row['id']}"
    if description.has_own_pages:
        return key_of_link(str(row["page_url"]), description)
    return _key(row)


def says(page: Page, ways: tuple[Way, ...]) -> str | None:
    """What the first of these ways finds; None: nothing."""
    return next(iter(links(page, ways)), None)


def _key(values: dict[str, Any]) -> str:
    if values.get("id"):
        return f"id={values['id']}"
    return f"image={canonicalize_url(str(values.get('image_url') or ''))}"


def _plain(value: str) -> str:
    """For telling whether two ways say the same: the one may be an address's slug of the other."""
    return re.sub(r"[\W_]+", "", value).casefold()


def _objects(page: Page, ways: tuple[Way, ...]) -> list[dict[str, str]]:
    for way in ways:
        found = [one for one in all_values(Part(page), way) if isinstance(one, dict)]
        if found:
            return [{str(k): text for k, v in one.items() if (text := as_text(v)) is not None} for one in found]
    return []


def _with_parameters(url: str, given: dict[str, str]) -> str:
    """The address with these parameters in the place of those of the same name."""
    split = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(split.query, keep_blank_values=True) if key not in given]
    return urlunsplit(split._replace(query=urlencode([*kept, *given.items()])))
