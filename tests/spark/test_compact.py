"""Compaction: fewer files, the same view, at every moment and for every reader."""

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from conftest import break_some, draw
from histories import STORE, History
from mirabelle.cli import main
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.errors import OutputError, RunFailed
from mirabelle.network.preparing import Network
from mirabelle.pipeline import Job
from mirabelle.pipeline.compact import NOTHING, compact, compact_tables, plan_tables
from mirabelle.spark.read import current_features
from mirabelle.spark.reduce import gather_moments
from mirabelle.storage import DiskStore, S3Options, Store
from mirabelle.table.current_view import current_rejects, fetch_listing, newest_listing
from mirabelle.table.features import FeatureTable
from mirabelle.table.lease import hold
from mirabelle.table.runlog import RunLog, read_manifests
from mirabelle.table.selection import select_rows
from mirabelle.verification import verify
from mirabelle.worker.reduce import Reading

QUIET = Console(quiet=True)


@pytest.fixture
def history(pictures: Path, tmp_path: Path, network: Network) -> History:
    """Several runs: new, changed, gone and relabelled pictures, and rejects under two policies."""
    break_some(pictures)
    made = History(pictures, tmp_path / "output", network, chunk_images=30)
    made.extract()
    draw(pictures / "Test/amber/12.png", 99, size=(30, 20))
    draw(pictures / "Test/amber/13.png", 98, size=(20, 30))
    (pictures / "Test/amber/14.png").unlink()
    (pictures / "Test/amber/15.png").rename(pictures / "Test/beryl/moved.png")
    made.extract()
    # A reject that is one no more under these limits, and another of their own; relabelled by the layout.
    whole = (pictures / "Training/amber/1.png").read_bytes()
    (pictures / "Training/amber/headless.png").write_bytes(whole[:40])
    made.extract(layout="{split}/{maker}/{name}", accept_truncated=True)
    draw(pictures / "Test/amber/13.png", 97)
    (pictures / "Test/coral/page.jpg").write_bytes(b"<!doctype html><title>moved</title>")
    made.extract(layout="{split}/{maker}/{name}", accept_truncated=True)
    return made


def run(history: History, **options: Any) -> list[tuple[str, str]]:
    config = load(None, ["images.root=.", f"output={history.output}"], {})
    return compact(config, QUIET, **{"grace_seconds": 0, **options})


def view(history: History, table: FeatureTable | None = None) -> pd.DataFrame:
    """The current view as a reader of ours gets it, by pandas alone: newest run, as it was last listed."""
    table = table or history.table
    files = [(c.run, path) for c in table.chunks() for path in table.files("features", c)]
    parts = [pd.read_parquet(path, partitioning=None).assign(run=name) for name, path in files]
    listing = pd.read_parquet(sorted((history.output / "runs").glob("*.listing.parquet"))[-1])
    rows = pd.concat(parts).merge(listing[["path", "etag"]], on=["path", "etag"])
    rows = rows.sort_values(["path", "run"]).drop_duplicates("path", keep="last")
    return rows.drop(columns="run").reset_index(drop=True).sort_index(axis=1)


def rejects(history: History) -> list[dict[str, Any]]:
    listing = newest_listing(
        read_manifests(STORE, str(history.output)), str(history.output), history.network.embedding.fingerprint
    )
    assert listing
    scratch = tempfile.mkdtemp()
    rows = current_rejects(history.table, scratch, fetch_listing(STORE, listing, scratch))
    return rows.drop_columns(["run"]).to_pylist()


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Bit for bit."""
    assert list(one.columns) == list(other.columns)
    assert [f.tobytes() for f in one["features"]] == [f.tobytes() for f in other["features"]]
    pd.testing.assert_frame_equal(one.drop(columns="features"), other.drop(columns="features"))


def plain_rows(history: History) -> list[tuple[Any, ...]]:
    """The README's query."""
    listing = sorted((history.output / "runs").glob("*.listing.parquet"))[-1]
    return duckdb.sql(f"""
        select path, label, features::varchar from
        read_parquet('{history.output}/features/**/*.parquet', hive_partitioning = true, union_by_name = true)
        semi join '{listing}' using (path, etag)
        qualify row_number() over (partition by embedding, path order by run desc) = 1 order by path
    """).fetchall()


def files(history: History, kind: str = "features") -> list[Path]:
    return sorted(Path(history.table.folder(kind)).rglob("*.parquet"))


def test_the_view_is_the_same_in_fewer_files(history: History, spark: SparkSession) -> None:
    before, refused, plain = view(history), rejects(history), plain_rows(history)
    old = len(files(history)) + len(files(history, "rejects"))
    rows = sum(pq.read_metadata(file).num_rows for file in files(history))
    ((_, told),) = run(history)
    same(view(history), before)
    assert rejects(history) == refused
    assert {row["path"].rpartition("/")[2] for row in refused} == {"empty.jpg", "page.jpg", "headless.png"}
    assert plain_rows(history) == plain
    (file,) = files(history)
    (chunk,) = history.table.chunks()
    assert (chunk.embedded, chunk.changed, chunk.model_rows) == (len(before), 0, 0)
    assert told.startswith(
        f"{history.network.embedding.folder}: {old} files became {1 + len(files(history, 'rejects'))}, "
    )
    assert f"{len(before)} rows kept, {rows - len(before)} dropped" in told
    footer = pq.read_metadata(file)
    assert json.loads(footer.metadata[b"mirabelle.embedding"]) == history.network.embedding.to_json()
    assert footer.num_rows == len(before)
    plainly = spark.read.parquet(str(file))
    assert json.loads(plainly.schema["features"].metadata["mirabelle.embedding"])["fingerprint"] == chunk.fingerprint
    assert chunk.labels == ("maker",)
    assert verify(STORE, str(history.output), deep=True).findings == ()
    (manifest,) = (m for m in read_manifests(STORE, str(history.output)) if m["command"] == "compact")
    assert manifest["status"] == "done"
    assert (manifest["counts"]["files_before"], manifest["counts"]["rows_kept"]) == (old, len(before))
    assert not (history.output / "_staging").exists()
    assert not (history.output / "_lease.json").exists()


def test_what_follows_sees_nothing_to_do(history: History, spark: SparkSession, tmp_path: Path) -> None:
    makers = {"layout": "{split}/{maker}/{name}", "accept_truncated": True}
    before = history.compare(**makers)
    run(history)
    new, changed, unchanged, still_rejected, gone = history.compare(**makers)
    assert (new, changed, gone) == (0, 0, 0)
    assert (unchanged, still_rejected) == before[2:4]
    assert still_rejected == 3
    assert history.extract(**makers)["counts"]["model_rows"] == 0
    assert verify(STORE, str(history.output)).findings == ()
    rows = current_features(spark, str(history.output))
    assert rows.count() == len(view(history))
    listing = newest_listing(
        read_manifests(STORE, str(history.output)), str(history.output), history.network.embedding.fingerprint
    )
    selection = select_rows(STORE, history.table, listing, str(tmp_path))
    reading = Reading(history.network.embedding.width, str(tmp_path / "sums"), "", None)
    moments = gather_moments(spark.sparkContext, selection.tasks(selection.files, 2), reading)
    assert (moments.count, selection.stale) == (len(view(history)), "")
    assert run(history) == [("compact", NOTHING)]


@pytest.mark.long
def test_a_pipeline_goes_on_after_it(pipeline: Callable[..., Job], pictures: Path) -> None:
    output = pictures.parent / "output"
    pipeline("extract.task_images=9", stages=["extract"])
    draw(pictures / "Test/amber/12.png", 101, size=(30, 20))
    (pictures / "Test/amber/13.png").unlink()
    pipeline(stages=["extract", "reduce"])
    assert verify(STORE, str(output), deep=True).findings == ()
    (told,) = compact(load(None, ["images.root=.", f"output={output}"], {}), QUIET, 0)
    assert "53 rows kept, 2 dropped" in told[1]
    assert verify(STORE, str(output), deep=True).findings == ()
    job = pipeline()
    assert job.runlog.manifest["counts"]["model_rows"] == 0
    assert job.runlog.manifest["pca"]["rows"] == 53
    assert verify(STORE, str(output), deep=True).findings == ()


def test_rejects_keep_the_limits_they_were_made_under(history: History) -> None:
    """A run under other limits was killed, so that the rejects that count are of two."""
    makers: dict[str, Any] = {"layout": "{split}/{maker}/{name}", "accept_truncated": True}
    history.chunk_images = 1
    history.extract(**makers, max_pixels=1_000_000, most_chunks=1)
    assert history.compare(**makers, max_pixels=1_000_000)[::3] == (2, 1)
    refused = rejects(history)
    run(history)
    assert rejects(history) == refused
    assert history.compare(**makers, max_pixels=1_000_000)[::3] == (2, 1)
    assert history.compare(**makers)[::3] == (1, 2)
    (chunk,) = history.table.chunks()
    assert [limits["max_pixels"] for limits in chunk.rejects_limits] == [50_000_000, 1_000_000]
    assert len(chunk.rejects_files) == len(files(history, "rejects")) == 2
    history.extract(**makers, max_pixels=1_000_000)
    assert verify(STORE, str(history.output)).findings == ()


def test_a_picture_that_changes_afterwards_is_found(history: History) -> None:
    run(history)
    draw(history.root / "Test/amber/13.png", 55, size=(40, 40))
    counts = history.extract(layout="{split}/{maker}/{name}", accept_truncated=True)["counts"]
    assert (counts["embedded"], counts["unchanged"]) == (1, 56)
    rows = view(history).set_index("path")
    assert rows.loc[str(history.root / "Test/amber/13.png"), "width_px"] == 40
    before = view(history)
    run(history)
    same(view(history), before)
    assert len(history.table.chunks()) == 1


def test_files_are_of_about_the_size_wanted(history: History) -> None:
    before = view(history)
    sizes = [file.stat().st_size for file in files(history)]
    run(history, target_bytes=3 * max(sizes))
    assert 1 < len(files(history)) < len(sizes)
    same(view(history), before)
    assert run(history) == [("compact", NOTHING)]


def test_one_small_chunk_of_one_file_is_left_alone(pictures: Path, tmp_path: Path, network: Network) -> None:
    made = History(pictures, tmp_path / "output", network, chunk_images=1000)
    made.extract()
    assert len(files(made)) == 2
    run(made)
    manifests = len(read_manifests(STORE, str(made.output)))
    assert run(made) == [("compact", NOTHING)]
    assert len(read_manifests(STORE, str(made.output))) == manifests


def test_all_gone(history: History) -> None:
    for picture in list(history.root.rglob("*.*")):
        picture.unlink()
    draw(history.root / "Test/amber/page.png", 5)
    (history.root / "Test/amber/page.png").write_bytes(b"no picture")
    history.extract()
    run(history)
    (chunk,) = history.table.chunks()
    assert (chunk.embedded, chunk.rejected, files(history)) == (0, 1, [])
    assert verify(STORE, str(history.output)).findings == ()
    assert history.compare() == (0, 0, 1, 1, 0)


def test_embeddings_are_compacted_each_for_itself(history: History, pictures: Path, network: Network) -> None:
    from dataclasses import replace

    other = History(pictures, history.output, replace(network, embedding=replace(network.embedding, layer="other")))
    for _ in range(10):
        next(other.runs)
    other.extract()
    first = len(files(history))
    with pytest.raises(OutputError, match="holds no features of nothing; name one of meancolour-"):
        run(history, embedding="nothing")
    ((_, told),) = run(history, embedding=other.network.embedding.folder)
    assert told.startswith(other.network.embedding.folder)
    assert (len(files(other)), len(files(history))) == (1, first)
    ((_, told),) = run(history)
    assert told.startswith(history.network.embedding.folder)
    assert len(files(history)) == 1
    assert verify(STORE, str(history.output)).findings == ()


def test_a_dry_run_says_what_would_be_done(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(str(path) for path in history.output.rglob("*"))
    arguments = ["compact", "--set", f"output={history.output}"]
    assert main([*arguments, "--dry-run"]) == 0
    rows = sum(chunk.embedded for chunk in history.table.chunks())
    said = capsys.readouterr().err
    assert f"of {rows} rows of features {len(view(history))} count, of 7 rejects 3" in " ".join(said.split())
    assert sorted(str(path) for path in history.output.rglob("*")) == before
    assert main([*arguments, "--grace", "0.1", "-q"]) == 0
    captured = capsys.readouterr()
    assert f"{len(view(history))} rows kept" in captured.out
    assert captured.err == ""
    assert main([*arguments, "--dry-run"]) == 0
    assert NOTHING in capsys.readouterr().err


def test_what_it_refuses(history: History, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no features yet"):
        compact(load(None, ["images.root=.", f"output={tmp_path / 'none'}"], {}), QUIET)
    assert not (tmp_path / "none").exists()
    with (
        hold(STORE, str(history.output), "other", "extract"),
        pytest.raises(OutputError, match="is in use by run other"),
    ):
        run(history)
    before = files(history)
    listings = sorted((history.output / "runs").glob("*.listing.parquet"))
    newest = sorted((history.output / "runs").glob("*.json"))[-1]
    hidden = newest.rename(tmp_path / newest.name)
    with pytest.raises(OutputError, match="the newest listing that is there is older"):
        run(history)
    hidden.rename(newest)
    listings[-1].unlink()
    with pytest.raises(OutputError, match="is gone, so nothing tells which rows count"):
        run(history)
    assert files(history) == before


def test_a_table_with_a_path_twice_in_a_run_is_refused(history: History) -> None:
    file = Path(history.table.files("features", history.table.chunks()[-1])[0])
    rows = pq.ParquetFile(file).read()
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), file)
    before = files(history)
    with pytest.raises(RunFailed, match=r"repeat a path that the same run wrote before \(1\)"):
        run(history)
    assert files(history) == before


class Killed(BaseException):
    """In the place of SIGKILL: nothing after it runs."""


class MortalStore(DiskStore):
    """A disk that dies before its nth change, and tells someone before each."""

    def __init__(self, changes: int, look: Callable[[], None] = lambda: None) -> None:
        self.left, self.look = changes, look

    def _change(self) -> None:
        self.look()
        self.left -= 1
        if self.left < 0:
            raise Killed

    def write(self, path: str, content: bytes) -> None:
        self._change()
        super().write(path, content)

    def upload(self, local: str, path: str) -> None:
        self._change()
        super().upload(local, path)

    def publish(self, staged: str, final: str, names: Sequence[str]) -> None:
        self._change()
        super().publish(staged, final, names)

    def remove(self, path: str) -> None:
        self._change()
        super().remove(path)


def step_by_step(history: History, store: Store, scratch: str) -> None:
    """A compaction on a store of ours, as ``compact`` does it."""
    config = load(None, ["images.root=.", f"output={history.output}"], {})
    runlog = RunLog(store, str(history.output), "compact", {})
    lease = hold(STORE, str(history.output), runlog.run_id, "compact")
    with lease as held:
        job = Job(config, store, S3Options(), "", str(history.output), runlog, QUIET, held, scratch)
        table = FeatureTable(store, str(history.output), history.network.embedding)
        compact_tables(job, plan_tables(job, [table], 2**20), 0)


@pytest.mark.usefixtures("spark")
@pytest.mark.long
def test_killed_at_any_moment_nothing_is_lost_or_twice(history: History, tmp_path: Path) -> None:
    """Each change in turn is the last; readers see the same at every step, and the next run or compaction completes."""
    kept = tmp_path / "kept"
    shutil.copytree(history.output, kept)
    before, refused, plain = view(history), rejects(history), plain_rows(history)

    def look() -> None:
        same(view(history), before)
        assert rejects(history) == refused
        assert plain_rows(history) == plain

    seen = set()
    for step in range(60):
        shutil.rmtree(history.output)
        shutil.copytree(kept, history.output)
        try:
            step_by_step(history, MortalStore(step, look), str(tmp_path / f"scratch-{step}"))
            break
        except Killed:
            pass
        look()
        seen.add((len(history.table.chunks()), len(history.table.markers())))
        if step % 2:
            run(history)
        else:
            # Its own part is to complete or remove; it embeds nothing again.
            counts = history.extract(layout="{split}/{maker}/{name}", accept_truncated=True)["counts"]
            assert (counts["embedded"], counts["rejected"], counts["still_rejected"]) == (0, 0, 3)
            assert sorted(STORE.walk(history.table.folder("features")), key=str)
            shutil.rmtree(history.output / "runs")
            shutil.copytree(kept / "runs", history.output / "runs")
        look()
        assert not (history.output / "_staging").exists()
        assert len(history.table.markers()) == len(history.table.chunks())
    assert step > 15
    assert {1} < {chunks for chunks, _ in seen}
    assert any(chunks < markers for chunks, markers in seen)


def test_readers_go_on_meanwhile(history: History) -> None:
    """One that lists and reads over and over never fails and always sees the same rows."""
    before = view(history)
    stop = threading.Event()
    looks, failures = [0], list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                same(view(history), before)
                looks[0] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        run(history, grace_seconds=3)
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert looks[0] > 4
    assert len(files(history)) == 1


def test_markers_that_go_while_they_are_read(history: History) -> None:
    """Between the walk and the reading of what it named, all that was replaced is removed."""
    run(history)
    kept = history.output.parent / "kept"
    shutil.copytree(history.table.folder("features"), kept)
    gone = kept / "run=20000101T000000.000000Z-00ff" / "chunk=0"
    (chunk,) = history.table.chunks()
    assert chunk.replaces
    old_run, old_number = chunk.replaces[0]
    ghost = Path(history.table.chunk_folder("features", old_run, old_number))
    ghost.mkdir(parents=True)
    os.symlink("nowhere", ghost / "_chunk.json")
    assert [c.run for c in history.table.chunks()] == [chunk.run]
    # One that no compaction replaced is missed.
    shutil.rmtree(ghost.parent)
    assert not gone.exists()
    lost = Path(history.table.chunk_folder("features", "run-x", 0))
    lost.mkdir(parents=True)
    os.symlink("nowhere", lost / "_chunk.json")
    with pytest.raises(OutputError, match="come and go"):
        history.table.chunks()
