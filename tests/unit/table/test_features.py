import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from conftest import break_some, draw
from mirabelle.decode import DecodeOptions
from mirabelle.errors import FingerprintMismatch, RunFailed
from mirabelle.listing import Listing, list_images
from mirabelle.network.preparing import Network
from mirabelle.spark.embed import spec_of
from mirabelle.storage import DiskStore
from mirabelle.table.current_view import current_rejects
from mirabelle.table.difference import STATUS, Difference, compare
from mirabelle.table.features import FeatureTable
from mirabelle.worker.embed import TaskReport, run_task
from mirabelle.worker.embedder import Embedder

STORE = DiskStore()


class Source:
    """A folder of pictures and the feature table made of it, without Spark."""

    def __init__(self, root: Path, output: Path, network: Network) -> None:
        self.root, self.network, self.output = root, network, output
        self.table = FeatureTable(STORE, str(output), network.embedding)
        self.embedder = Embedder(spec_of(network), network.files)

    def listing(self, layout: str = "{split}/{label}/{name}") -> Listing:
        return list_images(STORE, str(self.root), ["*"], [".*"], layout, scratch=tempfile.mkdtemp())

    def compare(self, listing: Listing | None = None, limits: DecodeOptions | None = None) -> Difference:
        options = limits or self.network.decode
        return compare(self.table, listing or self.listing(), options, tempfile.mkdtemp())

    def stage(self, run: str, number: int, rows: pa.Table) -> list[TaskReport]:
        staging = self.table.staging_folder(run, number)
        half = len(rows) // 2
        parts = [rows.slice(0, half), rows.slice(half)]
        return [run_task(self.embedder, part, STORE, staging, i, "try") for i, part in enumerate(parts) if len(part)]

    def embed(self, run: str) -> int:
        """What an extract does: returns how many images it embedded or rejected."""
        self.table.clean()
        difference = self.compare()
        rows = difference.take().next(10_000)
        if rows is None:
            return 0
        reports = self.stage(run, 0, rows.drop_columns([STATUS]))
        self.table.commit(run, 0, len(rows), difference.changed, [], self.network.decode, reports)
        return len(rows)


@pytest.fixture
def source(pictures: Path, tmp_path: Path, network: Network) -> Source:
    return Source(pictures, tmp_path / "output", network)


def counts(source: Source) -> tuple[int, int, int, int, int]:
    d = source.compare()
    return d.new, d.changed, d.unchanged, d.still_rejected, d.gone


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
    rejects = current_rejects(source.table, tempfile.mkdtemp()).to_pylist()
    assert {row["path"]: row["code"] for row in rejects} == codes
    # A reject that was mended is embedded, and is a reject no more.
    draw(Path(next(iter(codes))), 101)
    assert source.embed("run-3") == 1
    assert len(current_rejects(source.table, tempfile.mkdtemp())) == 2


def test_a_label_that_changed_is_a_change(source: Source) -> None:
    source.embed("run-1")
    difference = source.compare(source.listing("{split}/{maker}/{name}"))
    assert difference.changed == 54


def test_rejects_are_tried_again_when_the_limits_change(source: Source) -> None:
    break_some(source.root)
    source.embed("run-1")
    lenient = replace(source.network.decode, accept_truncated=True)
    assert source.compare(limits=lenient).new == 3
    more_formats = replace(source.network.decode, formats=(*source.network.decode.formats, "tga"))
    assert source.compare(limits=more_formats).new == 3


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
    listing = source.listing().table
    reports = source.stage("run-1", 0, listing)
    with pytest.raises(RunFailed, match="54 images went in, 27 were embedded"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports[:1])
    twice = [replace(report, model_rows=2 * report.model_rows) for report in reports]
    with pytest.raises(RunFailed, match=r"network\s+ran on 108"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, twice)
    assert source.table.chunks() == []
    assert not Path(source.table.folder("features")).exists()


def test_files_of_attempts_that_lost_do_not_count(source: Source) -> None:
    listing = source.listing().table
    run_task(source.embedder, listing.slice(0, 5), STORE, source.table.staging_folder("run-1", 0), 0, "lost")
    reports = source.stage("run-1", 0, listing)
    chunk = source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports)
    assert (chunk.embedded, chunk.rejected) == (54, 0)
    assert len(pd.read_parquet(source.table.folder("features"))) == 54


class Killed(BaseException):
    """In the place of SIGKILL: nothing after it runs."""


class MortalStore(DiskStore):
    """A disk that dies before its nth change."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def write(self, path: str, content: bytes) -> None:
        self._change()
        super().write(path, content)

    def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
        self._change()
        super().publish(staged, final, names)

    def remove(self, path: str) -> None:
        self._change()
        super().remove(path)


def rows_seen(source: Source) -> tuple[int, int]:
    """What a plain reader sees of features and rejects."""
    found = []
    for kind in ("features", "rejects"):
        files = list(Path(source.table.folder(kind)).glob("**/*.parquet"))
        found.append(sum(len(pd.read_parquet(file)) for file in files))
    return found[0], found[1]


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_twice(source: Source) -> None:
    """Each step of a commit in turn is the last; the next run goes on, and readers never see part of a chunk."""
    break_some(source.root)
    rows = source.listing().table
    seen_before_the_next_run = set()
    for step in range(20):
        shutil.rmtree(source.output, ignore_errors=True)
        reports = source.stage("run-1", 0, rows)
        mortal = FeatureTable(MortalStore(step), str(source.output), source.network.embedding)
        try:
            mortal.commit("run-1", 0, 57, 0, [], source.network.decode, reports)
            break
        except Killed:
            pass
        features, rejects = rows_seen(source)
        seen_before_the_next_run.add(features)
        assert (features, rejects) in ((0, 0), (0, 3), (54, 3))
        assert len(source.table.chunks()) == (1 if features else 0)
        done = source.embed("run-2")
        # Once its marker is staged a chunk is committed, and the next run publishes it instead of doing it again.
        assert done == (57 if step == 0 else 0), step
        assert rows_seen(source) == (54, 3)
        assert not Path(source.table.staging_folder("run-1", 0)).exists()
        assert source.compare().unchanged == 57
    assert step > 3
    assert seen_before_the_next_run == {0, 54}


def test_what_no_marker_names_is_removed(source: Source) -> None:
    break_some(source.root)
    source.embed("run-1")
    stray = [Path(source.table.chunk_folder(kind, "run-0", 7)) / "part-x.parquet" for kind in ("features", "rejects")]
    beside = Path(source.table.chunk_folder("features", "run-1", 0)) / "part-zombie.parquet"
    for path in (*stray, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"of a killed run")
    assert source.table.clean() == 3
    assert not any(path.exists() for path in (*stray, beside))
    assert rows_seen(source) == (54, 3)
    assert source.table.clean() == 0


def test_strangers_files_take_no_chunk_with_them(source: Source) -> None:
    """As desktops and network disks leave them, at any depth."""
    source.embed("run-1")
    folder = Path(source.table.folder("features"))
    strays = [folder / ".DS_Store", folder / "run=run-1/.nfs01", folder / "run=run-1/chunk=0/.DS_Store"]
    strays += [folder / "notes/todo.txt", folder / "run=run-1/chunk=0/below/part-x.parquet"]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"not ours")
    assert source.table.clean() == 5
    assert not any(stray.exists() for stray in strays)
    assert rows_seen(source) == (54, 0)
    assert len(source.table.chunks()) == 1


def test_embeddings_do_not_mix(source: Source, tmp_path: Path) -> None:
    source.embed("run-1")
    other = FeatureTable(STORE, str(tmp_path / "output"), replace(source.network.embedding, weights_digest="1" * 64))
    assert other.chunks() == []
    assert compare(other, source.listing(), source.network.decode, tempfile.mkdtemp()).new == 54
    shutil.copytree(source.table.folder("features"), other.folder("features"))
    with pytest.raises(FingerprintMismatch, match="holds features of another embedding"):
        other.chunks()


def test_files_that_are_gone_are_not_committed(source: Source) -> None:
    """Another run's clean-up, or a disk that lost them."""
    reports = source.stage("run-1", 0, source.listing().table)
    source.table.clean()
    with pytest.raises(RunFailed, match=r"2 of its files are gone from .*Is another run"):
        source.table.commit("run-1", 0, 54, 0, [], source.network.decode, reports)
    assert source.table.chunks() == []


@pytest.mark.parametrize("late", ["part-00000-late.parquet", "part-00000-late.parquet.77.partial"])
def test_what_a_slow_twin_of_a_task_writes_late_stays_out_of_view(source: Source, late: str) -> None:
    class SlowTwin(DiskStore):
        def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
            (Path(staged) / late).write_bytes(b"late")
            super().publish(staged, final, names)

    reports = source.stage("run-1", 0, source.listing().table)
    table = FeatureTable(SlowTwin(), str(source.output), source.network.embedding)
    chunk = table.commit("run-1", 0, 54, 0, [], source.network.decode, reports)
    found = {path.name for path in Path(table.chunk_folder("features", "run-1", 0)).iterdir()}
    assert found == {*chunk.features_files, "_chunk.json"}
