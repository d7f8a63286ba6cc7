#!/usr/bin/env python3
"""Spark's own way to embed: `predict_batch_udf`, written as well as it can be.

After the documentation of `pyspark.ml.functions.predict_batch_udf`: the network is opened once a Python worker, in
`make_predict_fn`, whose result Spark keeps, and the UDF gets batches as NumPy arrays. What else was chosen: OpenVINO in
place of Keras, as it is the quicker; one thread of it a task; encoded pictures, not pixels, cross from the JVM and are
decoded beside the network; Arrow batches as large as the network's; partitions by count, as many small files would
otherwise make a task for every 32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import OPEN_COST, Job, OneThread, Peer, open_spark, pixels, read_images, run

if TYPE_CHECKING:
    from common import Features

PEER = Peer(
    "Spark, predict_batch_udf",
    precisions=("float32", "bf16"),
    python="main",
    packages=("pyspark", "openvino", "pillow", "numpy", "pyarrow"),
)
BATCH = 16  # on one thread 1, 8, 16 and 32 take the same time a picture
TASKS_PER_CORE = 4  # so that the last one to finish doesn't keep the other cores waiting for long


def embed(job: Job) -> str:
    """Embed the pictures and write them."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    # One task a core, Python workers kept from task to task (Spark's default), a few even partitions a core.
    settings = {
        **OPEN_COST,
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH),
        "spark.sql.files.minPartitionNum": str(job.cores * TASKS_PER_CORE),
    }
    spark = open_spark(job.cores, settings)
    try:
        features = predict_batch_udf(
            make_predict(job.network, job.precision), return_type=ArrayType(FloatType()), batch_size=BATCH
        )
        images = read_images(spark, job)
        images.select("path", features("content").alias("features")).write.parquet(str(job.output))
    finally:
        spark.stop()
    return (
        f"Spark local[{job.cores}], predict_batch_udf with the network opened once a worker (make_predict_fn), OpenVINO"
        f" on one thread a task in place of the slower Keras, batch_size and Arrow batches of {BATCH}, encoded pictures"
        f" sent to the worker and decoded there, {TASKS_PER_CORE} tasks a core (minPartitionNum, small openCostInBytes)"
    )


def make_predict(network: Path, precision: str) -> Callable[[], Callable[[Any], Features]]:
    """What `predict_batch_udf` calls once in each worker process."""

    def make_predict_fn() -> Callable[[Any], Features]:
        import numpy as np

        infer = OneThread(network, precision)

        def predict(contents: Any) -> Features:
            return infer(np.stack([pixels(content) for content in contents]))

        return predict

    return make_predict_fn


if __name__ == "__main__":
    sys.exit(run(PEER, embed))
