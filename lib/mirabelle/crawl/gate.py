"""What stands between a crawl and the web: which requests go out, when, and what is done when one fails. [Scrapy]

Scrapy's AutoThrottle keeps its pace by how fast a site answers; here it never goes below what robots.txt asks for, and
waits as long as a Retry-After says.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.extensions.throttle import AutoThrottle
from scrapy.http import Response
from scrapy.resolver import CachingThreadedResolver
from twisted.internet.error import DNSLookupError

from mirabelle.crawl.addresses import is_private
from mirabelle.crawl.robots import MAX_HOPS, REDIRECTS, retry_after_seconds
from mirabelle.errors import RunFailed

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

AGAIN = (408, 429, 500, 502, 503, 504, 522, 524)
# A site that is asked less, not only this request.
SLOWER = (429, 503)
MAX_PAUSE_SECONDS = 600.0


class Refused(IgnoreRequest):
    """A request that is not made, or whose answer is not taken."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Throttle(AutoThrottle):
    """AutoThrottle with a floor for each host."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._least: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def at_least(self, host: str, seconds: float) -> None:
        """From now on this long between requests to a host."""
        self._least[host] = seconds
        slot = _slots(self.crawler).get(host)
        if slot:
            slot.delay = max(slot.delay, self._floor(host))

    def pause(self, host: str, seconds: float) -> None:
        """No request to a host for so long, and fewer after it."""
        self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)
        slot = _slots(self.crawler).get(host)
        if slot:
            slot.delay = max(slot.delay, self._floor(host))

    def _floor(self, host: str) -> float:
        return max(self._least.get(host, 0.0), self._until.get(host, 0.0) - time.monotonic())

    def _adjust_delay(self, slot: Any, latency: float, response: Response) -> None:
        super()._adjust_delay(slot, latency, response)
        slot.delay = max(slot.delay, self._floor(urlsplit(response.url).netloc))


class Gate:
    """Downloader middleware: rules before a request, redirects and second tries after it."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    @property
    def _spider(self) -> Any:
        return self._crawler.spider

    @property
    def _throttle(self) -> Throttle:
        found = self._crawler.get_extension(Throttle)
        assert found is not None
        return found

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Gate:
        """As Scrapy makes it."""
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        """Raise ``Refused`` for what may not be asked."""
        rules = self._spider.rules
        if refusal := rules.hosts.refusal(request.url):
            raise Refused("forbidden_address", refusal)
        try:
            allowed = await asyncio.to_thread(rules.robots.allows, request.url)
        except RunFailed as error:
            raise Refused("robots_unreachable", str(error)) from error
        if not allowed:
            raise Refused("robots_forbid", "robots.txt does not allow it")
        host = urlsplit(request.url).netloc
        request.meta["download_slot"] = host
        delay = rules.robots.delay_seconds(request.url)
        self._throttle.at_least(host, max(delay, rules.delay_seconds))

    async def process_response(self, request: Request, response: Response) -> Response | Request:
        """Follow a redirect that stays with the site's hosts; ask again what is worth it."""
        if response.status in REDIRECTS and b"Location" in response.headers:
            return self._redirected(request, response)
        busy = self._spider.busy_seconds(request, response)
        if response.status in AGAIN or busy is not None:
            wait = retry_after_seconds(header(response, b"Retry-After"))
            again = self._again(request)
            if wait is not None and wait > MAX_PAUSE_SECONDS:
                raise Refused(f"status_{response.status}", f"asked to come back in {wait:,.0f} s")
            seconds = max(self._backoff(request) if wait is None else wait, busy or 0.0)
            if response.status in SLOWER or busy is not None:
                self._throttle.pause(urlsplit(request.url).netloc, seconds)
            if again is None:
                code = "busy" if response.status == 200 else f"status_{response.status}"
                raise Refused(code, f"after {self._spider.rules.tries} tries")
            if response.status not in SLOWER and busy is None:
                await asyncio.sleep(seconds)
            return again
        return response

    async def process_exception(self, request: Request, exception: Exception) -> Request | None:
        """Ask again what no answer came to, or half of one."""
        if isinstance(exception, IgnoreRequest):
            return None
        again = None if type(exception).__name__ == "DownloadCancelledError" else self._again(request)
        if again is not None:
            await asyncio.sleep(self._backoff(request))
        return again

    def _redirected(self, request: Request, response: Response) -> Request:
        target = urljoin(response.url, header(response, b"Location"))
        hops = request.meta.get("hops", 0) + 1
        if hops > MAX_HOPS:
            raise Refused("too_many_redirects", f"more than {MAX_HOPS} hops, last to {target}")
        if refusal := self._spider.rules.hosts.refusal(target):
            raise Refused("forbidden_redirect", f"redirected to {target}: {refusal}")
        return request.replace(url=target, dont_filter=True, meta={**request.meta, "hops": hops})

    def _again(self, request: Request) -> Request | None:
        tries = request.meta.get("tries", 1)
        if tries >= self._spider.rules.tries:
            return None
        return request.replace(dont_filter=True, meta={**request.meta, "tries": tries + 1})

    def _backoff(self, request: Request) -> float:
        base = self._spider.rules.retry_seconds
        return float(min(60.0, base * 2 ** (request.meta.get("tries", 1) - 1)) * random.uniform(0.5, 1.5))


class Archive:
    """Downloader middleware next to the downloader: pages as they were received."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    @property
    def _spider(self) -> Any:
        return self._crawler.spider

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Archive:
        """As Scrapy makes it."""
        return cls(crawler)

    def process_response(self, request: Request, response: Response) -> Response:
        """Count the request, and keep the answer if it is a page."""
        self._spider.count_request(len(response.body))
        if request.meta.get("archive") and response.status == 200:
            pairs = [(k.decode("latin-1"), v.decode("latin-1")) for k, vs in response.headers.items() for v in vs]
            self._spider.journal.archive(response.url, f"{response.status} OK", pairs, response.body)
        return response


class Resolver(CachingThreadedResolver):
    """Name server answers that lead to this machine or into its network are none, unless the crawl began there."""

    may_be_private = False

    def getHostByName(self, name: str, timeout: Any = ()) -> Any:  # noqa: N802
        """As Twisted asks."""
        found = super().getHostByName(name, timeout)
        return found if self.may_be_private else found.addCallback(self._checked, name)

    def _checked(self, address: str, name: str) -> str:
        if is_private(address):
            raise DNSLookupError(f"{name} is an address of this machine or of a private network")
        return address


def header(response: Response, name: bytes) -> str:
    """A header's value; empty where there is none."""
    return (response.headers.get(name) or b"").decode("latin-1")


def _slots(crawler: Crawler) -> dict[str, Any]:
    engine: Any = crawler.engine
    slots: dict[str, Any] = engine.downloader.slots
    return slots
