"""Reading ahead: many objects on their way while the network works on those that are there. [Store, through arguments]

Executors; knows nothing of Spark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeVar

from mirabelle.errors import FetchError, ImageError, RejectCode
from mirabelle.storage import S3Options, open_store

# What the files that are fetched or under way may weigh, by the listed sizes.
AHEAD_BYTES = 64 * 2**20
UNKNOWN_BYTES = 2**20


@dataclass(frozen=True)
class ImageSource:
    """An image to read: its path, and what the listing knew of it."""

    path: str
    size_bytes: int | None = None
    etag: str | None = None


Source = ImageSource | str | bytes | None
Fetched = bytes | ImageError
T = TypeVar("T")


def fetch(source: Source, max_bytes: int, s3: S3Options) -> Fetched:
    """An image's bytes, or why there are none; a failure of the whole store is raised.

    Args:
        source: an image, its path, or its bytes already.
        max_bytes: more are not read.
        s3: how buckets are reached.
    """
    if isinstance(source, str):
        source = ImageSource(source)
    if source is None:
        return FetchError(RejectCode.MISSING, "null instead of a path or bytes")
    if not isinstance(source, ImageSource):
        return bytes(source)
    store = open_store(source.path, s3)
    # One that only stands for time and size is no condition a store knows.
    etag = source.etag if store.etags_tell_content and source.etag and not source.etag.startswith("~") else None
    try:
        return store.read(source.path, max_bytes, etag)
    except ImageError as error:
        return error


def read_ahead(sources: Iterable[Source], read: Callable[[Source], T], pool: Executor, at_once: int) -> Iterator[T]:
    """What ``read`` gives for each source, in order, with up to ``at_once`` under way or waiting to be taken.

    Args:
        sources: taken as they are needed.
        read: makes something of one source.
        pool: runs the reads.
        at_once: fewer where that many would fill more than ``AHEAD_BYTES``.
    """
    waiting: deque[tuple[Future[T], int]] = deque()
    ahead = 0
    try:
        for source in sources:
            size = (source.size_bytes if isinstance(source, ImageSource) else None) or UNKNOWN_BYTES
            while waiting and (len(waiting) >= at_once or ahead + size > AHEAD_BYTES):
                done, done_size = waiting.popleft()
                ahead -= done_size
                yield done.result()
            waiting.append((pool.submit(read, source), size))
            ahead += size
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        for future, _ in waiting:
            future.cancel()
