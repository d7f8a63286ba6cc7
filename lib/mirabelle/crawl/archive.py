"""Pages that crawls have kept, as they came. [Store]"""

from __future__ import annotations

import io
from collections.abc import Iterator

from warcio.archiveiterator import ArchiveIterator

from mirabelle.crawl.page import Page
from mirabelle.storage import Store, join

MAX_ARCHIVE_BYTES = 2**32


def archives(store: Store, folder: str) -> list[str]:
    """The archives of a site's folder, oldest first."""
    pages = join(folder, "pages")
    found = (e.path for e in store.walk(pages)) if store.exists(pages) else iter(())
    return sorted(path for path in found if path.endswith(".warc.gz"))


def archived_pages(store: Store, paths: list[str]) -> Iterator[Page]:
    """The pages of some archives, in the order in which they came; a page that came twice comes twice."""
    for path in paths:
        for record in ArchiveIterator(io.BytesIO(store.read(path, MAX_ARCHIVE_BYTES))):
            if record.rec_type == "response":
                kind = record.http_headers.get_header("Content-Type") or "text/html"
                yield Page(record.rec_headers.get_header("WARC-Target-URI"), record.content_stream().read(), kind)
