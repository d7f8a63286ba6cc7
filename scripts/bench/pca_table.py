"""What both of the PCA's benchmarks fit: a made-up feature table, in a warm session, from its files to a model.

float32, non-negative, of a variance that falls off as a network's does, written and committed as a run writes it.
Writes below the folder that it is given alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import machine
import table
from targets import reduction

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mirabelle.table.features import FeatureTable

FILE_BYTES = 20 * 2**20
VARIANCE = 0.8


def made_up(rows: int, columns: int, seed: int) -> npt.NDArray[np.float32]:
    """Features like a network's after its last activation: sparse, non-negative, variance falling off as a power."""
    random = np.random.default_rng(0)
    rank = min(600, columns)
    directions = random.standard_normal((rank, columns), dtype=np.float32)
    strengths = np.arange(1, rank + 1, dtype=np.float32) ** -0.6
    own = np.random.default_rng(seed + 1)
    latent = own.standard_normal((rows, rank), dtype=np.float32) * strengths
    noise = 0.1 * own.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(np.maximum(latent @ directions / 3 + noise + 0.2, 0.0), dtype=np.float32)


def write_table(output: str, rows: int, columns: int) -> FeatureTable:
    """Commit a feature table of made-up rows, in files such as a task of an extract leaves."""
    import pyarrow as pa

    from mirabelle import schema
    from mirabelle.network.embedding import Embedding
    from mirabelle.storage import DiskStore
    from mirabelle.table.chunks import Chunk
    from mirabelle.table.features import FeatureTable
    from mirabelle.worker.embed import parquet_bytes

    store = DiskStore()
    about = Embedding("resnet50", "random:0", "0" * 64, 224, "made-up", "avg", "v1", "float32", columns)
    found = FeatureTable(store, output, about)
    target = schema.features_schema([], about.to_json())
    names: list[str] = []
    a_file = max(1, FILE_BYTES // (4 * columns))
    for start in range(0, rows, a_file):
        values = made_up(min(a_file, rows - start), columns, start)
        offsets = np.arange(len(values) + 1, dtype=np.int32) * columns
        made = {
            schema.PATH: pa.array([f"{start + i:08d}.jpg" for i in range(len(values))]),
            schema.ETAG: pa.array(["e"] * len(values)),
            schema.FEATURES: pa.ListArray.from_arrays(
                offsets, values.reshape(-1), type=target.field(schema.FEATURES).type
            ),
        }
        arrays = [made[f.name] if f.name in made else pa.nulls(len(values), f.type) for f in target]
        names.append(f"part-{len(names):05d}.parquet")
        store.write(
            f"{found.staging_folder('r', 0)}/features/{names[-1]}",
            parquet_bytes(pa.Table.from_arrays(arrays, schema=target)),
        )
    marker = Chunk("r", 0, rows, 0, 0, rows, 0, (), about.folder, about.fingerprint, {}, tuple(names), ())
    found.commit_staged(marker)
    return found


@contextmanager
def session() -> Iterator[SparkSession]:
    """A warm session, set up as a job's is: its workers have been started and have imported what they need."""
    from mirabelle.spark.session import open_context, session_on

    settings = {"spark.master": f"local[{os.cpu_count()}]", "spark.ui.enabled": "false"}
    with open_context(settings) as context, tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as folder:
        spark = session_on(context)
        found = write_table(folder, 64, 16)
        fit_ours(spark, found)
        yield spark


def fit_ours(spark: SparkSession, found: FeatureTable) -> Any:
    """The whole fit, from a committed table to a Spark ML model; returns our projection, or an approximation."""
    from mirabelle.pipeline.reduce import WIDEST_EXACT
    from mirabelle.reduction import fit
    from mirabelle.spark.cluster import slots
    from mirabelle.spark.pca_model import to_pipeline
    from mirabelle.spark.reduce import approximate, gather_moments
    from mirabelle.storage import DiskStore
    from mirabelle.table.selection import select_rows
    from mirabelle.worker.reduce import Reading

    width = found.embedding.width
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as scratch:
        chosen = select_rows(DiskStore(), found, None, scratch)
        reading = Reading(width, f"{scratch}/staging", chosen.stale, None)
        tasks = chosen.tasks(chosen.files, slots(spark.sparkContext))
        if width > WIDEST_EXACT:
            rows = sum(file.kept for file in chosen.files)
            return approximate(spark.sparkContext, tasks, reading, rows, VARIANCE, None)
        moments = gather_moments(spark.sparkContext, tasks, reading)
        assert moments is not None
        projection = fit(moments, VARIANCE)
        to_pipeline(projection)
        return projection


def page(told: dict[str, Any]) -> str:
    """What one of the benchmarks found, for the terminal."""
    results = {"machine": machine.facts(), "parts": {"pca": told}}
    return "\n\n".join((table.facts(results), "\n".join(table.pca(results)).strip(), table.judged(reduction(results))))
