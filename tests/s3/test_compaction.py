"""Compaction and verification in a bucket; tasks run in this process, so nothing here starts a JVM."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import break_some, draw
from histories import History
from mirabelle import schema
from mirabelle.cli import main
from mirabelle.network.preparing import Network
from mirabelle.storage import Store, open_store
from mirabelle.table.compaction import Plan, commit, labels_of, make_plan, stage_plans
from mirabelle.table.current_view import newest_listing
from mirabelle.table.features import FeatureTable
from mirabelle.table.runlog import read_manifests
from mirabelle.verification import verify
from mirabelle.worker.compact import run_merge

RUN = "20200102T000000.000000Z-00ff"


@pytest.fixture
def history(pictures: Path, tmp_path: Path, network: Network) -> History:
    """Two runs, on a disk."""
    break_some(pictures)
    made = History(pictures, tmp_path / "output", network)
    made.extract()
    draw(pictures / "Test/amber/12.png", 99, size=(30, 20))
    (pictures / "Test/amber/14.png").unlink()
    made.extract()
    return made


@pytest.fixture
def output(history: History, bucket: str, aws: Any) -> str:
    """The same output in a bucket."""
    root = f"s3://{bucket}/out"
    store = open_store(root)
    for file in history.output.rglob("*"):
        if file.is_file():
            store.upload(str(file), f"{root}/{file.relative_to(history.output)}")
    return root


def plan_of(store: Store, table: FeatureTable, output: str) -> tuple[Plan, str]:
    table.clean()
    scratch = tempfile.mkdtemp()
    listing = newest_listing(read_manifests(store, output), output, table.embedding.fingerprint)
    return make_plan(store, table, listing, scratch, 2**20), scratch


def rows_of(store: Store, table: FeatureTable) -> pa.Table:
    parts = []
    for chunk in table.chunks():
        for path in table.files("features", chunk):
            with store.open(path) as source:
                parts.append(pq.ParquetFile(source).read())
    return pa.concat_tables(parts).sort_by("path")


def test_in_a_bucket(history: History, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(output)
    table = FeatureTable(store, output, history.network.embedding)
    assert verify(store, output, deep=True).findings == ()
    before = rows_of(store, table)
    plan, scratch = plan_of(store, table, output)
    assert plan.is_needed
    stage_plans(store, plan, table.staging_folder(RUN, 0), scratch)
    columns = schema.features_schema(labels_of(plan), table.embedding.to_json())
    reports = [run_merge(store, table.staging_folder(RUN, 0), task, columns, "try") for task in range(len(plan.groups))]
    chunk, size_bytes = commit(store, plan, RUN, reports, scratch)
    assert table.chunks() == [chunk]
    assert len(table.markers()) > 1
    assert "chunks that a compaction replaced are still there" in verify(store, output).findings[0]
    table.clean()
    assert table.markers() == [chunk]
    left = [e for e in store.walk(output) if e.path.endswith(".parquet") and "/runs/" not in e.path]
    assert sum(entry.size_bytes for entry in left) == size_bytes
    after = rows_of(store, table)
    gone, changed = (str(history.root / f"Test/amber/{name}.png") for name in (14, 12))
    kept = [r for r in before.to_pylist() if r["path"] != gone and (r["path"] != changed or r["width_px"] == 30)]
    assert after.to_pylist() == kept
    assert len(kept) == len(before) - 2 == 53
    assert not plan_of(store, table, output)[0].is_needed
    # Its run has no manifest here.
    assert main(["verify", output]) == 1
    assert "chunks of runs that no manifest tells of" in capsys.readouterr().out
