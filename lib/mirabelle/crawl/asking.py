"""A few pages, asked for one after the other by a site's rules. [the web]

For looks at a site, before and beside a crawl: what Scrapy is for begins with many pages.
"""

from __future__ import annotations

import gzip
import time
import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from urllib.parse import urljoin

from mirabelle.crawl.addresses import Hosts
from mirabelle.crawl.page import Page
from mirabelle.crawl.robots import MAX_HOPS, REDIRECTS, STAYING, Robots
from mirabelle.crawl.templates import Address
from mirabelle.errors import RunFailed, TransientError

TRIES = 3
PAUSE_SECONDS = 0.5


class Asker:
    """Asks a site for pages, and waits between them."""

    def __init__(
        self,
        hosts: Hosts,
        robots: Robots,
        user_agent: str,
        delay_seconds: float,
        timeout_seconds: float,
        max_bytes: int,
    ) -> None:
        """As the configuration's ``crawl`` part has them."""
        self._hosts, self._robots, self._agent = hosts, robots, user_agent
        self._delay, self._timeout, self._max_bytes = delay_seconds, timeout_seconds, max_bytes
        self._last = 0.0

    def page(self, address: Address) -> Page:
        """A page.

        Raises:
            RunFailed: it may not be asked for, or cannot be had.
        """
        url = address.url
        for _ in range(MAX_HOPS + 1):
            if refusal := self._hosts.refusal(url):
                raise RunFailed(f"{url} is not asked: {refusal}")
            if not self._robots.allows(url):
                raise RunFailed(f"{url} is not asked: robots.txt does not allow it")
            wait = max(self._delay, self._robots.delay_seconds(url))
            time.sleep(max(0.0, self._last + wait - time.monotonic()))
            found = self._tried(url, address)
            if isinstance(found, Page):
                return found
            url = urljoin(url, found)
        raise RunFailed(f"{address.url} redirects more than {MAX_HOPS} times")

    def _tried(self, url: str, address: Address) -> Page | str:
        """What an address answers, if not the first time: a busy site is asked again, later."""
        for number in range(1, TRIES + 1):
            self._last = time.monotonic()
            try:
                return self._answer(url, address)
            except TransientError as error:
                if number == TRIES:
                    raise RunFailed(str(error)) from error
                time.sleep(max(self._delay, PAUSE_SECONDS) * number)
        raise AssertionError

    def _answer(self, url: str, address: Address) -> Page | str:
        headers = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        try:
            with STAYING.open(urllib.request.Request(url, headers=headers), timeout=self._timeout) as answer:
                body = _unpacked(answer.read(self._max_bytes), answer.headers.get("Content-Encoding", ""))
                return Page(url, body, answer.headers.get("Content-Type", "text/html"), address)
        except urllib.error.HTTPError as error:
            if error.code in REDIRECTS and (target := error.headers.get("Location")):
                return str(target)
            kind = TransientError if error.code in (429, 500, 502, 503, 504) else RunFailed
            raise kind(f"{url} answers {error.code}") from error
        except (OSError, HTTPException) as error:
            raise TransientError(f"{url} does not answer: {error}") from error


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body
