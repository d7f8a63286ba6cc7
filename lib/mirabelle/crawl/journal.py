"""What a crawl has done, kept so that a crawl killed at any moment goes on. [Store]

Events are put away in segments of a few seconds, ``journal/<number>.jsonl``. Before a segment the pages in it are
archived, after it its pictures are stored: a picture that is stored has its event, so none is fetched twice, and only
the last segment's can be missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from mirabelle.storage import PARTIAL, Store, join

FLUSH_SECONDS = 2.0
FLUSH_BYTES = 8 * 2**20
WRITES_AT_ONCE = 8
MAX_SEGMENT_BYTES = 2**30
SUFFIXES = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "TIFF": "tif",
    "BMP": "bmp",
    "AVIF": "avif",
    "HEIF": "heic",
}

Event = dict[str, Any]


def image_name(sha256: str, kind: str) -> str:
    """Where a picture is kept below the crawl's folder: by its content, in 256 folders."""
    return f"images/{sha256[:2]}/{sha256}.{SUFFIXES[kind]}"


class Journal:
    """The journal of one crawl's folder."""

    def __init__(self, store: Store, folder: str, run_id: str) -> None:
        self._store, self._folder, self._run = store, folder, run_id
        self._number = self._mended()
        self._events: list[Event] = []
        self._images: dict[str, bytes] = {}
        self._pages = io.BytesIO()
        self._size_bytes = 0
        self._flushed = time.monotonic()

    def events(self) -> Iterator[Event]:
        """All that has happened in this crawl, oldest first."""
        for path in self._segments():
            for line in self._store.read(path, MAX_SEGMENT_BYTES).splitlines():
                yield json.loads(line)

    def add(self, event: str, **facts: Any) -> None:
        """Note what happened."""
        self._events.append({"event": event, **facts})
        self.flush_if_due()

    def add_image(self, content: bytes, kind: str, **facts: Any) -> Event:
        """Note a picture, and keep it: its event."""
        digest = hashlib.sha256(content).hexdigest()
        name = image_name(digest, kind)
        event: Event = {"event": "image", "name": name, "sha256": digest, "size_bytes": len(content), **facts}
        self._events.append(event)
        self._images[name] = content
        self._size_bytes += len(content)
        self.flush_if_due()
        return event

    def archive(self, url: str, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Keep a page as it was received, compressed or not."""
        writer = WARCWriter(self._pages, gzip=True)
        told = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
        record = writer.create_warc_record(url, "response", payload=io.BytesIO(body), http_headers=told)
        writer.write_record(record)
        record.raw_stream.close()
        self._size_bytes += len(body)

    def flush_if_due(self) -> None:
        """Put away what has come together, when that is enough."""
        if self._size_bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put away all that is not yet."""
        if not self._events and not self._pages.tell():
            return
        name = f"{self._number:06d}"
        if self._pages.tell():
            self._store.write(join(self._folder, "pages", f"{self._run}-{name}.warc.gz"), self._pages.getvalue())
        lines = "".join(f"{json.dumps(event)}\n" for event in self._events)
        self._store.write(join(self._folder, "journal", f"{name}.jsonl"), lines.encode())
        with ThreadPoolExecutor(WRITES_AT_ONCE) as threads:
            list(threads.map(self._put, self._images))
        self._number += 1
        self._events, self._images, self._pages, self._size_bytes = [], {}, io.BytesIO(), 0
        self._flushed = time.monotonic()

    def _mended(self) -> int:
        """How many segments there are, the last without pictures that a killed crawl did not come to store."""
        segments = self._segments()
        written = {"journal", "pages"}
        for path in segments[-1:]:
            lines = self._store.read(path, MAX_SEGMENT_BYTES).splitlines(keepends=True)
            lost = {line: name for line in lines if (name := self._lost(json.loads(line)))}
            if lost:
                written |= {name.rpartition("/")[0] for name in lost.values()}
                self._store.write(path, b"".join(line for line in lines if line not in lost))
        for folder in written:
            self._sweep(join(self._folder, folder))
        return len(segments)

    def _lost(self, event: Event) -> str | None:
        """The picture of an event, where it is not stored."""
        name: str | None = event.get("name") if event["event"] == "image" else None
        return name if name and not self._store.exists(join(self._folder, name)) else None

    def _sweep(self, folder: str) -> None:
        """Remove what a killed crawl had half written."""
        for entry in list(self._store.walk(folder)) if self._store.exists(folder) else ():
            if entry.path.endswith(PARTIAL):
                self._store.remove(entry.path)

    def _put(self, name: str) -> None:
        path = join(self._folder, name)
        # The same picture may be there from another address.
        if not self._store.exists(path):
            self._store.write(path, self._images[name])

    def close(self) -> None:
        """The crawl has ended and its tables are written: the journal is needed no more."""
        self._store.remove(join(self._folder, "journal"))

    def _segments(self) -> list[str]:
        folder = join(self._folder, "journal")
        found = self._store.walk(folder) if self._store.exists(folder) else iter(())
        return sorted(entry.path for entry in found if entry.path.endswith(".jsonl"))
