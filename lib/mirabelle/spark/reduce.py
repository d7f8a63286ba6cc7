"""Sums over the feature table: tasks that read the files themselves, and the merging of what they leave. [Spark]

The functions that ``make_run`` is given run on executors; the rest on the driver. Only file names and lines of report
pass through the JVM: neither features nor matrices do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from mirabelle.reduction import Moments, Projection, Sketch, fit_sketch, next_basis
from mirabelle.spark.tasks import run_tasks
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
    from pyspark import Broadcast, SparkContext

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


def gather_moments(
    context: SparkContext, tasks: Tasks, reading: Reading, s3: S3Options = AS_AWS_SAYS
) -> Moments | None:
    """Mean and scatter of the features; None: there are no rows.

    Args:
        context: Spark's.
        tasks: what each reads; each holds one matrix in memory.
        reading: how. What tasks leave in its staging folder is for the caller to remove.
        s3: how buckets are reached.
    """
    done = _run(
        context, tasks, lambda store, parts, name: sum_moments(store, reading, parts, name), reading.staging, s3
    )
    left = _merge_down(context, done, None, reading.staging, s3)
    return merge_moments(open_store(reading.staging, s3), reading.staging, left) if left else None


def gather_sketch(
    context: SparkContext, tasks: Tasks, reading: Reading, basis: npt.NDArray[np.float64], s3: S3Options = AS_AWS_SAYS
) -> Sketch:
    """Mean, total variance and the scatter matrix's product with ``basis``; otherwise as ``gather_moments``."""
    store, file = open_store(reading.staging, s3), join(reading.staging, f"basis-{uuid.uuid4().hex[:8]}.npy")
    write_basis(store, file, basis)
    done = _run(
        context, tasks, lambda store, parts, name: sum_sketch(store, reading, file, parts, name), reading.staging, s3
    )
    left = _merge_down(context, done, file, reading.staging, s3)
    return merge_sketches(store, reading.staging, file, left)


def approximate(
    context: SparkContext,
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
        sketch = gather_sketch(context, tasks, reading, basis, s3)
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
    context: SparkContext, tasks: Tasks, reading: Reading, model: str, columns: pa.Schema, s3: S3Options = AS_AWS_SAYS
) -> list[SumReport]:
    """Stage the reduced rows as Parquet files in ``reduced/`` of the staging folder; arguments as ``project_rows``."""
    return _run(
        context,
        tasks,
        lambda store, parts, name: project_rows(store, reading, model, columns, parts, name),
        reading.staging,
        s3,
    )


def _merge_down(
    context: SparkContext, done: Sequence[SumReport], basis: str | None, staging: str, s3: S3Options
) -> list[str]:
    """Merge on the executors, round by round, until the driver has few enough files to read."""
    names = sorted(report.file for report in done if report.file)
    while len(names) > FAN_IN:
        groups = [names[start : start + FAN_IN] for start in range(0, len(names), FAN_IN)]
        merged = _run(
            context, groups, lambda store, files, name: merge_files(store, staging, basis, files, name), staging, s3
        )
        names = sorted(report.file for report in merged)
    return names


def _run(
    context: SparkContext,
    works: Sequence[Work],
    function: Callable[[Store, Work, str], SumReport],
    staging: str,
    s3: S3Options,
) -> list[SumReport]:
    """A task for each of ``works``; their reports, in order."""
    if not works:
        return []
    told = context.broadcast(list(works))
    try:
        reports = run_tasks(context, len(works), make_run(told, function, staging, s3))
        return [SumReport.from_json(report) for report in reports]
    finally:
        told.destroy()


def make_run(
    works: Broadcast[list[Work]], function: Callable[[Store, Work, str], SumReport], staging: str, s3: S3Options
) -> Callable[[int], str]:
    """The function that executors run: a task's number in, its report out."""

    def run(task: int) -> str:
        # The name tells a task's attempts apart.
        name = f"{task:05d}-{uuid.uuid4().hex[:8]}"
        return function(open_store(staging, s3), works.value[task], name).to_json()

    return run
