"""Scrapy, set up and run to its end in this process. [the web, signals]"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mirabelle.console import Console
from mirabelle.crawl.gate import Archive, Gate, Resolver, Throttle
from mirabelle.crawl.spider import PhotoSpider
from mirabelle.errors import MirabelleError, RunFailed
from mirabelle.signals import ENDING, EXIT_CODE_BASE, Interrupted

SECONDS_BETWEEN_LOOKS = 0.5
# No answer takes longer to come to than any site's patience.
MAX_DELAY_SECONDS = 60.0


def settings(spider: PhotoSpider, user_agent: str, timeout_seconds: float) -> dict[str, Any]:
    """Scrapy's settings: what it does by itself that is wanted, and none of the rest."""
    return {
        "USER_AGENT": user_agent,
        # Asked by our own gate, which keeps Crawl-delay, too, and takes a robots.txt that cannot be had for a no.
        "ROBOTSTXT_OBEY": False,
        "COOKIES_ENABLED": False,
        "REDIRECT_ENABLED": False,
        "RETRY_ENABLED": False,
        "METAREFRESH_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "LOG_ENABLED": False,
        "LOG_INSTALL_ROOT_HANDLER": False,
        "CONCURRENT_REQUESTS": 8,
        "CONCURRENT_REQUESTS_PER_DOMAIN": spider.description.site.at_once,
        "DOWNLOAD_DELAY": spider.rules.delay_seconds,
        # A delay that robots.txt asks for is none to be shortened by chance.
        "RANDOMIZE_DOWNLOAD_DELAY": False,
        "DOWNLOAD_TIMEOUT": timeout_seconds,
        "DOWNLOAD_FAIL_ON_DATALOSS": True,
        "DOWNLOAD_WARNSIZE": 0,
        "AUTOTHROTTLE_ENABLED": True,
        "AUTOTHROTTLE_START_DELAY": spider.rules.delay_seconds,
        "AUTOTHROTTLE_TARGET_CONCURRENCY": float(spider.description.site.at_once),
        "AUTOTHROTTLE_MAX_DELAY": MAX_DELAY_SECONDS,
        "EXTENSIONS": {"scrapy.extensions.throttle.AutoThrottle": None, Throttle: 0},
        # The archive is next to the network: it sees pages as they were sent. The gate sees them unpacked.
        "DOWNLOADER_MIDDLEWARES": {Gate: 550, Archive: 900},
        "SPIDER_MIDDLEWARES": {"scrapy.spidermiddlewares.httperror.HttpErrorMiddleware": None},
        "TWISTED_DNS_RESOLVER": Resolver,
        "DEFAULT_REQUEST_HEADERS": {"Accept": "*/*", "Accept-Language": "en"},
    }


def fetch_all(spider: PhotoSpider, user_agent: str, timeout_seconds: float, console: Console) -> None:
    """Run a spider until nothing is left to ask for.

    Raises:
        RunFailed: something in it broke.
        Interrupted: a signal asked this process to end; what was under way has ended.
    """
    from scrapy.crawler import AsyncCrawlerProcess

    Resolver.may_be_private = spider.rules.hosts.may_be_private
    process = AsyncCrawlerProcess(settings(spider, user_agent, timeout_seconds))
    broken: list[BaseException | str] = []
    crawler = process.create_crawler(_handed_over(spider))
    process.crawl(crawler)
    from twisted.internet import reactor, task

    handler = _Broken(broken, lambda: reactor.callFromThread(crawler.stop))
    logger = logging.getLogger("scrapy")
    logger.addHandler(handler)

    with (
        _stopping(lambda: reactor.callFromThread(crawler.stop)) as received,
        console.counting(lambda: _line(spider)) as look,
    ):
        loop = task.LoopingCall(look)
        loop.start(SECONDS_BETWEEN_LOOKS)
        try:
            process.start(install_signal_handlers=False)
        finally:
            loop.stop()
            logger.removeHandler(handler)
    if received:
        raise Interrupted(received[0])
    if broken and isinstance(broken[0], MirabelleError):
        raise broken[0]
    if broken:
        kind = f"{type(broken[0]).__name__}: " if isinstance(broken[0], BaseException) else ""
        raise RunFailed(f"the crawl broke: {kind}{broken[0]}; what it fetched is kept, and the same command goes on")


def _handed_over(spider: PhotoSpider) -> type[PhotoSpider]:
    """Scrapy wants a class, to make the spider itself of."""

    class Made(PhotoSpider):
        @classmethod
        def from_crawler(cls, crawler: Any, *_: Any, **__: Any) -> Any:
            spider._set_crawler(crawler)
            return spider

    return Made


class _Broken(logging.Handler):
    """Scrapy logs what breaks in a callback, and goes on; a crawl whose journal cannot be written must not."""

    def __init__(self, found: list[BaseException | str], stop: Callable[[], None]) -> None:
        super().__init__(logging.ERROR)
        self._found, self._stop = found, stop

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what broke, and have the crawl end."""
        error = record.exc_info[1] if record.exc_info else None
        self._found.append(error or record.getMessage())
        if len(self._found) == 1:
            self._stop()


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[list[int]]:
    """A first signal ends the crawl in good order, a second one at once: the journal is made for that."""
    received: list[int] = []

    def heard(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(EXIT_CODE_BASE + number)
        received.append(number)
        os.write(2, b"stopping\n")
        stop()

    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, heard)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(spider: PhotoSpider) -> str:
    progress = spider.progress
    waiting = f", {progress.pending:,} to come" if progress.pending else ""
    # On a busy machine the first look comes before Scrapy has made anything.
    engine: Any = getattr(getattr(spider, "crawler", None), "engine", None)
    slots = engine.downloader.slots if engine else {}
    slow = max((slot.delay for slot in slots.values()), default=0.0)
    return (
        f"{progress.pages:,} pages, {progress.stored:,} photographs, {progress.failed:,} failures{waiting};"
        f" {slow:.1f} s between requests"
    )
