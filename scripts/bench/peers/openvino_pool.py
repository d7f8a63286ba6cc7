#!/usr/bin/env python3
"""OpenVINO alone: Pillow on a pool of threads, and a queue of asynchronous requests. No Spark, one process.

After OpenVINO's guides "Optimizing for Throughput" and "High-level Performance Hints": the throughput hint chooses the
streams for this network and CPU, an AsyncInferQueue of as many requests as the compiled model calls optimal keeps them
all busy, and pixels are handed over without a copy. Pillow decodes and resizes with Python's lock released.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Job, Peer, as_lists, compile_network, pixels, run

if TYPE_CHECKING:
    from common import Features, Pixels

PEER = Peer(
    "OpenVINO on a thread pool",
    precisions=("float32", "bf16"),
    python="main",
    packages=("openvino", "pillow", "numpy", "pyarrow"),
)
# Pictures in a request. On two cores 1, 4, 8 and 16 took the same CPU time a picture, and 32 more in bf16.
BATCH = 8
# Rows of the Parquet file that are written together; only then does the queue run dry.
ROWS_PER_GROUP = 16384


def embed(job: Job) -> str:
    """Embed the pictures, writing features in order as they come."""
    import openvino
    import pyarrow as pa
    from pyarrow import parquet

    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": job.cores}
    compiled = compile_network(job.network, job.precision, settings)
    queue = openvino.AsyncInferQueue(compiled)  # as many requests as the compiled model calls optimal
    width = compiled.output(0).get_partial_shape()[1].get_length()
    streams = compiled.get_property("NUM_STREAMS")
    schema = pa.schema({"path": pa.string(), "features": pa.list_(pa.float32())})
    job.output.mkdir(parents=True)
    with parquet.ParquetWriter(job.output / "features.parquet", schema) as writer:
        for start in range(0, len(job.paths), ROWS_PER_GROUP):
            paths = job.paths[start : start + ROWS_PER_GROUP]
            features = embed_group(queue, paths, job.cores, width)
            writer.write_table(pa.table([paths, as_lists(features)], schema=schema))
    return (
        f"One process: {job.cores} threads decode with Pillow, {len(queue)} asynchronous requests of {BATCH} pictures,"
        f" throughput hint ({streams} streams on {job.cores} threads), as OpenVINO's guide to throughput has it;"
        " on two cores no other batch from 1 to 32 took noticeably less CPU time a picture"
    )


def embed_group(queue: Any, paths: list[str], threads: int, width: int) -> Features:
    """Features float32 (len(paths), width): threads decode a few batches ahead of the requests."""
    import numpy as np

    features: Features = np.empty((len(paths), width), dtype=np.float32)

    def keep(request: Any, batch: tuple[int, Pixels]) -> None:
        start, decoded = batch  # the pixels ride along so that they live for as long as the request reads them
        features[start : start + len(decoded)] = request.get_output_tensor(0).data

    queue.set_callback(keep)
    starts = iter(range(0, len(paths), BATCH))
    ahead: deque[Future[tuple[int, Pixels]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for start in starts:
            ahead.append(pool.submit(decode, paths[start : start + BATCH], start))
            if len(ahead) > 2 * threads:
                submit(queue, ahead.popleft())
        while ahead:
            submit(queue, ahead.popleft())
        queue.wait_all()
    return features


def submit(queue: Any, decoded: Future[tuple[int, Pixels]]) -> None:
    """Hand a decoded batch to the next idle request, waiting for one where all are busy."""
    batch = decoded.result()
    queue.start_async({0: batch[1]}, batch, share_inputs=True)


def decode(paths: list[str], start: int) -> tuple[int, Pixels]:
    """The pixels uint8 (n, 224, 224, 3) of a batch, and where it begins."""
    import numpy as np

    return start, np.stack([pixels(Path(path).read_bytes()) for path in paths])


if __name__ == "__main__":
    sys.exit(run(PEER, embed))
