"""What a Spark task of a PCA does: feature files in, sums or reduced rows out. [Store, through arguments; a scratch
folder]

Executors only, though nothing here knows of Spark: it can be run and tested in any process.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import TrainingError
from mirabelle.reduction import Moments, MomentsSum, Projection, Sketch, SketchSum, block_rows
from mirabelle.storage import Store
from mirabelle.worker.embed import parquet_writer
from mirabelle.worker.embedder import as_matrix

MAX_SUM_BYTES = 2**34


@dataclass(frozen=True)
class FilePart:
    """Every ``parts``-th row group of a file of features, from the one numbered ``part``.

    Attributes:
        file: whole path.
        part, parts: which.
        has_stale: whether some of the file's rows are to be passed over.
    """

    file: str
    part: int
    parts: int
    has_stale: bool


@dataclass(frozen=True)
class Reading:
    """How all tasks read.

    Attributes:
        width: entries of every row's features.
        staging: folder for what tasks leave one another.
        stale: Parquet file of ``_file`` and ``path`` of rows to pass over; empty: none.
        split: only rows of this split; None: all.
    """

    width: int
    staging: str
    stale: str
    split: str | None


@dataclass(frozen=True)
class SumReport:
    """What a task that sums did: the file it left, empty if it met no row, and the rows in it."""

    file: str
    rows: int

    def to_json(self) -> str:
        """As one line, to travel back to the driver."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> SumReport:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


def read_parts(
    store: Store, reading: Reading, parts: Sequence[FilePart], columns: Sequence[str] = ()
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.float32]]]:
    """The rows that count, as batches of ``columns`` (those that the file has) and their features, float32 (n, width).

    Raises:
        TrainingError: features of another width.
    """
    stale = _stale(store, reading.stale, [part.file for part in parts if part.has_stale])
    for part in parts:
        passed = stale.get(part.file)
        needed = {*columns, *([schema.PATH] if passed else []), *([schema.SPLIT] if reading.split else [])}
        with store.open(part.file) as source:
            parquet = pq.ParquetFile(source)
            there = [name for name in parquet.schema_arrow.names if name in needed or name == schema.FEATURES]
            groups = list(range(part.part, parquet.num_row_groups, part.parts))
            if not groups:
                continue
            for batch in parquet.iter_batches(block_rows(reading.width), groups, there, use_threads=False):
                kept = _kept(batch, passed, reading.split)
                if not len(kept):
                    continue
                features = as_matrix(kept[schema.FEATURES])
                if features.shape[1] != reading.width:
                    raise TrainingError(f"{part.file}: {features.shape[1]} features a row, and not {reading.width}")
                yield kept, features


def _stale(store: Store, stale: str, files: list[str]) -> dict[str, pa.Array]:
    if not files or not stale:
        return {}
    with store.open(stale) as source:
        rows = pq.read_table(source, filters=[(schema.FILE, "in", files)])  # noqa: TID251  # the store's own file
    return {
        file: rows.filter(pc.equal(rows[schema.FILE], file))[schema.PATH].combine_chunks()
        for file in pc.unique(rows[schema.FILE]).to_pylist()
    }


def _kept(batch: pa.RecordBatch, passed: pa.Array | None, split: str | None) -> pa.RecordBatch:
    if passed is not None:
        batch = batch.filter(pc.invert(pc.is_in(batch[schema.PATH], passed)))
    if split is not None:
        # Where there is no split, the answer is null, and the row is left out.
        batch = batch.filter(pc.equal(batch[schema.SPLIT], split))
    return batch


def sum_moments(store: Store, reading: Reading, parts: Sequence[FilePart], attempt: str) -> SumReport:
    """Moments of a task's rows, left in the staging folder."""
    total = MomentsSum(reading.width)
    for _, features in read_parts(store, reading, parts):
        total.add(features)
    return _leave(store, reading.staging, total.result(), attempt)


def sum_sketch(store: Store, reading: Reading, basis: str, parts: Sequence[FilePart], attempt: str) -> SumReport:
    """Sketch of a task's rows, left in the staging folder.

    Args:
        basis: the file of it.
    """
    total = SketchSum(read_basis(store, basis))
    for _, features in read_parts(store, reading, parts):
        total.add(features)
    return _leave(store, reading.staging, total.result(), attempt)


def merge_moments(store: Store, staging: str, files: Sequence[str]) -> Moments:
    """Moments that tasks left, merged; one or more. In memory are one matrix and that of one file."""
    total: MomentsSum | None = None
    for file in files:
        part = Moments.from_bytes(store.read(f"{staging}/{file}", MAX_SUM_BYTES))
        if total is None:
            total = MomentsSum.continuing(part)
        else:
            total.merge(part)
    assert total is not None
    return total.result()


def merge_sketches(store: Store, staging: str, basis: str, files: Sequence[str]) -> Sketch:
    """Sketches of one basis that tasks left, merged; one or more."""
    total = SketchSum(read_basis(store, basis))
    for file in files:
        total.merge(Sketch.from_bytes(store.read(f"{staging}/{file}", MAX_SUM_BYTES)))
    return total.result()


def merge_files(store: Store, staging: str, basis: str | None, files: Sequence[str], attempt: str) -> SumReport:
    """Merge files that tasks left into one more."""
    merged = merge_sketches(store, staging, basis, files) if basis else merge_moments(store, staging, files)
    return _leave(store, staging, merged, attempt)


def read_basis(store: Store, file: str) -> npt.NDArray[np.float64]:
    """A basis that ``write_basis`` put away."""
    return np.asarray(np.load(io.BytesIO(store.read(file, MAX_SUM_BYTES)), allow_pickle=False))


def write_basis(store: Store, file: str, basis: npt.NDArray[np.float64]) -> None:
    """Put a basis where tasks find it."""
    sink = io.BytesIO()
    np.save(sink, basis)
    store.write(file, sink.getvalue())


def project_rows(
    store: Store, reading: Reading, model: str, columns: pa.Schema, parts: Sequence[FilePart], attempt: str
) -> SumReport:
    """Reduce a task's rows, and stage them as one Parquet file in ``reduced/``.

    Args:
        model: the file of the projection.
        columns: of the new file, ``schema.REDUCED`` the last of them; null where an old file lacks one.
    """
    projection = Projection.from_bytes(store.read(model, MAX_SUM_BYTES))
    kept, rows, name = columns.names[:-1], 0, f"part-{attempt}.parquet"
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        local = os.path.join(folder, name)
        with open(local, "wb") as sink, parquet_writer(sink, columns) as writer:
            for batch, features in read_parts(store, reading, parts, kept):
                writer.write_table(_reduced(batch, projection.apply(features), columns))
                rows += len(batch)
        if rows:
            store.upload(local, f"{reading.staging}/reduced/{name}")
    return SumReport(name if rows else "", rows)


def _reduced(batch: pa.RecordBatch, values: npt.NDArray[np.float32], columns: pa.Schema) -> pa.Table:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    made = [
        batch[f.name].cast(f.type) if f.name in batch.schema.names else pa.nulls(len(batch), f.type)
        for f in list(columns)[:-1]
    ]
    made.append(pa.ListArray.from_arrays(offsets, values.reshape(-1), type=columns[-1].type))
    return pa.Table.from_arrays(made, schema=columns)


def _leave(store: Store, staging: str, total: Moments | Sketch, attempt: str) -> SumReport:
    name = f"sum-{attempt}.npz"
    if total.count:
        store.write(f"{staging}/{name}", total.to_bytes())
    return SumReport(name if total.count else "", total.count)
