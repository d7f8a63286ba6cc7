"""The merging of feature files on the executors. [Spark]

The function that ``make_run_merge`` returns runs on executors.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from mirabelle.spark.tasks import run_tasks
from mirabelle.storage import S3Options, open_store
from mirabelle.worker.compact import MergeReport, run_merge

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Accumulator, SparkContext


def merge_files(
    context: SparkContext, tasks: int, staging: str, columns: pa.Schema, s3: S3Options, counter: Accumulator[int]
) -> list[MergeReport]:
    """Run a compaction's tasks, whose plans are staged; returns one report a task, in their order.

    Args:
        tasks: how many.
        staging: the chunk's staging folder.
        columns: of the new files, with their metadata.
        s3: how buckets are reached.
        counter: of rows, for progress.
    """
    told = run_tasks(context, tasks, make_run_merge(staging, columns, s3, counter))
    return [MergeReport.from_json(report) for report in told]


def make_run_merge(staging: str, columns: pa.Schema, s3: S3Options, counter: Accumulator[int]) -> Callable[[int], str]:
    """The function that executors run: a task's number in, its report out."""

    def run(task: int) -> str:
        report = run_merge(open_store(staging, s3), staging, task, columns, uuid.uuid4().hex[:8])
        counter.add(report.rows)
        return report.to_json()

    return run
