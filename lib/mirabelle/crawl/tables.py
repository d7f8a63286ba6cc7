"""What comes of a crawl: ``photos.parquet`` and ``failures.parquet``, from its journal. [Store, disk]"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.crawl.description import Description
from mirabelle.crawl.journal import Event
from mirabelle.crawl.progress import mark
from mirabelle.crawl.reading import key_of_row
from mirabelle.schema import PATH, failures_schema, photos_schema
from mirabelle.storage import Store, join

PHOTOS = "photos.parquet"
FAILURES = "failures.parquet"
BATCH_ROWS = 1_000

Row = dict[str, Any]


def rows_of(store: Store, path: str) -> Iterator[Row]:
    """The rows of a table, some at a time; none where it is not there."""
    if not store.exists(path):
        return
    with store.open(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


def known_keys(store: Store, folder: str, description: Description, before: str | None = None) -> set[bytes]:
    """Marks of the photographs that earlier crawls have kept.

    Args:
        store: of the output.
        folder: of the site.
        description: it says what tells photographs apart.
        before: when the crawl that is going on began; what it has itself kept is not of an earlier one.
    """
    moment = datetime.fromisoformat(before) if before else None
    rows = rows_of(store, join(folder, PHOTOS))
    return {mark(key_of_row(row, description)) for row in rows if moment is None or row["fetched_at"] < moment}


def known_images(store: Store, folder: str) -> dict[bytes, dict[str, Any]]:
    """What earlier crawls have of pictures, by the mark of their address, as ``Progress.images`` has it."""
    facts = ("sha256", "size_bytes", "width_px", "height_px", "etag")
    return {
        mark(row["image_url"]): {
            **{name: row[name] for name in facts},
            "name": row[PATH].removeprefix(f"{folder}/"),
            "at": row["fetched_at"].isoformat(),
        }
        for row in rows_of(store, join(folder, PHOTOS))
    }


def write_tables(store: Store, folder: str, description: Description, events: Callable[[], Iterable[Event]]) -> int:
    """Bring both tables up to date with a crawl's events; how many photographs there are.

    Args:
        store: of the output.
        folder: of the site.
        description: of the site, as it was crawled.
        events: the crawl's, from the first on, each time it is called.
    """
    new = {mark(event["key"]) for event in events() if event["event"] == "image"}
    old = (r for r in rows_of(store, join(folder, PHOTOS)) if mark(key_of_row(r, description)) not in new)
    rows = _chain(old, _photo_rows(events(), folder, description))
    extra = [*description.fields, *_columns(store, join(folder, PHOTOS))]
    schema = photos_schema([name for name in dict.fromkeys(extra) if name not in photos_schema().names])
    total = _write(store, join(folder, PHOTOS), schema, rows)
    failed: dict[str, Event] = {}
    for event in events():
        if event["event"] == "failure" and mark(event["key"]) not in new:
            failed[event["key"] or event["url"]] = event
        for key in event["missed"] if event["event"] == "suspect" else ():
            failed.pop(key, None)
    listed = {event["asked"] for event in events() if event["event"] == "page"}
    again = {*(event["url"] for event in failed.values()), *listed, *_addresses(events())}
    kept = (row for row in rows_of(store, join(folder, FAILURES)) if row["url"] not in again)
    _write(store, join(folder, FAILURES), failures_schema(), _chain(kept, _failure_rows(failed.values(), listed)))
    return total


def replace_photos(
    store: Store, folder: str, description: Description, found: dict[str, dict[str, Any]]
) -> tuple[int, int]:
    """Give photographs that are here the values that were found of them; how many have changed, of how many."""
    path = join(folder, PHOTOS)
    extra = dict.fromkeys([*description.fields, *_columns(store, path)])
    schema = photos_schema([name for name in extra if name not in photos_schema().names])
    changed = 0

    def rows() -> Iterator[Row]:
        nonlocal changed
        for row in rows_of(store, path):
            values = found.get(key_of_row(row, description))
            # Another picture is the next crawl's.
            if values and values["image_url"] == row["image_url"]:
                new = {**row, **values, "layout": description.site.layout}
                changed += new != {**dict.fromkeys(new), **row}
                yield new
            else:
                yield row

    total = _write(store, path, schema, rows())
    return changed, total


def _chain(first: Iterable[Row], second: Iterable[Row]) -> Iterator[Row]:
    yield from first
    yield from second


def _photo_rows(events: Iterable[Event], folder: str, description: Description) -> Iterator[Row]:
    waiting: dict[str, dict[str, Any]] = {}
    done: set[bytes] = set()
    for event in events:
        if event["event"] == "page":
            for photo in event["photos"]:
                if mark(photo["key"]) not in done:
                    waiting.setdefault(photo["key"], photo["values"])
        elif event["event"] == "photo" and mark(event["key"]) not in done:
            waiting.setdefault(event["key"], event["values"])
        elif event["event"] == "failure":
            waiting.pop(event["key"], None)
        elif event["event"] == "image" and event["key"] in waiting:
            done.add(mark(event["key"]))
            yield {
                **waiting.pop(event["key"]),
                PATH: join(folder, event["name"]),
                **{name: event[name] for name in ("width_px", "height_px", "size_bytes", "etag", "sha256")},
                "fetched_at": datetime.fromisoformat(event["at"]).astimezone(UTC),
                "site": description.site.name,
                "layout": description.site.layout,
            }


def _failure_rows(failed: Iterable[Event], listed: set[str]) -> Iterator[Row]:
    for event in failed:
        # A list page that an earlier attempt did not get, and this one did.
        if event["key"] or event["url"] not in listed:
            columns = ("url", "kind", "stage", "code", "detail", "page_url")
            yield {**{n: event[n] for n in columns}, "failed_at": datetime.fromisoformat(event["at"]).astimezone(UTC)}


def _addresses(events: Iterable[Event]) -> Iterator[str]:
    return (event["image_url"] for event in events if event["event"] == "image")


def _columns(store: Store, path: str) -> list[str]:
    if not store.exists(path):
        return []
    with store.open(path) as file:
        return list(pq.ParquetFile(file).schema_arrow.names)


def _write(store: Store, path: str, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """A table, put in its place whole; how many rows it has."""
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "table.parquet"
        with pq.ParquetWriter(local, schema) as writer:
            for some in _batches(rows):
                writer.write_table(pa.Table.from_pylist(some, schema))
                total += len(some)
        store.upload(str(local), path)
    return total


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(islice(left, BATCH_ROWS)):
        yield some
