"""One page as it came: its text, its tree, what it says of itself. Touches nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from parsel import Selector
from w3lib.encoding import html_to_unicode
from w3lib.html import get_base_url

from mirabelle.crawl.templates import Address

# Deep enough for any page that people write; lxml's own limit keeps trees from growing without bound.
SYNTAXES = ("json-ld", "microdata")


def split_address(url: str) -> SplitResult:
    """An address in its parts; without any for what is none, as http://[x."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


@dataclass(frozen=True)
class Page:
    """A page, or a part of one that is a photograph.

    Attributes:
        url: where it was found, after redirects.
        body: its bytes, no longer compressed.
        content_type: as the server said.
        address: the start address that its list began with.
    """

    url: str
    body: bytes
    content_type: str = "text/html"
    address: Address = field(default_factory=lambda: Address(""))

    @cached_property
    def text(self) -> str:
        """The body as text, by its own encoding."""
        return html_to_unicode(self.content_type, self.body, default_encoding="utf-8")[1]

    @cached_property
    def tree(self) -> Selector:
        """The page as a tree; one without any tag for what is no markup."""
        return Selector(text=self.text or "<html/>", type="html", base_url=self.url)

    @cached_property
    def base(self) -> str:
        """What its relative addresses are relative to."""
        return str(get_base_url(self.text, self.url))

    def joined(self, link: str) -> str | None:
        """An address on the page as a whole one; None for what is none."""
        try:
            return urljoin(self.base, link.strip())
        except ValueError:
            return None

    @cached_property
    def values(self) -> Any:
        """The page as JSON; of one with markup what its scripts of type application/json hold, by their ids."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            held = {}
            for script in self.tree.xpath("//script[@type='application/json'][@id]"):
                with suppress(ValueError, RecursionError):
                    held[script.attrib["id"]] = json.loads(script.xpath("string()").get(""))
            return held or None

    @cached_property
    def embedded(self) -> Mapping[str, list[Any]]:
        """What extruct finds: ``json-ld`` and ``microdata``, as it has them."""
        import extruct

        try:
            found = extruct.extract(self.text, base_url=self.url, syntaxes=list(SYNTAXES), errors="ignore")
        except Exception:  # a page may hold anything, and no way that reads it should end a crawl
            return {}
        return dict(found)
