"""What a Spark task does with its share of a chunk: rows in, Parquet files staged. [Store, through arguments]

Executors only, though nothing here knows of Spark: it can be run and tested in any process.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.errors import ImageError
from mirabelle.storage import Store
from mirabelle.worker.embedder import Embedder, Outcome, Tally, as_matrix
from mirabelle.worker.fetching import ImageSource


@dataclass(frozen=True)
class TaskReport:
    """What a task did: the files it staged, and its share of the counts and times.

    Attributes:
        task: its number in the chunk.
        features_file, rejects_file: names below the chunk's staging folder, empty where there were no such rows.
        embedded, rejected: rows in them.
        reused: of both, rows that another row's features or reason were taken for, their content being the same.
        model_rows: pictures the network was run on.
        codes: rejects by code.
        seconds, decode_core_seconds: as in ``Tally``.
    """

    task: int
    features_file: str
    rejects_file: str
    embedded: int
    rejected: int
    reused: int
    model_rows: int
    codes: dict[str, int]
    seconds: dict[str, float]
    decode_core_seconds: float

    def to_json(self) -> str:
        """As one line, to travel back to the driver."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> TaskReport:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


def run_task(embedder: Embedder, images: pa.Table, store: Store, staging: str, task: int, attempt: str) -> TaskReport:
    """Embed a task's images and stage its rows as Parquet.

    Args:
        embedder: this process's.
        images: the task's part of the work, ``schema.listing_schema`` and, where there are any, the columns of
            ``schema.REUSE_COLUMNS``.
        store: where ``staging`` is.
        staging: folder of the chunk; files go into ``features/`` and ``rejects/`` below it.
        task: number in the chunk.
        attempt: makes the names of a task's several attempts differ.
    """
    tally = Tally()
    outcomes, reused = _outcomes(embedder, images, store, tally)
    images = images.drop_columns([name for name in images.column_names if name in schema.REUSE_COLUMNS])
    good = [i for i, outcome in enumerate(outcomes) if outcome.error is None]
    bad = [i for i, outcome in enumerate(outcomes) if outcome.error is not None]
    lineage = embedder.spec.embedding.to_json()
    name = f"part-{task:05d}-{attempt}.parquet"
    with tally.time(schema.WRITING):
        if good:
            table = features_table(images.take(good), [outcomes[i] for i in good], lineage)
            store.write(f"{staging}/features/{name}", parquet_bytes(table))
        if bad:
            table = rejects_table(images.take(bad), [outcomes[i] for i in bad], lineage)
            store.write(f"{staging}/rejects/{name}", parquet_bytes(table))
    return TaskReport(
        task,
        name if good else "",
        name if bad else "",
        len(good),
        len(bad),
        reused,
        tally.model_rows,
        Counter(str(outcomes[i].error.code) for i in bad),  # type: ignore[union-attr]
        tally.seconds,
        tally.decode_core_seconds,
    )


def _outcomes(embedder: Embedder, images: pa.Table, store: Store, tally: Tally) -> tuple[list[Outcome], int]:
    """An outcome for each row, and how many of them were had without the network: carried over, or a twin's."""
    known: dict[int, Outcome] = {}
    twins: list[bool] = [False] * len(images)
    if schema.TWIN in images.column_names:
        twins = images[schema.TWIN].to_pylist()
        with tally.time(schema.STORE):
            known = _carried(images, store)
    own = [i for i, twin in enumerate(twins) if not twin and i not in known]
    columns = [images[name].to_pylist() for name in (schema.PATH, schema.SIZE_BYTES, schema.ETAG)]
    sources = (ImageSource(columns[0][i], columns[1][i], columns[2][i]) for i in own)
    made = dict(zip(own, embedder.embed(sources, tally), strict=True))
    outcomes: list[Outcome] = []
    for i in range(len(images)):
        # A twin comes right after the picture that it is the same as, or after another twin of it.
        outcomes.append(known[i] if i in known else outcomes[-1] if twins[i] else made[i])
    return outcomes, len(outcomes) - len(made)


def _carried(images: pa.Table, store: Store) -> dict[int, Outcome]:
    """Features that the table has already for a row's content, by the row's position; of those that can be read."""
    files, paths = images[schema.CARRY_FILE].to_pylist(), images[schema.CARRY_PATH].to_pylist()
    wanted: dict[str, list[int]] = {}
    for i, file in enumerate(files):
        if file is not None:
            wanted.setdefault(file, []).append(i)
    found: dict[int, Outcome] = {}
    for file, positions in wanted.items():
        try:
            with store.open(file) as source:
                rows = pq.ParquetFile(source).read([schema.PATH, schema.WIDTH_PX, schema.HEIGHT_PX, schema.FEATURES])
        except ImageError:
            # Embedding them again does as well.
            continue
        row_of = {path: i for i, path in enumerate(rows[schema.PATH].to_pylist())}
        matrix = as_matrix(rows[schema.FEATURES])
        widths, heights = rows[schema.WIDTH_PX].to_pylist(), rows[schema.HEIGHT_PX].to_pylist()
        for i in positions:
            row = row_of.get(paths[i])
            if row is not None:
                found[i] = Outcome(matrix[row], widths[row], heights[row])
    return found


def features_table(images: pa.Table, outcomes: list[Outcome], lineage: dict[str, object]) -> pa.Table:
    """Rows of the feature table, in ``schema.features_schema``; all of ``outcomes`` have features."""
    extra = images.column_names[len(schema.listing_schema()) :]
    values = np.stack([outcome.features for outcome in outcomes])  # type: ignore[misc]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    made = {
        schema.WIDTH_PX: pa.array([o.width_px for o in outcomes], pa.int32()),
        schema.HEIGHT_PX: pa.array([o.height_px for o in outcomes], pa.int32()),
    }
    target = schema.features_schema(extra, lineage)
    made[schema.FEATURES] = pa.ListArray.from_arrays(
        offsets, values.reshape(-1), type=target.field(schema.FEATURES).type
    )
    return pa.Table.from_arrays([made[f.name] if f.name in made else images[f.name] for f in target], schema=target)


def rejects_table(images: pa.Table, outcomes: list[Outcome], lineage: dict[str, object]) -> pa.Table:
    """Rows of the rejects table, in ``schema.rejects_schema``; all of ``outcomes`` have errors."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    made = {
        schema.STAGE: pa.array([str(error.stage) for error in errors]),
        schema.CODE: pa.array([str(error.code) for error in errors]),
        schema.DETAIL: pa.array([error.detail for error in errors]),
    }
    target = schema.rejects_schema(lineage)
    return pa.Table.from_arrays([made[f.name] if f.name in made else images[f.name] for f in target], schema=target)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file that any reader opens: zstd, no dictionary for floats (each value is its own)."""
    sink = io.BytesIO()
    with parquet_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_writer(sink: BinaryIO, columns: pa.Schema) -> pq.ParquetWriter:
    """A writer of such files; each ``write_table`` makes a row group."""
    strings = [f.name for f in columns if pa.types.is_string(f.type)]
    return pq.ParquetWriter(sink, columns, compression="zstd", use_dictionary=strings, coerce_timestamps="us")
