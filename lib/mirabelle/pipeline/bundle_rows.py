"""Stored rows that a classifier was given, read back part by part. [Store; driver only]"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.network.embedding import Embedding
from mirabelle.pipeline.job import Job
from mirabelle.storage import join
from mirabelle.table.features import FeatureTable
from mirabelle.worker.embedder import as_matrix

ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Stored:
    """Some rows.

    Attributes:
        paths, labels: of each; None for a picture without a label.
        matrix: float32 (n, width).
    """

    paths: list[str]
    labels: list[str | None]
    matrix: npt.NDArray[np.float32]


Wanted = Callable[[str, str | None], bool]


def given_rows(job: Job, facts: dict[str, Any], wanted: Wanted) -> Iterator[Stored]:
    """What a classifier was given: the PCA's rows, or features.

    Args:
        job: of the run.
        facts: of the classifier.
        wanted: of which path and label.
    """
    if not facts["pca"]:
        yield from feature_rows(job, facts, wanted)
        return
    columns = [schema.PATH, schema.LABEL, schema.REDUCED]
    table = job.read_parquet(join(job.folder("pca", facts["pca"]), "reduced"), columns)
    yield from _kept(table, schema.REDUCED, wanted)


def feature_rows(job: Job, facts: dict[str, Any], wanted: Wanted) -> Iterator[Stored]:
    """Features, a part of a file at a time; of several rows of a path the newest."""
    table = FeatureTable(job.store, job.output, Embedding.from_json(facts["embedding"]))
    files = [file for chunk in table.chunks() for file in table.files("features", chunk)]
    newest: dict[str, str] = {}
    for file in files:
        for batch in _batches(job, file, [schema.PATH, schema.LABEL]):
            told = zip(*(batch[name].to_pylist() for name in (schema.PATH, schema.LABEL)), strict=True)
            newest.update((path, file) for path, label in told if wanted(path, label))
    for file in sorted(set(newest.values())):
        for batch in _batches(job, file, [schema.PATH, schema.LABEL, schema.FEATURES]):
            yield from _kept(batch, schema.FEATURES, lambda path, _, file=file: newest.get(path) == file)  # type: ignore[misc]


def _batches(job: Job, file: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with job.store.open(file) as source, pq.ParquetFile(source, pre_buffer=False) as parquet:
        yield from parquet.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False)


def _kept(rows: pa.Table | pa.RecordBatch, column: str, wanted: Wanted) -> Iterator[Stored]:
    paths, labels = rows[schema.PATH].to_pylist(), rows[schema.LABEL].to_pylist()
    kept = [i for i in range(len(paths)) if wanted(paths[i], labels[i])]
    if kept:
        yield Stored([paths[i] for i in kept], [labels[i] for i in kept], as_matrix(rows[column].take(kept)))
