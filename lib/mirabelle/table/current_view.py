"""Which rows of a feature table count now: the current view. [Store, a scratch folder; driver only]

Of features, the newest row of every path that is still listed as it was embedded. Of rejects, the newest row of every
path that is still listed as it was rejected, and that the view has no features of: what is known of a content is not
lost where it was tried again in vain. The joins are DuckDB's, so that no side need fit into memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.storage import Store, join
from mirabelle.storage.database import column, copy_to, open_database, quoted
from mirabelle.table.features import FeatureTable

if TYPE_CHECKING:
    import duckdb

POLICY = "_policy"
LISTING_ENDING = ".listing.parquet"


@dataclass(frozen=True)
class CurrentView:
    """The rows that count, as files of this machine's disk, and how many rows there are.

    Attributes:
        every: Parquet file of ``path, etag, run, _file`` of all rows of features.
        features: Parquet file of ``path, run, _file``, a row for each row of features that counts, by file and path.
        rejects: Parquet file of the rejects that count, whole, with ``run`` and ``POLICY``, a position in ``policies``.
        policies: the limits that the table's rejects were made under.
        kept, rows: of features, those that count, and all.
        rejects_kept, rejects_rows: of rejects alike.
        repeated: rows of ``kept`` beyond the first of their path, which one run wrote twice; none in a sound table.
    """

    every: str
    features: str
    rejects: str
    policies: tuple[dict[str, object], ...]
    kept: int
    rows: int
    rejects_kept: int
    rejects_rows: int
    repeated: int

    @property
    def stale(self) -> int:
        """Rows of both kinds that count no more."""
        return self.rows - self.kept + self.rejects_rows - self.rejects_kept


def newest_listing(manifests: Sequence[Mapping[str, Any]], output: str, fingerprint: str) -> str | None:
    """The newest listing that an embedding's table was brought up to, where it lies now; None: no run told."""
    runs = [m["run_id"] for m in manifests if m.get("fingerprint") == fingerprint and m.get("listing")]
    return listing_of(output, runs[-1]) if runs else None


def listing_of(output: str, run: str) -> str:
    """Where a run's listing lies; its manifest may name a place that the output has been moved from."""
    return join(output, "runs", f"{run}{LISTING_ENDING}")


def listing_run(listing: str) -> str:
    """The run that a listing is of."""
    return listing.rpartition("/")[2].removesuffix(LISTING_ENDING)


def fetch_listing(store: Store, listing: str, scratch: str) -> str:
    """A listing as a file of this machine's disk.

    Raises:
        OutputError: it is gone.
    """
    if not store.exists(listing):
        raise OutputError(f"{listing} is gone, so nothing tells which rows count; run `mirabelle extract` again")
    file = os.path.join(scratch, "newest-listing.parquet")
    with store.open(listing) as source, open(file, "wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    return file


def current_view(table: FeatureTable, listing: str | None, scratch: str) -> CurrentView:
    """Work out the current view.

    Args:
        table: one embedding's.
        listing: from ``fetch_listing``; None: every path is taken for listed, as it was when it was last seen.
        scratch: folder for files.
    """
    names = {name: os.path.join(scratch, f"{name}-now.parquet") for name in ("done", "features", "rejects")}
    policies = _write_rows(table, names["done"], scratch)
    with open_database(scratch) as database:
        database.execute(f"create view _d as select * from {quoted(names['done'])}")
        database.execute(f"create view _r as {_every_reject(max(1, len(policies)), scratch)}")
        if listing is not None:
            database.execute(f"create view _l as select * from {quoted(listing)}")
        _keep(database, names, listing is not None)
        kept, paths = _count(database, f"count(*), count(distinct path) from {quoted(names['features'])}")
        (rows,) = _count(database, "count(*) from _d")
        (rejects,) = _count(database, "count(*) from _r")
        (rejects_kept,) = _count(database, f"count(*) from {quoted(names['rejects'])}")
    files = (names["done"], names["features"], names["rejects"])
    return CurrentView(*files, policies, kept, rows, rejects_kept, rejects, repeated=kept - paths)


def current_rejects(table: FeatureTable, scratch: str, listing: str | None = None) -> pa.Table:
    """The rejects that count, by path, with their ``run``; arguments as in ``current_view``."""
    with pq.ParquetFile(current_view(table, listing, scratch).rejects) as file:
        rejects = file.read()
    return rejects.drop_columns([POLICY]).sort_by(schema.PATH)


def _write_rows(table: FeatureTable, done: str, scratch: str) -> tuple[dict[str, object], ...]:
    """Put the table's narrow columns away: features into ``done``, rejects into a file for each of their policies."""
    table.write_rows("features", [schema.PATH, schema.ETAG], done)
    policies: list[dict[str, object]] = []
    for chunk in table.chunks():
        policies += [limits for limits in chunk.policies("rejects") if limits not in policies]
    # Without any reject, a file of no rows.
    for i, policy in enumerate(policies or [None]):
        table.write_rows("rejects", schema.rejects_schema({}).names, _rejects_file(scratch, i), policy)
    return tuple(policies)


def _rejects_file(scratch: str, policy: int) -> str:
    return os.path.join(scratch, f"rejected-{policy}.parquet")


def _every_reject(files: int, scratch: str) -> str:
    """The query for all rejects, with ``run`` and ``POLICY``."""
    columns = ", ".join(map(column, [*schema.rejects_schema({}).names, schema.RUN]))
    return " union all ".join(
        f"select {columns}, {i} as {POLICY} from {quoted(_rejects_file(scratch, i))}" for i in range(files)
    )


def _keep(database: duckdb.DuckDBPyConnection, names: dict[str, str], is_listed: bool) -> None:
    listed = "semi join _l using (path, etag)" if is_listed else ""
    copy_to(
        database,
        f"""select path, run, _file from _d {listed}
        qualify rank() over (partition by path order by run desc) = 1 order by _file, path""",
        names["features"],
    )
    # Where nothing tells what is listed, the newest word on a path counts, be it features or a reject.
    newer = "" if is_listed else "and _f.run >= _newest.run"
    copy_to(
        database,
        f"""select * from (
            select * from _r {listed} qualify row_number() over (partition by path order by run desc) = 1
        ) _newest anti join {quoted(names["features"])} _f on _newest.path = _f.path {newer} order by path""",
        names["rejects"],
    )


def _count(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return tuple(map(int, database.execute(f"select {query}").fetchall()[0]))
