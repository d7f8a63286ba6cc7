"""What a listing and its pictures say before any network sees them: tables and a page. Driver only."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.console import Console
from mirabelle.exploration import Explored, Table, Wanted, explore, see
from mirabelle.listing import Listing
from mirabelle.listing.manifest_files import CRAWL
from mirabelle.listing.source import read_listing
from mirabelle.network.cached import cache_folder
from mirabelle.network.preparing import decode_options
from mirabelle.pipeline.checks import validate
from mirabelle.pipeline.job import Job, open_job
from mirabelle.pipeline.source import list_source, warn_of_rows
from mirabelle.report.exploration import Shown, render_exploration
from mirabelle.schema import ETAG, LABEL, PATH, SIZE_BYTES, SPLIT
from mirabelle.spark.look import look
from mirabelle.spark.session import open_context
from mirabelle.storage import Store, absolute
from mirabelle.storage.database import column, open_database, quoted
from mirabelle.worker.fetching import ImageSource
from mirabelle.worker.look import LookSpec

BATCH_IMAGES = 20_000
# What a spreadsheet would take for a formula (OWASP, CSV Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def explore_images(config: Config, console: Console, break_lease: bool = False) -> list[tuple[str, str]]:
    """Write ``<output>/explore/<id>/tables`` and the page beside them; returns what was done, as (name, text).

    Args:
        config: validated; its ``explore`` part says what is looked at.
        console: a person's view.
        break_lease: take the output from a run that is believed dead.

    Raises:
        UserError: the images cannot be listed, or a worker cannot look at them.
    """
    validate(config, ())
    with open_job(config, "explore", console, break_lease) as job:
        _carry_out(job)
    return job.summary


def dry_run(config: Config, console: Console) -> None:
    """Say what ``explore_images`` would look at; reads no picture and writes nothing."""
    validate(config, ())
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        images = read_listing(config, scratch)
    warn_of_rows(images, config, console)
    columns = ", ".join((LABEL, SPLIT, *images.extra_labels))
    read = f"read {images.rows:,} pictures, and " if config.explore.pictures else ""
    console.say(f"would {read}make tables of {columns} below {absolute(config.output)}/explore")


def _carry_out(job: Job) -> None:
    images = list_source(job)
    wanted = job.config.explore
    facts = _look(job, images) if wanted.pictures else None
    columns = (LABEL, SPLIT, *images.extra_labels)
    with job.runlog.time("tables"), open_database(job.scratch) as database:
        seen = f"select * from {quoted(f'{facts}/*.parquet')}" if facts else None
        see(database, _rows(job, images), seen)
        asked = Wanted(columns, wanted.within, wanted.groups, facts is not None, wanted.near_distance)
        explored = explore(database, asked)
    folder = job.folder("explore")
    for table in explored.tables:
        _write(job, f"{folder}/tables/{table.name}", table)
    title = job.config.report.title or Path(job.root or str(job.config.images.manifest)).name
    shown = [Shown(t.name, t.title, t.meaning, t.rows, t.bar) for t in explored.tables]
    page = render_exploration(title, _tiles(explored), shown, job.config.explore.top, job.runlog.run_id)
    job.store.write(f"{folder}/index.html", page.encode())
    alike = explored.alike
    counts = {"listed": explored.images, "tables": len(explored.tables)}
    if alike:
        counts |= {"copies": alike.exact_extra, "look_alikes": alike.near_images, "conflicting": alike.conflicting_sets}
    job.runlog.update(counts=counts, exploration=f"{folder}/index.html")
    job.summary += [("images", f"{explored.images:,}")]
    job.summary += [("", table.meaning) for table in explored.tables]
    job.summary += [("tables", f"{folder}/tables"), ("page", f"{folder}/index.html")]


def _rows(job: Job, images: Listing) -> str:
    """A query of the listing's rows; of a crawl's table all of them, where one picture is two photographs, too."""
    config = job.config
    manifest = absolute(config.images.manifest) if config.images.manifest else ""
    if not manifest.endswith(".parquet") or config.labels.table or config.images.layout:
        return f"select * from {quoted(images.file)}"
    local = Path(job.scratch) / "manifest.parquet"
    _fetch(store_of(config, manifest), manifest, local)
    names = pq.read_schema(local).names
    if not set(names) >= CRAWL:
        return f"select * from {quoted(images.file)}"
    label = column(config.labels.label) if config.labels.label in names else "null"
    split = column(config.labels.split) if config.labels.split in names else "null"
    more = "".join(f", {column(name)}" for name in images.extra_labels)
    return (
        f"select path, {label} as label, {split} as split{more} from {quoted(str(local))}"
        f" where path in (select path from {quoted(images.file)})"
    )


def _look(job: Job, images: Listing) -> str:
    """Have all pictures looked at; the folder of this machine's disk with what was seen."""
    # In no exploration's own folder, so that what a killed one had seen goes with the next.
    spec = LookSpec(f"{job.output}/explore/.seen", decode_options(job.config, "bf16"), job.s3)
    job.store.remove(spec.folder)
    local = Path(job.scratch) / "pictures"
    local.mkdir()
    with ExitStack() as stack:
        settings, cache = job.config.spark, cache_folder(job.config)
        wait_seconds = job.config.limits.executor_wait_seconds
        job.spark = stack.enter_context(open_context(settings, cache, True, wait_seconds, job.runlog.time))
        job.tell_cluster()
        done = 0

        def more(images_done: int) -> None:
            nonlocal done
            done += images_done
            refresh()

        with job.runlog.time("look"):
            refresh = stack.enter_context(job.console.track(images.rows, lambda: (done, 0), "looking"))
            look(job.context, _batches(images), spec, more)
    for entry in job.store.walk(spec.folder):
        _fetch(job.store, entry.path, local / entry.path.rpartition("/")[2])
    # They are as many as the images, and of no use but here.
    job.store.remove(spec.folder)
    return str(local)


def _fetch(store: Store, path: str, local: Path) -> None:
    with store.open(path) as there, local.open("wb") as here:
        shutil.copyfileobj(there, here)


def _batches(images: Listing) -> Iterator[list[ImageSource]]:
    for batch in pq.ParquetFile(images.file).iter_batches(BATCH_IMAGES, columns=[PATH, SIZE_BYTES, ETAG]):
        yield [ImageSource(row[PATH], row[SIZE_BYTES], row[ETAG]) for row in batch.to_pylist()]


def _write(job: Job, path: str, table: Table) -> None:
    """A table as Parquet, and as CSV that no spreadsheet takes for formulas."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table.rows, preserve_index=False), file)
    job.store.write(f"{path}.parquet", file.getvalue())
    harmless = table.rows.map(_harmless)
    job.store.write(f"{path}.csv", harmless.to_csv(index=False).encode("utf-8", "replace"))


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    # An array of paths.
    return "; ".join(map(str, value)) if hasattr(value, "__iter__") else value


def _tiles(explored: Explored) -> list[tuple[str, str, str]]:
    named = {table.name: table.rows for table in explored.tables}
    tiles = [("images", f"{explored.images:,}", "in the listing")]
    labels = named.get("values_label", pd.DataFrame())
    if len(labels):
        tiles.append(("labels", f"{len(labels):,}", f"the most frequent {labels.iloc[0]['value']}"))
    alike = explored.alike
    if alike:
        tiles.append(("copies", f"{alike.exact_extra:,}", "the same bytes as another"))
        tiles.append(("look-alikes", f"{alike.near_images:,}", "other bytes, much the same picture"))
    return tiles
