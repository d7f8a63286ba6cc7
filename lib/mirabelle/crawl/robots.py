"""What a site's robots.txt allows, as RFC 9309 reads it. [the web]

Asked before anything else of a host, and again when it is a day old. A host that has none allows all; one whose
robots.txt cannot be had, for a fault of its own, allows nothing.
"""

from __future__ import annotations

import email.utils
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

from protego import Protego

from mirabelle.errors import RunFailed, UserError

# RFC 9309: 2.5 (500 KiB at least are read), 2.3.1.2 (five redirects at least), 2.4 (a day in a cache).
MAX_BYTES = 500 * 2**10
MAX_HOPS = 5
REDIRECTS = (301, 302, 303, 307, 308)
FRESH_SECONDS = 86_400.0
TRIES = 3
PAUSE_SECONDS = 2.0
PRODUCT = "mirabelle"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Redirects are followed by who asked, after a look at where they lead."""


STAYING = urllib.request.build_opener(_Stay)
"""By the environment's own proxies; follows no redirect by itself."""
Fetch = Callable[[str], tuple[int, bytes, str | None]]
"""Address to status, body and the address that it redirects to."""


@dataclass(frozen=True)
class Rules:
    """What one host allows.

    Attributes:
        host: with its scheme, https://host.
        parsed: its robots.txt; None: it has none.
        delay_seconds: between requests, as it asks.
        read_at: on this machine's monotonic clock.
    """

    host: str
    parsed: Any
    delay_seconds: float
    read_at: float

    def allows(self, url: str) -> bool:
        """Whether it may be asked for."""
        return self.parsed is None or bool(self.parsed.can_fetch(url, PRODUCT))


def read_rules(host: str, fetch: Fetch, pause_seconds: float = PAUSE_SECONDS) -> Rules:
    """Ask a host for its robots.txt.

    Args:
        host: with its scheme.
        fetch: how it is asked.
        pause_seconds: between tries.

    Raises:
        RunFailed: it cannot be had, which means no.
    """
    told = ""
    for attempt in range(TRIES):
        time.sleep(pause_seconds * attempt)
        url = f"{host}/robots.txt"
        for _ in range(MAX_HOPS + 1):
            try:
                status, body, target = fetch(url)
            except (OSError, HTTPException) as error:
                status, body, target, told = 0, b"", None, f"does not answer ({error})"
            if target is None:
                break
            url = urljoin(url, target)
        else:
            return Rules(host, None, 0.0, time.monotonic())
        if 200 <= status < 300:
            parsed = Protego.parse(body[:MAX_BYTES].decode(errors="replace"))
            return Rules(host, parsed, float(parsed.crawl_delay(PRODUCT) or 0.0), time.monotonic())
        if 400 <= status < 500 and status != 429:
            return Rules(host, None, 0.0, time.monotonic())
        told = f"answers {status}" if status else told
    raise RunFailed(
        f"{host}/robots.txt {told}, and a site whose robots.txt cannot be had is not crawled (RFC 9309); run it later"
    )


def fetcher(user_agent: str, timeout_seconds: float) -> Fetch:
    """A fetch that says who asks."""

    def fetch(url: str) -> tuple[int, bytes, str | None]:
        if urlsplit(url).scheme not in ("http", "https"):
            raise OSError(f"redirected to {url}")
        request = urllib.request.Request(url, headers={"User-Agent": user_agent})
        try:
            with STAYING.open(request, timeout=timeout_seconds) as answer:
                return answer.status, answer.read(MAX_BYTES), None
        except urllib.error.HTTPError as error:
            target = error.headers.get("Location") if error.code in REDIRECTS else None
            return error.code, b"", target

    return fetch


class Robots:
    """The rules of all hosts of a crawl."""

    def __init__(self, fetch: Fetch, is_governed: bool = False) -> None:
        """``is_governed``: a policy of the site's own takes robots.txt's place."""
        self._fetch, self._is_governed = fetch, is_governed
        self._rules: dict[str, Rules] = {}

    def allows(self, url: str) -> bool:
        """Whether an address may be asked for; asks its host first."""
        return self._is_governed or self.rules(url).allows(url)

    def delay_seconds(self, url: str) -> float:
        """What its host asks for between requests."""
        return 0.0 if self._is_governed else self.rules(url).delay_seconds

    def rules(self, url: str) -> Rules:
        """Of an address's host."""
        split = urlsplit(url)
        host = f"{split.scheme}://{split.netloc}"
        found = self._rules.get(host)
        if found is None or time.monotonic() - found.read_at > FRESH_SECONDS:
            found = read_rules(host, self._fetch)
            self._rules[host] = found
        return found


def user_agent(contact: str | None, version: str) -> str:
    """What a crawl says of itself to sites.

    Raises:
        UserError: it says not whom to write to.
    """
    if not contact or not contact.strip():
        raise UserError(
            "crawl.contact is not set: sites are told whom to write to, --set crawl.contact=you@example.org"
        )
    return f"{PRODUCT}/{version} (+{contact.strip()})"


def retry_after_seconds(told: str) -> float | None:
    """What a Retry-After asks for: a number or a date (RFC 9110, 10.2.3); None: neither."""
    told = told.strip()
    if told.isdigit():
        return float(told)
    try:
        moment = email.utils.parsedate_to_datetime(told)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
