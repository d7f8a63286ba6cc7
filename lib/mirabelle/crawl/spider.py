"""The spider: asks for what is left, reads it by the description, and notes what came of it. [Scrapy]"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import scrapy
from scrapy import Request
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from twisted.python.failure import Failure

from mirabelle.crawl.addresses import Hosts
from mirabelle.crawl.description import Description
from mirabelle.crawl.gate import header
from mirabelle.crawl.health import Health
from mirabelle.crawl.journal import Journal
from mirabelle.crawl.page import Page
from mirabelle.crawl.pictures import measured
from mirabelle.crawl.progress import Progress, Sequence, mark
from mirabelle.crawl.reading import Found, read_list, read_photo, says
from mirabelle.crawl.robots import Robots
from mirabelle.crawl.templates import Address
from mirabelle.errors import DecodeError

# Photographs that wait before the next list page is asked for: lists are quicker read than pictures fetched.
ENOUGH_PENDING = 64
BUSY_SECONDS = 5.0
MISSED = 1_000
MAX_DETAIL = 300


@dataclass(frozen=True)
class Rules:
    """What the gate goes by.

    Attributes:
        delay_seconds: between requests to a host, at least.
        tries: of each request.
        retry_seconds: before the first further one; twice that before the second.
    """

    hosts: Hosts
    robots: Robots
    delay_seconds: float
    tries: int
    retry_seconds: float


@dataclass(frozen=True)
class Bounds:
    """Where a crawl ends, whatever a site has."""

    page_bytes: int
    image_bytes: int
    image_pixels: int
    pages: int
    images: int
    canary_pages: int


@dataclass
class Counts:
    """For the progress line and the manifest."""

    requests: int = 0
    received_bytes: int = 0
    lists_failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    complaint: str | None = None
    bound: str | None = None


class PhotoSpider(scrapy.Spider):
    """One crawl of one site."""

    name = "photos"

    def __init__(
        self,
        description: Description,
        rules: Rules,
        bounds: Bounds,
        progress: Progress,
        journal: Journal,
        health: Health,
    ) -> None:
        super().__init__()
        self.description, self.rules, self.bounds = description, rules, bounds
        self.progress, self.journal, self.health = progress, journal, health
        self.counts = Counts()
        self._list_in_flight = False
        self._failed_in_a_row = 0
        self._lists_read = 0
        # When, by list pages read: photographs that lacked a required field, and their own pages where they have one.
        self._missed: deque[tuple[int, str, str]] = deque(maxlen=MISSED)
        self._waiting: dict[bytes, list[str]] = {}

    async def start(self) -> AsyncIterator[Request]:
        """What an earlier attempt left, then the lists."""
        for key, url in list(self.progress.links.items()):
            yield self._photo_request(key, url)
        for key in list(self.progress.photos):
            for request in self._image_requests(key):
                yield request
        for request in self._onward():
            yield request

    def busy_seconds(self, request: Request, response: Response) -> float | None:
        """How long to wait where a site says under the status 200 that it is busy; None: it does not."""
        if not self.description.busy or response.status != 200 or not request.meta.get("archive"):
            return None
        return BUSY_SECONDS if says(self._page(response, request.meta), self.description.busy) else None

    def count_request(self, size_bytes: int) -> None:
        """An answer came, of this size as it was sent."""
        self.counts.requests += 1
        self.counts.received_bytes += size_bytes

    async def parse_list(self, response: Response) -> AsyncIterator[Request]:
        """A list page."""
        meta = response.meta
        self._list_in_flight = False
        page = self._page(response, meta)
        problem = self._problem(response, page)
        if problem:
            self._list_failed(meta["sequence"], response.url, "fetch", *problem)
        else:
            self._failed_in_a_row = 0
            self._lists_read += 1
            listed = read_list(page, self.description)
            self.health.page(len(listed.photos) + len(listed.links))
            missing = {found.key: found.missing(self.description) for found in listed.photos}
            photos = list({f.key: f for f in listed.photos if self.progress.is_new(f.key)}.values())
            for found in photos:
                self.health.photo(found)
            links = {key: url for key, url in listed.links.items() if self.progress.is_new(key)}
            whole = [found for found in listed.photos if not missing[found.key]]
            number = meta["sequence"].number
            self._note(
                "page",
                sequence=number,
                asked=meta["address"].url,
                url=response.url,
                photos=[asdict(found) for found in {f.key: f for f in whole}.values()],
                links=listed.links,
                next=listed.next,
            )
            for found in photos:
                if missing[found.key]:
                    self._missing(found, missing[found.key], response.url)
            self._check()
            for found in photos:
                if not missing[found.key]:
                    for request in self._image_requests(found.key):
                        yield request
            for key, url in links.items():
                yield self._photo_request(key, url)
        for request in self._onward():
            yield request

    async def parse_photo(self, response: Response) -> AsyncIterator[Request]:
        """A photograph's own page."""
        key = response.meta["key"]
        page = self._page(response, response.meta)
        problem = self._problem(response, page)
        if problem:
            self._fail(key, response.url, "page", "fetch", *problem)
        else:
            found = read_photo(page, self.description, key)
            self.health.photo(found)
            if missing := found.missing(self.description):
                self._missing(found, missing, response.url)
            else:
                self._note("photo", **asdict(found))
                for request in self._image_requests(key):
                    yield request
            self._check()
        for request in self._onward():
            yield request

    async def parse_image(self, response: Response) -> AsyncIterator[Request]:
        """A picture, for all photographs that wait for it."""
        meta = response.meta
        kind = header(response, b"Content-Type").partition(";")[0].strip().lower()
        problem = None
        if response.status != 200:
            problem = (f"status_{response.status}", "")
        elif kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "binary/octet-stream"):
            problem = ("not_an_image", f"the server sent it as {kind}")
        picture = None
        if problem is None:
            try:
                picture = await asyncio.to_thread(measured, response.body, self.bounds.image_pixels)
            except DecodeError as error:
                problem = (error.code.value, error.detail)
        # Only now, as others may have come to wait for it meanwhile.
        keys = self._waiting.pop(mark(meta["image_url"]), [meta["key"]])
        if picture is None:
            assert problem is not None
            stage = "fetch" if response.status != 200 else "check"
            self._fail_all(keys, meta["image_url"], stage, *problem)
        else:
            etag = header(response, b"ETag").strip('"') or None
            facts = {"image_url": meta["image_url"], "etag": etag, "at": _now()}
            facts |= {"width_px": picture.width_px, "height_px": picture.height_px}
            event = self.journal.add_image(response.body, picture.kind, key=keys[0], **facts)
            self.progress.apply(event)
            for key in keys[1:]:
                self._note("image", **{**event, "key": key})
        for request in self._onward():
            yield request

    async def failed(self, failure: Failure) -> AsyncIterator[Request]:
        """A request that came to nothing, after all tries."""
        request: Request = failure.request  # type: ignore[attr-defined]
        error = failure.value
        assert error is not None
        code = getattr(error, "code", None) or _code_of(error)
        detail = getattr(error, "detail", None) or str(error) or type(error).__name__
        stage = "refused" if code.startswith(("forbidden", "robots")) else "fetch"
        meta = request.meta
        if "sequence" in meta:
            self._list_in_flight = False
            self._list_failed(meta["sequence"], request.url, stage, code, detail)
        elif "image_url" in meta:
            keys = self._waiting.pop(mark(meta["image_url"]), [meta["key"]])
            self._fail_all(keys, meta["image_url"], stage, code, detail)
        else:
            self._fail(meta["key"], request.url, "page", stage, code, detail)
        for onward in self._onward():
            yield onward

    def _onward(self) -> Iterator[Request]:
        """The next list page, when little waits."""
        if self._list_in_flight or self.progress.pending >= ENOUGH_PENDING:
            return
        if self.progress.pages >= self.bounds.pages:
            self.counts.bound = f"crawl.max_pages ({self.bounds.pages:,})"
            return
        if self.progress.stored + self.progress.pending >= self.bounds.images:
            self.counts.bound = f"crawl.max_images ({self.bounds.images:,})"
            return
        found = self.progress.next_page()
        if found:
            sequence, address = found
            self._list_in_flight = True
            meta = {"sequence": sequence, "address": address, "archive": True}
            yield self._request(address.url, self.parse_list, self.bounds.page_bytes, meta, 0)

    def _photo_request(self, key: str, url: str) -> Request:
        meta = {"key": key, "archive": True}
        return self._request(url, self.parse_photo, self.bounds.page_bytes, meta, 1)

    def _image_requests(self, key: str) -> Iterator[Request]:
        """The picture of a photograph, unless it is here or on its way already."""
        url = self.progress.photos[key]["values"]["image_url"]
        digest = mark(url)
        known = self.progress.images.get(digest)
        if known:
            self._note("image", key=key, image_url=url, **known)
        elif digest in self._waiting:
            self._waiting[digest].append(key)
        else:
            self._waiting[digest] = [key]
            meta = {"key": key, "image_url": url}
            yield self._request(url, self.parse_image, self.bounds.image_bytes, meta, 2)

    def _request(self, url: str, callback: Any, max_bytes: int, meta: dict[str, Any], priority: int) -> Request:
        meta = {**meta, "download_maxsize": max_bytes, "handle_httpstatus_all": True}
        return Request(url, callback, errback=self.failed, meta=meta, priority=priority, dont_filter=True)

    def _page(self, response: Response, meta: dict[str, Any]) -> Page:
        kind = header(response, b"Content-Type") or "text/html"
        return Page(response.url, response.body, kind, meta.get("address") or Address(""))

    def _problem(self, response: Response, page: Page) -> tuple[str, str] | None:
        """Why an answer is no page; None: it is one."""
        if response.status != 200:
            return f"status_{response.status}", ""
        kind = page.content_type.partition(";")[0].strip().lower()
        if kind.startswith(("image/", "video/", "audio/")) or kind in ("application/pdf", "application/zip"):
            return "not_a_page", f"the server sent it as {kind}"
        if told := says(page, self.description.error):
            return "site_error", told
        return None

    def _missing(self, found: Found, names: list[str], page_url: str) -> None:
        odd = [name for name in names if name in found.odd]
        detail = f"no {', '.join(names)}" + (f"; {', '.join(odd)} does not look as expected" if odd else "")
        self._missed.append((self._lists_read, found.key, page_url if self.description.has_own_pages else ""))
        self._fail(found.key, found.values.get("image_url") or page_url, "page", "parse", "missing_field", detail)

    def _fail_all(self, keys: list[str], url: str, stage: str, code: str, detail: str) -> None:
        for key in keys:
            self._fail(key, url, "image", stage, code, detail)

    def _fail(self, key: str, url: str, kind: str, stage: str, code: str, detail: str) -> None:
        photo = self.progress.photos.get(key)
        page_url = photo["values"]["page_url"] if photo else None
        self.counts.failures[code] += 1
        facts = {"url": url, "kind": kind, "stage": stage, "code": code, "detail": detail[:MAX_DETAIL]}
        self._note("failure", key=key, page_url=page_url, at=_now(), **facts)

    def _list_failed(self, sequence: Sequence, url: str, stage: str, code: str, detail: str) -> None:
        self._fail("", url, "page", stage, code, detail)
        self.progress.skip(sequence)
        self.counts.lists_failed += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self.bounds.canary_pages:
            self.counts.complaint = f"{self._failed_in_a_row} list pages in a row could not be had, last {url} ({code})"
            raise CloseSpider("lists")

    def _check(self) -> None:
        self.counts.complaint = self.health.complaint()
        if self.counts.complaint:
            since = self._lists_read - self.bounds.canary_pages
            missed = {key: url for when, key, url in self._missed if when > since}
            self._note("suspect", lists=self.bounds.canary_pages, missed=missed)
            raise CloseSpider("changed")

    def _note(self, event: str, **facts: Any) -> None:
        facts.pop("event", None)
        self.journal.add(event, **facts)
        self.progress.apply({"event": event, **facts})


def _code_of(error: BaseException) -> str:
    name = type(error).__name__
    for code, words in {
        "timeout": ("Timeout",),
        "no_such_host": ("DNSLookup", "CannotResolveHost"),
        "cut_short": ("DataLoss", "ResponseFailed", "PartialDownload"),
        "too_many_bytes": ("DownloadCancelled",),
        "no_connection": ("Connect", "TCP"),
    }.items():
        if any(word in name for word in words):
            return code
    return "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
