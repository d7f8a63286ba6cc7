"""Looking at pictures on the executors: each task writes what it saw to a file of its own. [Spark]"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mirabelle.worker.delays import spare_next_task, spare_this_task
from mirabelle.worker.fetching import ImageSource
from mirabelle.worker.look import LookSpec, run_task

if TYPE_CHECKING:
    from pyspark import SparkContext

TASK_IMAGES = 500


def look(
    context: SparkContext, batches: Iterable[list[ImageSource]], spec: LookSpec, done: Callable[[int], None]
) -> None:
    """Look at pictures, some batches at a time.

    Args:
        context: Spark's.
        batches: images, in batches that the driver can hold.
        spec: for the tasks.
        done: told how many more are done.
    """
    first = 0
    for batch in batches:
        tasks = max(1, -(-len(batch) // TASK_IMAGES))
        rows = context.parallelize(batch, tasks).mapPartitionsWithIndex(_task(spec, first))
        done(sum(rows.collect()))
        first += tasks


def _task(spec: LookSpec, first: int) -> Callable[[int, Iterable[ImageSource]], Iterable[int]]:
    def task(number: int, sources: Iterable[ImageSource]) -> Iterable[int]:
        spare_this_task()
        yield run_task(first + number, sources, spec)
        spare_next_task()

    return task
