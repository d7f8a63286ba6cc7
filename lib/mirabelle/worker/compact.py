"""What a Spark task of a compaction does: rows of many small files into one large. [Store, through arguments; a scratch
folder]

Executors only, though nothing here knows of Spark: it can be run and tested in any process.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mirabelle import schema
from mirabelle.storage import Store
from mirabelle.worker.embed import parquet_writer

# A row group of the new file; with one of an old file, all that a task holds in memory.
ROW_GROUP_BYTES = 32 * 2**20


@dataclass(frozen=True)
class MergeReport:
    """What a task did.

    Attributes:
        task: its number.
        file: name of the file it staged.
        rows: in that file.
        size_bytes: of it.
    """

    task: int
    file: str
    rows: int
    size_bytes: int

    def to_json(self) -> str:
        """As one line, to travel back to the driver."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> MergeReport:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


def plan_file(staging: str, task: int) -> str:
    """Where a task finds its ``_file`` and ``path`` of each row to keep."""
    return f"{staging}/plan/task-{task:05d}.parquet"


def run_merge(store: Store, staging: str, task: int, columns: pa.Schema, attempt: str) -> MergeReport:
    """Read the rows that a task's plan names, and stage them as one file.

    Args:
        store: where the output is.
        staging: folder of the chunk; the file goes into ``features/`` below it.
        task: its number, which ``plan_file`` is named by.
        columns: of the new file, with its metadata; label columns that an old file lacks become nulls.
        attempt: makes the names of a task's several attempts differ.
    """
    with store.open(plan_file(staging, task)) as source:
        plan = pq.ParquetFile(source).read()
    name = f"part-{task:05d}-{attempt}.parquet"
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        local = os.path.join(folder, name)
        with open(local, "wb") as sink, parquet_writer(sink, columns) as writer:
            rows = sum(_write(writer, part) for part in _row_groups(_kept(store, plan, columns)))
        size_bytes = os.path.getsize(local)
        store.upload(local, f"{staging}/features/{name}")
    return MergeReport(task, name, rows, size_bytes)


def _kept(store: Store, plan: pa.Table, columns: pa.Schema) -> Iterator[pa.Table]:
    """The rows to keep of each old row group, bit for bit."""
    for file in sorted(pc.unique(plan[schema.FILE]).to_pylist()):
        paths = plan.filter(pc.equal(plan[schema.FILE], file))[schema.PATH].combine_chunks()
        with store.open(file) as source:
            parquet = pq.ParquetFile(source)
            there = [name for name in columns.names if name in parquet.schema_arrow.names]
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, there)
                rows = rows.filter(pc.is_in(rows[schema.PATH], paths))
                if len(rows):
                    made = [
                        rows[f.name].cast(f.type) if f.name in there else pa.nulls(len(rows), f.type) for f in columns
                    ]
                    yield pa.Table.from_arrays(made, schema=columns)


def _row_groups(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(table.nbytes for table in waiting) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write(writer: pq.ParquetWriter, rows: pa.Table) -> int:
    writer.write_table(rows)
    return len(rows)
