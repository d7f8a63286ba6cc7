"""Sums over the feature table: tasks that read the files themselves, and the merging of what they leave. [Spark]

The functions that ``make_run`` is given run on executors; the rest on the driver. Only file names and lines of report
pass through the JVM: neither features nor matrices do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from mirabelle.reduction import Moments, Projection, Sketch, fit_sketch, next_basis
from mirabelle.spark.embed import plan_chunk
from mirabelle.storage import S3Options, Store, join, open_store
from mirabelle.storage.opening import AS_AWS_SAYS
from mirabelle.worker.reduce import (
    FilePart,
    Reading,
    SumReport,
    merge_files,
    merge_moments,
    merge_sketches,
    project_rows,
    sum_moments,
    sum_sketch,
    write_basis,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

    from mirabelle.spark.embed import ArrowFunction

Work = TypeVar("Work")
Tasks = Sequence[Sequence[FilePart]]

# Sums that one task, or the driver at the end, merges: each is read while one matrix is held.
FAN_IN = 8
# Of a sketch: the driver holds up to eight matrices of that size at once.
BASIS_BYTES = 2**29
FIRST_COLUMNS = 256
SPARE_COLUMNS = 32
MOST_PASSES = 16
# A share of variance that moves less from one pass to the next is taken for settled.
SETTLED = 1e-4


@dataclass(frozen=True)
class Approximation:
    """A projection from sketches, and how many times the rows were read for it."""

    projection: Projection
    passes: int


def gather_moments(spark: SparkSession, tasks: Tasks, reading: Reading, s3: S3Options = AS_AWS_SAYS) -> Moments | None:
    """Mean and scatter of the features; None: there are no rows.

    Args:
        spark: the session.
        tasks: what each reads; each holds one matrix in memory.
        reading: how. What tasks leave in its staging folder is for the caller to remove.
        s3: how buckets are reached.
    """
    done = _run(spark, tasks, lambda store, parts, name: sum_moments(store, reading, parts, name), reading.staging, s3)
    left = _merge_down(spark, done, None, reading.staging, s3)
    return merge_moments(open_store(reading.staging, s3), reading.staging, left) if left else None


def gather_sketch(
    spark: SparkSession, tasks: Tasks, reading: Reading, basis: npt.NDArray[np.float64], s3: S3Options = AS_AWS_SAYS
) -> Sketch:
    """Mean, total variance and the scatter matrix's product with ``basis``; otherwise as ``gather_moments``."""
    store, file = open_store(reading.staging, s3), join(reading.staging, f"basis-{uuid.uuid4().hex[:8]}.npy")
    write_basis(store, file, basis)
    done = _run(
        spark, tasks, lambda store, parts, name: sum_sketch(store, reading, file, parts, name), reading.staging, s3
    )
    left = _merge_down(spark, done, file, reading.staging, s3)
    return merge_sketches(store, reading.staging, file, left)


def approximate(
    spark: SparkSession,
    tasks: Tasks,
    reading: Reading,
    rows: int,
    variance: float,
    components: int | None,
    s3: S3Options = AS_AWS_SAYS,
) -> Approximation:
    """The leading components by sketches that grow until they hold what is asked for, and then settle.

    Args:
        rows: there are at most.
        variance, components: as in ``reduction.fit``; where the widest sketch does not reach the variance, all its
            components are kept.

    Raises:
        TrainingError: as ``reduction.fit`` says.
    """
    most = max(1, min(reading.width, rows - 1, BASIS_BYTES // (8 * reading.width)))
    columns = min(most, components + SPARE_COLUMNS if components else FIRST_COLUMNS)
    product: npt.NDArray[np.float64] | None = None
    before: Projection | None = None
    for number in range(MOST_PASSES):
        basis = next_basis(product, reading.width, columns, seed=number)
        sketch = gather_sketch(spark, tasks, reading, basis, s3)
        now, product = fit_sketch(sketch, basis, variance, components), sketch.product
        kept = len(now.components)
        share = float(now.explained_variance_ratio[:kept].sum())
        # The last columns of a basis are poor, so some are to be left over.
        is_enough = columns == most or kept <= columns - SPARE_COLUMNS
        if before is not None:
            if is_enough and share - float(before.explained_variance_ratio[:kept].sum()) <= SETTLED:
                break
            if not is_enough:
                columns = min(most, 2 * columns)
        before = now
    return Approximation(now, number + 1)


def project(
    spark: SparkSession, tasks: Tasks, reading: Reading, model: str, columns: pa.Schema, s3: S3Options = AS_AWS_SAYS
) -> list[SumReport]:
    """Stage the reduced rows as Parquet files in ``reduced/`` of the staging folder; arguments as ``project_rows``."""
    return _run(
        spark,
        tasks,
        lambda store, parts, name: project_rows(store, reading, model, columns, parts, name),
        reading.staging,
        s3,
    )


def _merge_down(
    spark: SparkSession, done: Sequence[SumReport], basis: str | None, staging: str, s3: S3Options
) -> list[str]:
    """Merge on the executors, round by round, until the driver has few enough files to read."""
    names = sorted(report.file for report in done if report.file)
    while len(names) > FAN_IN:
        groups = [names[start : start + FAN_IN] for start in range(0, len(names), FAN_IN)]
        merged = _run(
            spark, groups, lambda store, files, name: merge_files(store, staging, basis, files, name), staging, s3
        )
        names = sorted(report.file for report in merged)
    return names


def _run(
    spark: SparkSession,
    works: Sequence[Work],
    function: Callable[[Store, Work, str], SumReport],
    staging: str,
    s3: S3Options,
) -> list[SumReport]:
    """A task for each of ``works``; their reports, in no order."""
    if not works:
        return []
    told = spark.sparkContext.broadcast(list(works))
    try:
        plan = plan_chunk(spark, len(works), make_run(told, function, staging, s3))
        return [SumReport.from_json(row.report) for row in plan.collect()]
    finally:
        told.destroy()


def make_run(
    works: Broadcast[list[Work]], function: Callable[[Store, Work, str], SumReport], staging: str, s3: S3Options
) -> ArrowFunction:
    """The function that executors run: task numbers in, one report a task out."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            for task in batch.column(0).to_pylist():
                # The name tells a task's attempts apart.
                name = f"{task:05d}-{uuid.uuid4().hex[:8]}"
                report = function(open_store(staging, s3), works.value[task], name)
                yield pa.RecordBatch.from_pydict({"report": [report.to_json()]})

    return run
