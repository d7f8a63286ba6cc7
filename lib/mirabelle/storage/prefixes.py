"""Every object below a prefix, by several listings at once. [object store]"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

from mirabelle.storage.base import Entry
from mirabelle.storage.requests import Requests

LISTED_AT_ONCE = 16
# Prefixes are listed side by side once there are this many; a prefix of more than a page is not taken apart further.
ENOUGH_PREFIXES = 2 * LISTED_AT_ONCE
DEEPEST_SPLIT = 3
PAGES_WAITING = 64


def list_objects(requests: Requests, bucket: str, below: str) -> Iterator[Entry]:
    """Objects whose keys begin with ``below``, in no order; "folders" (names that end in /) are none.

    Raises:
        ListingError: the bucket cannot be listed.
    """
    pages: queue.Queue[list[Entry] | BaseException | None] = queue.Queue(PAGES_WAITING)
    stopped = threading.Event()

    def put(item: list[Entry] | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                pages.put(item, timeout=0.1)
                break

    def list_one(prefix: str) -> None:
        try:
            for page in requests.pages(bucket, prefix):
                put(_entries(bucket, page))
                if stopped.is_set():
                    return
        except BaseException as error:  # handed to the thread that asked, which stops the others
            put(error)

    def list_all() -> None:
        try:
            prefixes = _split(requests, bucket, below, put)
        except BaseException as error:  # likewise
            put(error)
            return
        with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
            list(pool.map(list_one, prefixes))
        put(None)

    threading.Thread(target=list_all, name="mirabelle-listing", daemon=True).start()
    try:
        while (page := pages.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield from page
    finally:
        stopped.set()


def _split(requests: Requests, bucket: str, prefix: str, put: Callable[[list[Entry]], None]) -> list[str]:
    """Prefixes to list side by side; objects met on the way are handed to ``put``."""
    prefixes, whole = [prefix], []
    for _ in range(DEEPEST_SPLIT):
        deeper: list[str] = []
        for one in prefixes:
            page = requests.list_page(bucket, one, Delimiter="/")
            if page.get("IsTruncated"):
                whole.append(one)
                continue
            put(_entries(bucket, page))
            deeper += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
        prefixes = deeper
        if len(prefixes) + len(whole) >= ENOUGH_PREFIXES:
            break
    return whole + prefixes


def _entries(bucket: str, page: dict[str, Any]) -> list[Entry]:
    return [
        Entry(
            f"s3://{bucket}/{found['Key']}",
            found["Size"],
            _microseconds(found["LastModified"]),
            found["ETag"].strip('"'),
        )
        for found in page.get("Contents", [])
        if not (found["Key"].endswith("/") and found["Size"] == 0)
    ]


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
