"""A task for each number, by way of Spark's core alone, and the network where the tasks run. [Spark]

The driver asks; the function that it gives, and all else here, run on executors, which import no more for it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mirabelle.network.gpu import take_gpu
from mirabelle.worker.delays import spare_next_task, spare_this_task

if TYPE_CHECKING:
    from pyspark import Broadcast, SparkContext

    from mirabelle.network.engines import Files
    from mirabelle.worker.embedder import Embedder, EmbedderSpec


def run_tasks(context: SparkContext, tasks: int, function: Callable[[int], str]) -> list[str]:
    """What ``function`` says of each number from 0 on, a task each, in order.

    Of one evaluation and no shuffle; neither image bytes nor features pass through the JVM, only a line a task. There
    is no DataFrame, as a session, its planner and its code generator are 2 of the JVM's 4 core-seconds, and would only
    hand on numbers. Worker processes are spared PySpark's delays.
    """

    def run(numbers: Iterable[int]) -> Iterator[str]:
        spare_this_task()
        for number in numbers:
            yield function(number)
        spare_next_task()

    return context.parallelize(range(tasks), tasks).mapPartitions(run).collect()


def own_embedder(files: Broadcast[Files], spec: EmbedderSpec) -> Embedder:
    """This process's embedder for ``spec``, on the GPU that Spark gave the task, if it is Keras's and there is one."""
    from mirabelle.worker.embedder import embedder_for

    if spec.engine == "keras":
        take_own_gpu()
    return embedder_for(spec, lambda: on_this_machine(files, spec))


def take_own_gpu() -> bool:
    """Have this process see the GPU that Spark gave the task, and no other; whether it gave one.

    Raises:
        PreflightError: as ``take_gpu``.
    """
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get("gpu") if context else None
    if given is None:
        return False
    take_gpu(given.addresses)
    return True


def on_this_machine(files: Broadcast[Files], spec: EmbedderSpec) -> Files | Path:
    """A network's files in a folder of Spark's own, put there by whichever worker of an executor comes first.

    Mapped from there they are in memory once, not in each process, and once more as Python's bytes. Where the disk has
    no room for them they are those bytes. Executors only.
    """
    from pyspark import SparkFiles

    root = Path(SparkFiles.getRootDirectory()).absolute()
    folder = root / f"mirabelle-{spec.engine}-{spec.embedding.fingerprint}"
    if folder.is_dir():
        return folder
    try:
        with tempfile.TemporaryDirectory(prefix="mirabelle-", dir=root, ignore_cleanup_errors=True) as scratch:
            for name, content in files.value.items():
                Path(scratch, name).write_bytes(content)
            # Another may have been quicker.
            with suppress(OSError):
                os.rename(scratch, folder)
    except OSError:
        return files.value
    # PySpark would keep the bytes for as long as the process lives.
    vars(files).pop("_value", None)
    return folder if folder.is_dir() else files.value
