import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from conftest import break_some, draw
from mirabelle.errors import FingerprintMismatch, RunFailed
from mirabelle.features import MARKER, FeatureTable
from mirabelle.listing import list_images
from mirabelle.networks import Network
from mirabelle.stages.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.worker import Embedder, TaskReport, run_task

STORE = DiskStore()


class Source:
    """A folder of pictures and the feature table made of it, without Spark."""

    def __init__(self, root: Path, output: Path, network: Network) -> None:
        self.root, self.network = root, network
        self.table = FeatureTable(STORE, str(output), network.embedding)
        self.embedder = Embedder(spec_of(network), network.files)

    def listing(self, layout: str = "{split}/{label}/{name}") -> pa.Table:
        return list_images(STORE, str(self.root), ["*"], [".*"], layout).table

    def stage(self, run: str, number: int, rows: pa.Table) -> list[TaskReport]:
        staging = self.table.staging_folder(run, number)
        half = len(rows) // 2
        parts = [rows.slice(0, half), rows.slice(half)]
        return [run_task(self.embedder, part, STORE, staging, i, "try") for i, part in enumerate(parts) if len(part)]

    def embed(self, run: str) -> int:
        """What an extract does: returns how many images it embedded or rejected."""
        self.table.clean()
        listing = self.listing()
        difference = self.table.compare(listing, self.network.decode)
        todo = np.sort(np.concatenate([difference.new, difference.changed]))
        if len(todo):
            reports = self.stage(run, 0, listing.take(todo))
            self.table.commit(run, 0, len(todo), len(difference.changed), [], self.network.decode, reports)
        return len(todo)


@pytest.fixture
def source(pictures: Path, tmp_path: Path, network: Network) -> Source:
    return Source(pictures, tmp_path / "output", network)


def counts(source: Source) -> tuple[int, int, int, int, int]:
    d = source.table.compare(source.listing(), source.network.decode)
    return len(d.new), len(d.changed), len(d.unchanged), d.still_rejected, d.gone


def test_what_is_done_changed_new_and_gone(source: Source) -> None:
    codes = break_some(source.root)
    assert counts(source) == (57, 0, 0, 0, 0)
    assert source.embed("run-1") == 57
    assert counts(source) == (0, 0, 57, 3, 0)
    # Another picture of another size; one touched; one gone; one new; a label changed by moving is gone and new.
    draw(source.root / "Test/amber/12.png", 99, size=(30, 20))
    os.utime(source.root / "Test/amber/13.png", (1, 1))
    (source.root / "Test/amber/14.png").unlink()
    draw(source.root / "Test/amber/new.png", 100)
    assert counts(source) == (1, 2, 54, 3, 1)
    assert source.embed("run-2") == 3
    assert counts(source) == (0, 0, 57, 3, 1)
    rejects = source.table.read_rejects().to_pylist()
    assert {row["path"]: row["code"] for row in rejects} == codes
    # A reject that was mended is embedded, and is a reject no more.
    draw(Path(next(iter(codes))), 101)
    assert source.embed("run-3") == 1
    assert len(source.table.read_rejects()) == 2


def test_a_label_that_changed_is_a_change(source: Source) -> None:
    source.embed("run-1")
    difference = source.table.compare(source.listing("{split}/{maker}/{name}"), source.network.decode)
    assert len(difference.changed) == 54


def test_rejects_are_tried_again_when_the_limits_change(source: Source) -> None:
    break_some(source.root)
    source.embed("run-1")
    lenient = replace(source.network.decode, accept_truncated=True)
    assert len(source.table.compare(source.listing(), lenient).new) == 3


def test_plain_readers_see_the_contract(source: Source) -> None:
    break_some(source.root)
    source.embed("run-1")
    features = pd.read_parquet(source.table.folder("features"))
    assert len(features) == 54
    assert features["features"].iloc[0].dtype == np.float32
    import duckdb

    files = f"{source.table.folder('features')}/**/*.parquet"
    query = f"select count(*), count(distinct path), min(len(features)) from '{files}'"
    assert duckdb.sql(query).fetchall() == [(54, 54, 3)]
    rejects = duckdb.sql(
        f"select stage, code from '{source.table.folder('rejects')}/**/*.parquet' order by code"
    ).fetchall()
    assert rejects == [("decode", "empty"), ("decode", "not_an_image"), ("decode", "truncated")]


def test_counts_that_do_not_add_up_are_not_committed(source: Source) -> None:
    listing = source.listing()
    reports = source.stage("run-1", 0, listing)
    with pytest.raises(RunFailed, match="54 images went in, 27 were embedded"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports[:1])
    twice = [replace(report, model_rows=2 * report.model_rows) for report in reports]
    with pytest.raises(RunFailed, match=r"network\s+ran on 108"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, twice)
    assert source.table.chunks() == []
    assert not Path(source.table.folder("features")).exists()


def test_files_of_attempts_that_lost_do_not_count(source: Source) -> None:
    listing = source.listing()
    run_task(source.embedder, listing.slice(0, 5), STORE, source.table.staging_folder("run-1", 0), 0, "lost")
    reports = source.stage("run-1", 0, listing)
    chunk = source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports)
    assert (chunk.embedded, chunk.rejected) == (54, 0)
    assert len(pd.read_parquet(source.table.folder("features"))) == 54


@pytest.mark.parametrize("moment", ["staging", "rejects published", "marker written"])
def test_killed_at_any_moment_readers_see_whole_chunks_or_nothing(source: Source, moment: str) -> None:
    """The steps of a commit, cut short after each."""
    break_some(source.root)
    listing = source.listing()
    table = source.table
    staging = Path(table.staging_folder("run-1", 0))
    source.stage("run-1", 0, listing)
    if moment != "staging":
        STORE.publish(str(staging / "rejects"), table.chunk_folder("rejects", "run-1", 0))
    if moment == "marker written":
        (staging / "features" / MARKER).write_text("{}")
    assert table.chunks() == []
    assert len(table.read_rejects()) == 0
    assert not Path(table.folder("features")).exists()
    assert source.embed("run-2") == 57
    assert not staging.exists()
    assert len(pd.read_parquet(table.folder("features"))) == 54
    assert len(pd.read_parquet(table.folder("rejects"))) == 3


def test_embeddings_do_not_mix(source: Source, tmp_path: Path) -> None:
    source.embed("run-1")
    other = FeatureTable(STORE, str(tmp_path / "output"), replace(source.network.embedding, weights_digest="1" * 64))
    assert other.chunks() == []
    assert len(other.compare(source.listing(), source.network.decode).new) == 54
    shutil.copytree(source.table.folder("features"), other.folder("features"))
    with pytest.raises(FingerprintMismatch, match="holds features of another embedding"):
        other.chunks()


def test_files_that_are_gone_are_not_committed(source: Source) -> None:
    """Another run's clean-up, or a disk that lost them."""
    reports = source.stage("run-1", 0, source.listing())
    source.table.clean()
    with pytest.raises(RunFailed, match=r"2 of its files are gone from .*Is another run"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports)
    assert source.table.chunks() == []
