"""What of a crawl is done and what is left, by its journal and the tables of earlier ones. Touches nothing.

Lists are read in the order of their pages, each once the one before it was read: so a later crawl can end a list at the
first page of which it knows all, and a list that never ends ends where it brings nothing new.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mirabelle.crawl.templates import Address

# List pages that may yet turn out not to have been what they seemed.
REMEMBERED = 100


@dataclass
class Sequence:
    """A list's pages that are still to be read."""

    number: int
    waiting: deque[Address]
    depth: int = 0


@dataclass
class Progress:
    """Of a whole crawl.

    Attributes:
        sequences: lists, in the order of the description.
        known: marks of the photographs that earlier crawls have.
        links: to photographs' own pages that are not read yet, by key.
        photos: whose picture is not fetched yet, by key.
        images: what became of pictures' addresses, by mark.
        pages, stored, failed: how many so far.
    """

    sequences: list[Sequence]
    known: set[bytes]
    max_depth: int
    full: bool = False
    links: dict[str, str] = field(default_factory=dict)
    photos: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    pages: int = 0
    stored: int = 0
    failed: int = 0
    _read: deque[tuple[Sequence, Address]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _seen: set[bytes] = field(default_factory=set)
    _listed: set[bytes] = field(default_factory=set)

    def apply(self, event: dict[str, Any]) -> None:
        """Take an event into account, as it happens or as the journal has it."""
        getattr(self, f"_{event['event']}")(event)

    def is_new(self, key: str) -> bool:
        """Whether a photograph was neither seen in this crawl nor kept by an earlier one."""
        digest = mark(key)
        return digest not in self._seen and (self.full or digest not in self.known)

    def next_page(self) -> tuple[Sequence, Address] | None:
        """The next list page; it is asked for before it is done, and comes again if it never is."""
        for sequence in self.sequences:
            while sequence.waiting:
                address = sequence.waiting[0]
                if mark(address.url) not in self._listed:
                    return sequence, address
                sequence.waiting.popleft()
        return None

    def skip(self, sequence: Sequence) -> None:
        """A page that cannot be had: on to the next one, if the list has one."""
        if sequence.waiting:
            sequence.waiting.popleft()

    @property
    def pending(self) -> int:
        """Photographs that are known of and not done."""
        return len(self.links) + len(self.photos)

    def _begin(self, event: dict[str, Any]) -> None:
        """The first of a journal, which tells when and by which run."""

    def _page(self, event: dict[str, Any]) -> None:
        # A crawl that goes on may have been given other lists since: what it read counts, and no list follows from it.
        known = event["sequence"] < len(self.sequences)
        sequence = self.sequences[event["sequence"]] if known else Sequence(event["sequence"], deque())
        self.pages += 1
        self._listed |= {mark(event["asked"]), mark(event["url"])}
        is_next = bool(sequence.waiting) and sequence.waiting[0].url == event["asked"]
        told = sequence.waiting.popleft().told if is_next else {}
        self._read.append((sequence, Address(event["asked"], told)))
        keys = [*(photo["key"] for photo in event["photos"]), *event["links"]]
        new = [key for key in keys if self.is_new(key)]
        all_known = bool(keys) and not self.full and all(mark(key) in self.known for key in keys)
        for photo in event["photos"]:
            if self.is_new(photo["key"]):
                self.photos[photo["key"]] = photo
                self._seen.add(mark(photo["key"]))
        for key, url in event["links"].items():
            if self.is_new(key):
                self.links[key] = url
                self._seen.add(mark(key))
        if not is_next:
            return
        if all_known:
            sequence.waiting.clear()
        elif new:
            sequence.depth += 1
            onward = [url for url in event["next"] if mark(url) not in self._listed]
            if sequence.depth < self.max_depth:
                sequence.waiting.extendleft(Address(url, told) for url in reversed(onward))

    def _suspect(self, event: dict[str, Any]) -> None:
        """The last list pages were not as described: they, and what was missed on them, are still to be read."""
        for _ in range(min(event["lists"], len(self._read))):
            sequence, address = self._read.pop()
            self._listed.discard(mark(address.url))
            sequence.waiting.appendleft(address)
        for key, url in event["missed"].items():
            self._seen.discard(mark(key))
            self.failed -= 1
            if url:
                self.links[key] = url
                self._seen.add(mark(key))

    def _photo(self, event: dict[str, Any]) -> None:
        self.pages += 1
        self.links.pop(event["key"], None)
        self.photos[event["key"]] = event

    def _image(self, event: dict[str, Any]) -> None:
        self.stored += 1
        self.photos.pop(event["key"], None)
        facts = ("name", "sha256", "size_bytes", "width_px", "height_px", "etag", "at")
        self.images[mark(event["image_url"])] = {name: event[name] for name in facts}

    def _failure(self, event: dict[str, Any]) -> None:
        if not event["key"]:
            return  # a list page, which the next attempt asks for again
        self.failed += 1
        self._seen.add(mark(event["key"]))
        self.links.pop(event["key"], None)
        self.photos.pop(event["key"], None)


def mark(text: str) -> bytes:
    """Sixteen bytes that stand for a text: millions of them fit into memory."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def sequences(expanded: Iterable[Iterator[list[Address]]]) -> list[Sequence]:
    """The lists of some start addresses."""
    found = [addresses for template in expanded for addresses in template]
    return [Sequence(number, deque(addresses)) for number, addresses in enumerate(found)]
