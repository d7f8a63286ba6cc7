"""A table's rows beside each other and beside the newest listing. [Store, a scratch folder; driver only]"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.storage import Store
from mirabelle.storage.database import open_database, quoted
from mirabelle.table.current_view import CurrentView, current_view, fetch_listing, listing_of
from mirabelle.table.features import FeatureTable
from mirabelle.verification.files import UNREADABLE
from mirabelle.verification.notes import EXAMPLES, Notes, examples

if TYPE_CHECKING:
    import duckdb


def check_rows(
    store: Store, output: str, table: FeatureTable, newest: dict[str, Any] | None, notes: Notes, scratch: str
) -> None:
    """Check one embedding's rows.

    Args:
        store: where they are.
        output: its root.
        table: the embedding's, whose files can all be read.
        newest: manifest of the newest run that kept a listing; None: there is none.
        notes: is added to.
        scratch: an empty folder.
    """
    name = table.embedding.folder
    rejects = os.path.join(scratch, "every-reject.parquet")
    try:
        listed = fetch_listing(store, listing_of(output, newest["run_id"]), scratch) if newest else None
        view = current_view(table, listed, scratch)
        table.write_rows("rejects", [schema.PATH, schema.ETAG], rejects)
    except OutputError:
        # That the listing is gone is said where the runs are looked at.
        return
    except UNREADABLE as error:
        notes.find(f"{name}: the rows cannot be read: {' '.join(str(error).split())[:200]}")
        return
    notes.counts["rows in the current view"] += view.kept
    notes.counts["rejects in the current view"] += view.rejects_kept
    with open_database(scratch) as database:
        database.execute(f"create view _d as select * from {quoted(view.every)}")
        database.execute(f"create view _r as select * from {quoted(rejects)}")
        database.execute(f"create view _f as select * from {quoted(view.features)}")
        _check_repeats(database, name, notes)
        if newest and listed:
            database.execute(f"create view _l as select * from {quoted(listed)}")
            _check_view(database, name, newest, view, notes)


def _check_repeats(database: duckdb.DuckDBPyConnection, name: str, notes: Notes) -> None:
    """A run puts each path in one place, once."""
    for kind, view in (("features", "_d"), ("rejects", "_r")):
        total, shown = _paths(database, f"select path from {view} group by path, run having count(*) > 1")
        if total:
            notes.find(f"{name}: paths with several rows of {kind} of one run ({total:,}): {examples(shown, total)}")
    total, shown = _paths(database, "select path from _d semi join _r using (path, run)")
    if total:
        notes.find(
            f"{name}: paths both in the features and in the rejects of one run ({total:,}): {examples(shown, total)}"
        )


def _check_view(
    database: duckdb.DuckDBPyConnection, name: str, newest: dict[str, Any], view: CurrentView, notes: Notes
) -> None:
    """Each listed path is in exactly one of features and rejects."""
    run = newest["run_id"]
    total, shown = _paths(
        database,
        "select path from (select path, max(run) as _rejected from _r semi join _l using (path, etag) group by path)"
        " join (select path, max(run) as _embedded from _f group by path) using (path) where _rejected > _embedded",
    )
    if total:
        notes.find(
            f"{name}: paths both in the current view's features and in newer rejects of the same content ({total:,}):"
            f" {examples(shown, total)}; the features count"
        )
    if "listed" not in newest.get("counts", {}):
        # It did not finish, and the next run goes on.
        return
    total, shown = _paths(
        database, f"select path from _l anti join _f using (path) anti join {quoted(view.rejects)} using (path)"
    )
    if total:
        notes.find(
            f"{name}: paths that run {run} listed are neither in the features nor in the rejects ({total:,}):"
            f" {examples(shown, total)}; run `mirabelle extract`"
        )


def _paths(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, list[str]]:
    """How many paths a query gives, and the first few."""
    (total,) = database.execute(f"select count(*) from ({query})").fetchall()[0]
    found = database.execute(f"select path from ({query}) order by 1 limit {EXAMPLES}").fetchall() if total else []
    return int(total), [path for (path,) in found]
