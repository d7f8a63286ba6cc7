"""PCA on the executors: trees of sums, saved moments, sketches, and the Spark ML model beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conftest import draw
from histories import STORE, History
from mirabelle.network.preparing import Network
from mirabelle.pipeline import Job
from mirabelle.pipeline import reduce as stage
from mirabelle.reduction import Moments, Projection, fit
from mirabelle.spark.reduce import FAN_IN, approximate, gather_moments
from mirabelle.table.selection import Coverage, Selection, select_rows
from mirabelle.worker.reduce import Reading

Run = Callable[..., Job]


@pytest.fixture
def history(pictures: Path, tmp_path: Path, network: Network) -> History:
    """One run of 54 pictures in 22 files."""
    made = History(pictures, tmp_path / "output", network, chunk_images=5)
    made.extract()
    return made


def select(history: History, scratch: Path) -> tuple[Selection, Reading]:
    scratch.mkdir(exist_ok=True)
    selection = select_rows(STORE, history.table, None, str(scratch))
    return selection, Reading(3, str(scratch / "sums"), selection.stale, None)


def all_rows(folder: str) -> np.ndarray:
    return np.stack(pd.read_parquet(folder)["features"]).astype(np.float64)


def facts_of(job: Job) -> dict[str, Any]:
    return json.loads(Path(job.folder("pca"), "pca.json").read_text())


def projection_of(job: Job) -> Projection:
    return Projection.from_bytes(Path(job.folder("pca"), "pca.npz").read_bytes())


def test_a_second_pca_reads_what_is_new(pipeline: Run, pictures: Path) -> None:
    first = pipeline(stages=["extract", "reduce"])
    assert (facts_of(first)["rows_read"], facts_of(first)["extended_from"]) == (54, None)
    assert facts_of(first)["method"] == "moments"
    draw(pictures / "Test/amber/new.png", 100)
    second = pipeline(stages=["extract", "reduce"])
    told = facts_of(second)
    assert (told["rows"], told["rows_read"], told["extended_from"]) == (55, 1, first.runlog.run_id)
    # Nothing new at all, from one that was extended itself.
    third = facts_of(pipeline(stages=["reduce"]))
    assert (third["rows"], third["rows_read"], third["extended_from"]) == (55, 0, second.runlog.run_id)
    for saved in Path(second.output).glob("pca/*/moments.npz"):
        saved.unlink()
    again = pipeline(stages=["reduce"])
    assert facts_of(again)["rows_read"] == 55
    np.testing.assert_allclose(
        projection_of(again).explained_variance, projection_of(second).explained_variance, rtol=1e-9, atol=1e-12
    )
    assert len(pd.read_parquet(Path(second.folder("pca"), "reduced"))) == 55


def test_where_a_covered_row_counts_no_more_all_are_read(pipeline: Run, pictures: Path) -> None:
    pipeline(stages=["extract", "reduce"])
    draw(pictures / "Test/amber/12.png", 101, size=(30, 20))
    changed = facts_of(pipeline(stages=["extract", "reduce"]))
    assert (changed["rows"], changed["rows_read"], changed["extended_from"]) == (54, 54, None)
    split = facts_of(pipeline("reduce.fit_split=Training", "reduce.components=3", stages=["reduce"]))
    assert (split["rows"], split["extended_from"]) == (36, None)
    # The newest that fits is not the newest.
    back = facts_of(pipeline(stages=["reduce"]))
    assert (back["rows_read"], back["extended_from"]) == (0, changed["id"])
    Path(pictures.parent, "output/pca", back["id"], "moments.npz").write_bytes(b"not what it was")
    assert facts_of(pipeline(stages=["reduce"]))["rows_read"] == 54


def test_reduced_rows_are_those_of_the_spark_model(pipeline: Run, pictures: Path, spark: SparkSession) -> None:
    pipeline(stages=["extract"])
    draw(pictures / "Test/amber/12.png", 101, size=(30, 20))
    job = pipeline(stages=["extract", "reduce"])
    folder = job.folder("pca")
    ours = spark.read.parquet(f"{folder}/reduced")
    assert dict(ours.dtypes) == {"path": "string", "label": "string", "split": "string", "reduced": "array<float>"}
    rows = spark.read.parquet(job.table().folder("features"))
    vectors = rows.select("path", "etag", array_to_vector("features").alias("features_vector"))
    theirs = PipelineModel.load(f"{folder}/pipeline").transform(vectors)
    listing = spark.read.parquet(job.runlog.manifest["listing"]).select("path", "etag")
    both = (
        theirs.join(listing, on=["path", "etag"], how="inner")
        .select("path", vector_to_array(F.col("reduced_vector"), "float32").alias("theirs"))
        .join(ours, on="path", how="inner")
        .toPandas()
    )
    assert len(both) == ours.count() == 54
    expected = np.stack(both["theirs"])
    np.testing.assert_allclose(np.stack(both["reduced"]), expected, atol=1e-6 * np.abs(expected).max())


def test_wide_features_are_sketched(pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = pipeline(stages=["extract", "reduce"])
    monkeypatch.setattr(stage, "WIDEST_EXACT", 1000)
    job = pipeline(stages=["reduce", "report"])
    told = facts_of(job)
    assert (told["method"], told["components"]) == ("sketch", facts_of(exact)["components"])
    assert told["rows_read"] == 54 * told["passes"]
    assert not Path(job.folder("pca"), "moments.npz").exists()
    np.testing.assert_allclose(
        projection_of(job).explained_variance, projection_of(exact).explained_variance, rtol=1e-6
    )
    assert Path(job.runlog.manifest["report"]).is_file()


def test_a_sketch_that_does_not_reach_the_share_says_so(pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mirabelle.spark import reduce as gathering

    monkeypatch.setattr(stage, "WIDEST_EXACT", 1000)
    monkeypatch.setattr(gathering, "BASIS_BYTES", 8 * 1024 * 3)
    job = pipeline("reduce.variance=0.99", stages=["extract", "reduce"])
    told = facts_of(job)
    assert (told["components"], told["components_known"], told["components_available"]) == (3, 3, 53)
    assert told["variance_reached"] < 0.99
    (warning,) = (text for text in job.runlog.manifest["warnings"] if "more are not sought" in text)
    assert warning.startswith("3 components of 1,024 features hold")


def test_many_tasks_are_merged_by_a_tree(history: History, tmp_path: Path, spark: SparkSession) -> None:
    selection, reading = select(history, tmp_path / "scratch")
    tasks = selection.tasks(selection.files, 22)
    assert len(tasks) == 22 > FAN_IN
    moments = gather_moments(spark.sparkContext, tasks, reading)
    exact = Moments.of(all_rows(history.table.folder("features")))
    assert moments.count == 54
    np.testing.assert_allclose(moments.mean, exact.mean, rtol=1e-12)
    # Tasks multiply in float32.
    np.testing.assert_allclose(moments.scatter, exact.scatter, rtol=1e-6)
    # The tasks' own, and three of the first round, which the driver read.
    assert len(list((tmp_path / "scratch/sums").glob("sum-*.npz"))) == 22 + 3


def test_files_that_saved_moments_cover_are_not_read(history: History, tmp_path: Path, spark: SparkSession) -> None:
    before, reading = select(history, tmp_path / "before")
    saved = gather_moments(spark.sparkContext, before.tasks(before.files, 2), reading)
    draw(history.root / "Test/amber/new.png", 100)
    history.extract()
    after, reading = select(history, tmp_path / "after")
    whole = gather_moments(spark.sparkContext, after.tasks(after.files, 2), reading)
    for file in before.files:
        Path(before.folder, file.name).write_bytes(b"what was Parquet")
    missing = Coverage("f", None, before.files).missing(after, "f", None)
    new = gather_moments(spark.sparkContext, after.tasks(missing, 2), reading)
    together = saved.merge(new)
    assert (new.count, together.count) == (1, 55)
    np.testing.assert_allclose(together.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(together.scatter, whole.scatter, rtol=1e-9)


@pytest.mark.long
def test_a_sketch_grows_to_what_is_asked(history: History, tmp_path: Path, spark: SparkSession) -> None:
    """Wide rows of low rank and noise, written as the history's own files are."""
    import pyarrow as pa

    from mirabelle.schema import features_schema
    from mirabelle.worker.embed import parquet_bytes

    random = np.random.default_rng(0)
    strong = random.normal(size=(900, 400)) * np.geomspace(3, 0.5, 400) @ random.normal(size=(400, 1200)) / 20
    rows = (strong + 0.01 * random.normal(size=(900, 1200))).astype(np.float32)
    target = features_schema([], None)
    for number, part in enumerate(np.array_split(rows, 3)):
        made = {"path": [f"{number}-{i}" for i in range(len(part))], "features": list(part)}
        columns = [pa.array(made[f.name], f.type) if f.name in made else pa.nulls(len(part), f.type) for f in target]
        STORE.write(str(tmp_path / f"{number}.parquet"), parquet_bytes(pa.Table.from_arrays(columns, schema=target)))
    files = [stage.FeatureFile(f"{i}.parquet", 300, 300, "0") for i in range(3)]
    tasks = Selection(str(tmp_path), tuple(files), "", ()).tasks(files, 2)
    found = approximate(spark.sparkContext, tasks, Reading(1200, str(tmp_path / "sums"), "", None), 900, 0.95, None)
    exact = fit(Moments.of(rows.astype(np.float64)), 0.95)
    kept = len(exact.components)
    # More than the first basis has columns.
    assert kept > 256 - 32
    assert abs(len(found.projection.components) - kept) <= 1
    np.testing.assert_allclose(found.projection.total_variance, exact.total_variance, rtol=1e-9)
    share, theirs = (p.explained_variance_ratio[:kept].sum() for p in (found.projection, exact))
    assert theirs - 1e-3 <= share <= theirs + 1e-9
