"""Stored rows that a classifier was given, read back part by part. [Store; driver only]"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.evaluation.chaining import pair
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
        paths, labels: of each, and of a chain as fine as it is known; None for a picture without a label.
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
    table = job.read_parquet(join(job.folder("pca", facts["pca"]), "reduced"))
    yield from _kept(table, schema.REDUCED, _label_columns(facts, table.column_names), wanted)


def feature_rows(job: Job, facts: dict[str, Any], wanted: Wanted) -> Iterator[Stored]:
    """Features, a part of a file at a time; of several rows of a path the newest."""
    table = FeatureTable(job.store, job.output, Embedding.from_json(facts["embedding"]))
    files = [file for chunk in table.chunks() for file in table.files("features", chunk)]
    newest: dict[str, str] = {}
    for file in files:
        for batch, labels in _batches(job, file, facts):
            told = zip(batch[schema.PATH].to_pylist(), _ends(batch, labels), strict=True)
            newest.update((path, file) for path, label in told if wanted(path, label))
    for file in sorted(set(newest.values())):
        for batch, labels in _batches(job, file, facts, schema.FEATURES):
            yield from _kept(batch, schema.FEATURES, labels, lambda path, _, file=file: newest.get(path) == file)  # type: ignore[misc]


def _batches(job: Job, file: str, facts: dict[str, Any], *more: str) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
    """Paths, labels and further columns of a file, and which of them are the labels."""
    with job.store.open(file) as source, pq.ParquetFile(source, pre_buffer=False) as parquet:
        labels = _label_columns(facts, parquet.schema_arrow.names)
        columns = [schema.PATH, *labels, *more]
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
            yield batch, labels


def _label_columns(facts: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The column of the label, or those of a chain's: what a configuration gives another name is ``label`` here.

    A file that is older than the finer label has the coarse one alone.
    """
    wanted = (facts.get("chain") or {"columns": [schema.LABEL]})["columns"]
    return list(dict.fromkeys(name if name in names else schema.LABEL for name in wanted))


def _ends(rows: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> list[str | None]:
    first, *finer = (rows[name].to_pylist() for name in columns)
    return ends(first, finer[0]) if finer else first


def ends(coarse: Sequence[str | None], fine: Sequence[str | None]) -> list[str | None]:
    """Labels as a chain's ends are called, where the finer one is known."""
    return [one if one is None or finer is None else pair(one, finer) for one, finer in zip(coarse, fine, strict=True)]


def _kept(
    rows: pa.Table | pa.RecordBatch, column: str, label_columns: Sequence[str], wanted: Wanted
) -> Iterator[Stored]:
    paths, labels = rows[schema.PATH].to_pylist(), _ends(rows, label_columns)
    kept = [i for i in range(len(paths)) if wanted(paths[i], labels[i])]
    if kept:
        yield Stored([paths[i] for i in kept], [labels[i] for i in kept], as_matrix(rows[column].take(kept)))
