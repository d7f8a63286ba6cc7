"""The network on the executors: invariants 2, 3 and 4 of the design, and the public column."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conftest import break_some, draw, mean_colour
from mirabelle.listing import list_images
from mirabelle.network.preparing import Network
from mirabelle.pipeline import Job
from mirabelle.spark.embed import embed, embed_chunk, spec_of
from mirabelle.spark.planning import plan_tasks
from mirabelle.spark.tasks import on_this_machine, run_tasks
from mirabelle.storage import DiskStore


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


def python_nodes(frame: DataFrame) -> int:
    """Lines of the plan that evaluate Python; what the nodes are called differs between Spark's versions."""
    names = ("EvalPython", "MapInArrow", "MapInPandas")
    return sum(any(name in line for name in names) for line in plan_of(frame).splitlines())


@pytest.fixture
def paths(spark: SparkSession, pictures: Path) -> DataFrame:
    break_some(pictures)
    rows = [(str(path),) for path in sorted(pictures.rglob("*.*"))]
    return spark.createDataFrame(rows, "path string").repartition(3)


def test_the_network_runs_once_an_image_whatever_is_filtered(
    spark: SparkSession, paths: DataFrame, network: Network
) -> None:
    counted = spark.sparkContext.accumulator(0)
    embedded = paths.withColumn("o", embed("path", network, model_rows=counted))
    # A filter on one field and a projection of others: the case that Spark evaluates twice (SPARK-47672).
    good = embedded.where("o.code is null").select("path", "o.features", F.col("o.width_px").alias("w")).where("w > 1")
    assert python_nodes(good) == 1
    rows = good.collect()
    assert len(rows) == 54
    assert counted.value == 54
    for row in rows[::9]:
        np.testing.assert_allclose(row.features, mean_colour(Path(row.path)), rtol=1e-5)


def test_paths_and_bytes_give_the_same(spark: SparkSession, pictures: Path, network: Network) -> None:
    codes = break_some(pictures)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(pictures))
    # Spark's own paths, as they come: file:/...
    plain = files.select("path", "content").repartition(2)
    both = plain.select("path", embed("path", network).alias("a"), embed("content", network).alias("b")).collect()
    # Spark's own reader passes over files of no bytes without a word; our listing does not.
    del codes[str(pictures / "Training/beryl/empty.jpg")]
    assert len(both) == 56
    assert all(row.a == row.b for row in both)
    assert {row.path.removeprefix("file:"): row.a.code for row in both if row.a.code} == codes
    assert {row.a.stage for row in both} == {"decode", None}


def test_a_column_is_made_in_a_thread_of_ones_own(paths: DataFrame, network: Network) -> None:
    """Where no session is active, though there is one."""
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(lambda: paths.select(embed("path", network).alias("o"))).result()
    assert sum(row.o.code is None for row in made.collect()) == 54


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "embed() needs a Spark session; make one first, with SparkSession.builder.getOrCreate()"),
        # As pyspark marks a process that is a client of Spark Connect.
        (
            {"SPARK_CONNECT_MODE_ENABLED": "1"},
            "embed() broadcasts the network, which Spark Connect cannot do; open a session with .master(...), not with"
            " .remote(...)",
        ),
    ],
    ids=["no session", "connect"],
)
def test_without_a_session_that_can_broadcast_it_is_one_sentence(environment: dict[str, str], told: str) -> None:
    code = """
from conftest import mean_colour_network
from mirabelle import embed
from mirabelle.errors import PreflightError
try:
    embed("path", mean_colour_network())
except PreflightError as error:
    print(error)
"""
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=own)
    assert done.stdout.strip() == told


def test_an_empty_frame_is_embedded_to_an_empty_frame(spark: SparkSession, network: Network) -> None:
    assert spark.createDataFrame([], "path string").select(embed("path", network).alias("o")).collect() == []


class Chunk:
    """A chunk of the pictures, ready to run."""

    def __init__(self, spark: SparkSession, pictures: Path, staging: Path, network: Network) -> None:
        self.spark, self.staging, self.spec = spark, str(staging), spec_of(network)
        self.files = spark.sparkContext.broadcast(network.files)
        self.images = list_images(DiskStore(), str(pictures), ["*"], [".*"], scratch=tempfile.mkdtemp()).table
        self.tasks = plan_tasks(self.images["size_bytes"].to_numpy(), 2, 10)
        self.counters = (spark.sparkContext.accumulator(0), spark.sparkContext.accumulator(0))

    def run(self) -> list:
        return embed_chunk(
            self.spark.sparkContext, self.spec, self.files, self.images, self.tasks, self.staging, self.counters
        )


@pytest.fixture
def chunk(spark: SparkSession, pictures: Path, tmp_path: Path, network: Network) -> Chunk:
    break_some(pictures)
    return Chunk(spark, pictures, tmp_path / "staging", network)


def test_a_chunk_counts_every_image_once(chunk: Chunk) -> None:
    reports = chunk.run()
    assert sorted(r.task for r in reports) == list(range(len(chunk.tasks)))
    assert len(reports) > 2
    assert (sum(r.embedded for r in reports), sum(r.rejected for r in reports)) == (54, 3)
    assert sum(r.model_rows for r in reports) == 54
    assert tuple(c.value for c in chunk.counters) == (54, 3)
    rows = pd.read_parquet(Path(chunk.staging) / "features")
    assert rows["path"].nunique() == len(rows) == 54


def test_tasks_are_one_job_of_one_stage_and_each_is_run_once(spark: SparkSession) -> None:
    context = spark.sparkContext
    calls = context.accumulator(0)

    def told(number: int) -> str:
        calls.add(1)
        return f"task {number}"

    context.setJobGroup("numbers", "")
    assert run_tasks(context, 7, told) == [f"task {number}" for number in range(7)]
    assert calls.value == 7
    tracker = context.statusTracker()
    (job,) = tracker.getJobIdsForGroup("numbers")
    # A shuffle would make it two.
    (stage,) = tracker.getJobInfo(job).stageIds
    assert tracker.getStageInfo(stage).numTasks == 7


def look_into_workers(spark: SparkSession) -> dict[int, tuple[int, set[str]]]:
    """For each worker process: how many embedders it has built, and each package and module of ours it has loaded."""

    # Local, so that it is sent by value: a worker that imported this file would import all that this file does.
    def look(_: int) -> str:
        import json
        import os
        import sys
        import time

        from mirabelle.worker.embedder import _EMBEDDERS

        time.sleep(0.3)  # long enough that both workers take a share
        loaded = {name.partition(".")[0] for name in sys.modules} | {n for n in sys.modules if "mirabelle." in n}
        return json.dumps([os.getpid(), max((e.serial for e in _EMBEDDERS.values()), default=0), sorted(loaded)])

    told = [json.loads(text) for text in run_tasks(spark.sparkContext, 4, look)]
    return {pid: (embedder, set(loaded)) for pid, embedder, loaded in told}


def test_a_worker_builds_its_engine_once_and_keeps_it_across_chunks(chunk: Chunk, tmp_path: Path) -> None:
    chunk.run()
    first = look_into_workers(chunk.spark)
    chunk.staging = str(tmp_path / "again")
    chunk.run()
    second = look_into_workers(chunk.spark)
    both = first.keys() & second.keys()
    assert both, "no worker process lived on"
    assert all(first[pid][0] == second[pid][0] for pid in both)


def test_a_worker_imports_neither_keras_nor_anything_that_downloads(chunk: Chunk) -> None:
    chunk.run()
    for _, loaded in look_into_workers(chunk.spark).values():
        driver_only = {"keras", "tensorflow", "pip", "requests", "pydantic", "typer", "sklearn", "altair"}
        driver_only |= {f"mirabelle.network.{name}" for name in ("weights", "backbones", "preparing")}
        driver_only |= {"mirabelle.config", "mirabelle.pipeline", "mirabelle.table"}
        assert loaded & driver_only == set()


def test_a_second_run_in_a_session_starts_nothing_anew(
    pipeline: Callable[..., Job], spark: SparkSession, pictures: Path
) -> None:
    first = pipeline("extract.task_images=5", stages=["extract"]).runlog.manifest
    before = look_into_workers(spark)
    draw(pictures / "Test/amber/new.png", 100)
    second = pipeline("extract.task_images=5", stages=["extract"]).runlog.manifest
    after = look_into_workers(spark)
    assert (first["counts"]["model_rows"], second["counts"]["model_rows"]) == (54, 1)
    assert second["cluster"]["application"] == first["cluster"]["application"]
    assert not {"jvm", "context", "stop"} & second["seconds"].keys()
    # The same processes, and none has opened a network since.
    assert after.keys() == before.keys()
    serials = {pid: serial for pid, (serial, _) in after.items()}
    assert serials == {pid: serial for pid, (serial, _) in before.items()}
    assert max(serials.values()) >= 1


def test_the_weights_lie_in_one_folder_for_all_workers_and_in_none_of_them_as_bytes(chunk: Chunk) -> None:
    context, files, spec = chunk.spark.sparkContext, chunk.files, chunk.spec

    def look(_: int) -> str:
        folder = on_this_machine(files, spec)
        bins = [folder / name for name in sorted(os.listdir(folder))]
        return json.dumps([[(str(path), path.stat().st_ino) for path in bins], "_value" in vars(files)])

    found = {text for number in range(2) for text in run_tasks(context, 4, look)}
    (told,) = [json.loads(text) for text in found]
    assert sorted(Path(path).name for path, _ in told[0]) == sorted(files.value)
    assert told[1] is False
    assert chunk.run()
