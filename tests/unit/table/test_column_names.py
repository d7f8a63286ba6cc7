"""A person's own columns may have any name that Mirabelle's own code uses for something else."""

import ast
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mirabelle
from mirabelle import schema
from mirabelle.listing import Listing, join_labels, manifest_files, read_manifest
from mirabelle.network.preparing import Network
from mirabelle.spark.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.table.compaction import make_plan, stage_plans
from mirabelle.table.current_view import fetch_listing
from mirabelle.table.difference import STATUS, Difference, compare
from mirabelle.table.features import FeatureTable
from mirabelle.table.selection import select_rows
from mirabelle.verification.notes import Notes
from mirabelle.verification.rows import check_rows
from mirabelle.worker.embed import run_task
from mirabelle.worker.embedder import Outcome, Tally
from mirabelle.worker.fetching import ImageSource

STORE = DiskStore()
SOURCES = Path(mirabelle.__file__).parent
# Columns that DuckDB has of its own, seen or unseen.
OF_DUCKDB = ("rowid", "filename", "file_row_number", "file_index", "count_star", "column0", "unnest")


def identifiers() -> list[str]:
    """Every word in a text of a source that names something to DuckDB or Spark, but what no label may be called."""
    words: set[str] = set(OF_DUCKDB)
    for source in SOURCES.rglob("*.py"):
        text = source.read_text()
        if "open_database" not in text and "pyspark" not in text and source.name != "schema.py":
            continue
        tree = ast.parse(text)
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                words |= set(re.findall(r"[A-Za-z_]\w*", node.value))
    words |= {word for (word,) in duckdb.execute("select keyword_name from duckdb_keywords()").fetchall()}
    taken = {name.casefold() for name in (*schema.RESERVED, schema.LABEL, schema.SPLIT)}
    # One of those that differ in case alone.
    free = {word.casefold(): word for word in sorted(words) if not word.startswith("_")}
    return sorted(word for key, word in free.items() if key not in taken)


NAMES = identifiers()
# So many at once that DuckDB's share of memory is enough.
AT_ONCE = 100
PARTS = [NAMES[start : start + AT_ONCE] for start in range(0, len(NAMES), AT_ONCE)]


# What a manifest says of files in columns of its own.
OF_FILES = {name for names in manifest_files.KNOWN.values() for name in names} | manifest_files.INVENTORY
OF_FILES |= {*manifest_files.BUCKET, *manifest_files.LATEST, *manifest_files.DELETED}
NOT_TOLD = {name.casefold() for name in OF_FILES}


def test_the_sources_were_searched() -> None:
    assert {"select", "order", "filename"} - set(map(str.casefold, NAMES)) == set()


class Embedder:
    """Gives each picture one feature, or none where its name says so."""

    def __init__(self, network: Network) -> None:
        self.spec = spec_of(network)

    def embed(self, sources: Iterable[ImageSource], tally: Tally) -> Iterator[Outcome]:
        for _ in sources:
            tally.model_rows += 1
            yield Outcome(np.zeros(3, np.float32), 5, 4)


def listed(values: dict[str, str], names: list[str]) -> Listing:
    """Pictures with their one label column's value in each of ``names``."""
    rows = [
        {"path": f"s3://b/{path}", "size_bytes": 1, "modified": None, "etag": f"{path:0>32}", "label": "x"}
        | {"split": None}
        | {name: f"{name} {value}" for name in names}
        for path, value in values.items()
    ]
    file = os.path.join(tempfile.mkdtemp(), "listing.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema.listing_schema(names)), file)
    return Listing(file, tuple(names), len(rows), 0, 0, 1, 0, True)


def embed(table: FeatureTable, network: Network, difference: Difference, run: str) -> None:
    rows = difference.take().next(1000)
    assert rows is not None
    for row in rows.to_pylist():
        assert all(row[name].startswith(f"{name} ") for name in difference.extra_labels)
    staging = table.staging_folder(run, 0)
    report = run_task(Embedder(network), rows.drop_columns([STATUS]), STORE, staging, 0, "try")  # type: ignore[arg-type]
    table.commit(run, 0, len(rows), difference.changed, difference.extra_labels, network.decode, [report])


def counts(difference: Difference) -> tuple[int, int, int, int]:
    return difference.new, difference.changed, difference.unchanged, difference.gone


@pytest.mark.slow
@pytest.mark.parametrize("names", PARTS, ids=lambda names: f"{names[0]} to {names[-1]}")
def test_any_name_goes_through_runs_views_and_compactions(tmp_path: Path, network: Network, names: list[str]) -> None:
    table = FeatureTable(STORE, str(tmp_path / "output"), network.embedding)

    def against(values: dict[str, str]) -> tuple[Difference, Listing]:
        listing = listed(values, names)
        return compare(table, listing, network.decode, tempfile.mkdtemp()), listing

    first, _ = against({"a": "v", "b": "v", "c": "v"})
    assert counts(first) == (3, 0, 0, 0)
    embed(table, network, first, "run-1")
    again, _ = against({"a": "v", "b": "v", "c": "v"})
    assert counts(again) == (0, 0, 3, 0)
    other, listing = against({"a": "v", "b": "w", "d": "v"})
    assert counts(other) == (1, 1, 1, 1)
    embed(table, network, other, "run-2")

    (tmp_path / "runs").mkdir()
    kept = str(tmp_path / "runs" / "run-2.listing.parquet")
    Path(kept).write_bytes(Path(listing.file).read_bytes())
    assert fetch_listing(STORE, kept, tempfile.mkdtemp())
    selection = select_rows(STORE, table, kept, tempfile.mkdtemp())
    assert [(file.kept, file.rows) for file in selection.files] == [(1, 3), (2, 2)]
    assert selection.labels == tuple(sorted(names))
    scratch = tempfile.mkdtemp()
    plan = make_plan(STORE, table, kept, scratch, 2**20)
    assert (plan.view.kept, plan.view.rows, sum(group.rows for group in plan.groups)) == (3, 5, 3)
    stage_plans(STORE, plan, table.staging_folder("run-3", 0), scratch)
    notes = Notes()
    newest = {"run_id": "run-2", "counts": {"listed": 3}}
    check_rows(STORE, str(tmp_path), table, newest, notes, tempfile.mkdtemp())
    assert notes.counts["rows in the current view"] == 3


@pytest.mark.parametrize("names", PARTS, ids=lambda names: f"{names[0]} to {names[-1]}")
@pytest.mark.parametrize("kind", ["table", "manifest"])
def test_any_name_can_be_told(tmp_path: Path, kind: str, names: list[str]) -> None:
    names = [name for name in names if name.casefold() not in NOT_TOLD]
    told = pa.table({"path": ["a.jpg", "b.jpg"], **{name: [f"{name} v", None] for name in names}})
    file = tmp_path / "told.parquet"
    pq.write_table(told, file)
    if kind == "manifest":
        found = read_manifest(STORE, str(file), str(tmp_path), ["*"], [], scratch=tempfile.mkdtemp())
    else:
        images = listed({"a.jpg": "", "b.jpg": ""}, [])
        found = join_labels(images, STORE, str(file), "s3://b", None, "label", "split", scratch=tempfile.mkdtemp())
    rows = found.table.sort_by("path").to_pylist()
    assert [{name: row[name] for name in names} for row in rows] == [
        {name: f"{name} v" for name in names},
        dict.fromkeys(names),
    ]
