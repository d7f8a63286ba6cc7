"""The merging of feature files on the executors. [Spark]

The function that ``make_run_merge`` returns runs on executors.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mirabelle.spark.embed import plan_chunk
from mirabelle.storage import S3Options, open_store
from mirabelle.worker.compact import MergeReport, run_merge

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Accumulator
    from pyspark.sql import SparkSession

    from mirabelle.spark.embed import ArrowFunction


def merge_files(
    spark: SparkSession, tasks: int, staging: str, columns: pa.Schema, s3: S3Options, counter: Accumulator[int]
) -> list[MergeReport]:
    """Run a compaction's tasks, whose plans are staged; returns one report a task, in their order.

    Args:
        tasks: how many.
        staging: the chunk's staging folder.
        columns: of the new files, with their metadata.
        s3: how buckets are reached.
        counter: of rows, for progress.
    """
    plan = plan_chunk(spark, tasks, make_run_merge(staging, columns, s3, counter))
    reports = [MergeReport.from_json(row.report) for row in plan.collect()]
    return sorted(reports, key=lambda report: report.task)


def make_run_merge(staging: str, columns: pa.Schema, s3: S3Options, counter: Accumulator[int]) -> ArrowFunction:
    """The function that executors run: task numbers in, one report a task out."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            for task in batch.column(0).to_pylist():
                report = run_merge(open_store(staging, s3), staging, task, columns, uuid.uuid4().hex[:8])
                counter.add(report.rows)
                yield pa.RecordBatch.from_pydict({"report": [report.to_json()]})

    return run
