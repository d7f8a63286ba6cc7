"""Listing a folder or a bucket's prefix. [Store]"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from mirabelle import schema
from mirabelle.errors import ListingError
from mirabelle.listing.layout import compile_layout, compile_patterns
from mirabelle.listing.rows import Listing, PathLabels, text_of, write_listing
from mirabelle.storage import Entry, Store
from mirabelle.storage.litter import is_litter

BATCH_ROWS = 20_000


def list_images(
    store: Store,
    root: str,
    include: Sequence[str],
    exclude: Sequence[str],
    layout: str | None = None,
    not_pictures: Sequence[str] = (),
    *,
    scratch: str,
) -> Listing:
    """List the images below ``root``; never what is hidden, what systems leave there, or what Mirabelle wrote.

    Args:
        store: where they are.
        root: folder or prefix, whole path.
        include: patterns as in .gitignore, against the path below the root; a file is taken if it fits one.
        exclude: likewise; a file that fits one is left out.
        layout: template such as ``{split}/{label}/{name}``; see ``compile_layout``.
        not_pictures: whole paths of files and folders that may lie below ``root`` and are ours: the output, a table.
        scratch: folder for the listing's file.

    Raises:
        ListingError: no such folder, nothing in it that fits, or a template that fits none of it.
    """
    labels = PathLabels(compile_layout(layout) if layout else None, layout)
    is_wanted = compile_patterns(include, exclude)
    start = len(root.rstrip("/")) + 1
    ours = tuple(f"{path.rstrip('/')}/" for path in not_pictures)

    def taken() -> Iterator[Entry]:
        for entry in store.walk(root):
            below = entry.path[start:]
            if not is_litter(below) and is_wanted(below) and not f"{entry.path}/".startswith(ours):
                yield entry

    found = write_listing(
        _batches(taken(), labels, start),
        labels.extra,
        scratch,
        etags_tell_content=store.etags_tell_content,
        says_labels=layout is not None,
        is_walk=True,
    )
    if not found.rows:
        raise ListingError(
            f"no picture in {root} fits images.include {list(include)} and not images.exclude {list(exclude)};"
            " hidden files, what systems leave and what Mirabelle wrote do not count"
        )
    labels.check(root)
    return found


def _batches(entries: Iterable[Entry], labels: PathLabels, start: int) -> Iterator[pa.RecordBatch]:
    target = schema.listing_schema(labels.extra)
    entries = iter(entries)
    while some := list(islice(entries, BATCH_ROWS)):
        told = labels.read([entry.path[start:] for entry in some])
        columns: dict[str, Sequence[object]] = {
            schema.PATH: [text_of(entry.path) for entry in some],
            schema.SIZE_BYTES: [entry.size_bytes for entry in some],
            schema.MODIFIED: [entry.modified_us for entry in some],
            schema.ETAG: [entry.etag for entry in some],
            **told,
        }
        nothing = [None] * len(some)
        yield pa.record_batch([pa.array(columns.get(f.name, nothing), f.type) for f in target], schema=target)
