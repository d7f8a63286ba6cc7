"""The network on the executors: a column for anyone's job, and the chunk that our own job commits. [Spark]

The driver makes a ``Broadcast`` of the network once; the functions that ``make_...`` return run on executors.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirabelle import schema
from mirabelle.errors import PreflightError
from mirabelle.network.cached import check_room
from mirabelle.network.engines import Files
from mirabelle.network.preparing import Network
from mirabelle.spark.tasks import own_embedder, run_tasks
from mirabelle.storage import S3Options, open_store
from mirabelle.storage.opening import AS_AWS_SAYS
from mirabelle.worker.delays import spare_this_task
from mirabelle.worker.embed import TaskReport, run_task
from mirabelle.worker.embedder import EmbedderSpec, Tally, outcomes_frame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa
    from pyspark import Accumulator, Broadcast, SparkContext
    from pyspark.sql import Column


def spec_of(
    network: Network, threads: int = 1, batch_bytes: int | None = None, s3: S3Options = AS_AWS_SAYS
) -> EmbedderSpec:
    """The small half of a network: what is pickled into tasks."""
    return EmbedderSpec(
        network.embedding, network.engine, network.normalisation, network.decode, batch_bytes, threads, s3
    )


def embed(
    column: str | Column,
    network: Network,
    *,
    threads: int = 1,
    model_rows: Accumulator[int] | None = None,
    s3: S3Options = AS_AWS_SAYS,
) -> Column:
    """A column of embeddings, for use in any Spark job.

    Args:
        column: paths (string) that the workers can read, or whole files (binary). Bytes come through the JVM, so for
            large pictures set ``spark.sql.execution.arrow.maxRecordsPerBatch`` low.
        network: from ``prepare_network``; sent to the executors once, as a broadcast.
        threads: for each worker's engine.
        model_rows: an accumulator that counts the pictures the network was run on.
        s3: how paths in buckets are reached; by default as AWS's environment and files on each worker say.

    Returns:
        struct<features array<float>, width_px int, height_px int, stage string, code string, detail string>: either
        ``features``, or the reason why there are none. It is marked as not deterministic, so that Spark does not
        evaluate it a second time for a filter on its fields (SPARK-47672).

    Raises:
        PreflightError: there is no Spark session, or a Spark Connect one, which cannot broadcast the network.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    files = send(_context(), network)
    function = make_embed_series(spec_of(network, threads, s3=s3), files, model_rows)
    # pyspark's type hints leave out the iterator kind that returns a struct.
    make_udf: Any = pandas_udf
    made: Column = make_udf(function, schema.OUTCOME_DDL).asNondeterministic()(column)
    return made


def send(context: SparkContext, network: Network) -> Broadcast[Files]:
    """Broadcast a network to the executors.

    Raises:
        OutputError: the driver's disk for Spark's own files has no room for it.
    """
    size = sum(len(content) for content in network.files.values())
    check_room(Path(context._temp_dir or tempfile.gettempdir()), size, "sending the network", "spark.local.dir")
    return context.broadcast(network.files)


def _context() -> SparkContext:
    """This process's Spark. A session is active in the thread that made it alone, the context in all of them."""
    from pyspark import SparkContext
    from pyspark.sql.utils import is_remote

    context = SparkContext._active_spark_context
    if context is not None:
        return context
    if is_remote():
        raise PreflightError(
            "embed() broadcasts the network, which Spark Connect cannot do; open a session with .master(...), not"
            " with .remote(...)"
        )
    raise PreflightError("embed() needs a Spark session; make one first, with SparkSession.builder.getOrCreate()")


def make_embed_series(
    spec: EmbedderSpec, files: Broadcast[Files], model_rows: Accumulator[int] | None
) -> Callable[[Iterator[pd.Series]], Iterator[pd.DataFrame]]:
    """The iterator pandas UDF: series of paths or bytes in, a frame of ``schema.OUTCOME_DDL`` a series out."""
    import pandas as pd

    def embed_series(series: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        spare_this_task()
        embedder = own_embedder(files, spec)
        for sources in series:
            tally = Tally()
            yield outcomes_frame(embedder.embed(sources, tally))
            if model_rows is not None:
                model_rows.add(tally.model_rows)

    # Spark reads the UDF's kind from these; as strings they would need this module's imports on the driver.
    embed_series.__annotations__ = {"series": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    return embed_series


def embed_chunk(
    context: SparkContext,
    spec: EmbedderSpec,
    files: Broadcast[Files],
    images: pa.Table,
    tasks: Sequence[npt.NDArray[np.int64]],
    staging: str,
    counters: tuple[Accumulator[int], Accumulator[int]],
) -> list[TaskReport]:
    """Embed a chunk's images on the executors and stage its rows; returns one report a task.

    Args:
        images: the chunk's part of the listing.
        tasks: positions in it, one array a task.
        staging: the chunk's staging folder.
        counters: of embedded and rejected images, for progress.
    """
    listing = context.broadcast((_to_ipc(images), list(tasks)))
    try:
        reports = run_tasks(context, len(tasks), make_run_task(spec, files, listing, staging, counters))
        return [TaskReport.from_json(report) for report in reports]
    finally:
        listing.destroy()


def make_run_task(
    spec: EmbedderSpec,
    files: Broadcast[Files],
    listing: Broadcast[tuple[bytes, list[Any]]],
    staging: str,
    counters: tuple[Accumulator[int], Accumulator[int]],
) -> Callable[[int], str]:
    """The function that executors run: a task's number in, its report out."""

    def run(task: int) -> str:
        import pyarrow as pa

        ipc, tasks = listing.value
        images = pa.ipc.open_stream(ipc).read_all().take(tasks[task])
        asked = time.perf_counter()
        embedder = own_embedder(files, spec)
        opened = time.perf_counter() - asked
        report = run_task(embedder, images, open_store(staging, spec.s3), staging, task, uuid.uuid4().hex[:8])
        # A process's first task reads the network out of the broadcast and compiles it.
        report.seconds[schema.OPENING] = opened
        counters[0].add(report.embedded)
        counters[1].add(report.rejected)
        return report.to_json()

    return run


def _to_ipc(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
