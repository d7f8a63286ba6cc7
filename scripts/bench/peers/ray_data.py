#!/usr/bin/env python3
"""Ray Data: files read as bytes, decoded and embedded by a pool of actors.

After Ray's pages "End-to-end: Offline Batch Inference", "Working with Images" and "Performance Tips and Tuning": a
callable class under `map_batches` opens the network once in each actor, the pool has one actor a core and each is told
to use one thread, and the batch is small, as large rows want it. Reading asks for a fraction of a core, as that page
advises, for actors and reads share this machine's cores, and would otherwise wait for each other. Pictures are decoded
in the actor: as a step of its own that would put pixels, twenty times the size, through the object store.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from common import Job, OneThread, Peer, as_lists, pixels, run

PEER = Peer(
    "Ray Data",
    precisions=("float32", "bf16"),
    python="bench",
    packages=("ray", "openvino", "pillow", "numpy", "pyarrow"),
)
BATCH = 16  # on one thread 1, 8, 16 and 32 take the same time a picture
IO_CPUS = 0.5


class Embedder:
    """An actor: one network on one thread."""

    def __init__(self, network: str, precision: str) -> None:
        self._infer = OneThread(Path(network), precision)

    def __call__(self, batch: Any) -> Any:
        """From a table of path and bytes to one of path and features."""
        import numpy as np
        import pyarrow as pa

        features = self._infer(np.stack([pixels(content) for content in batch["bytes"].to_pylist()]))
        return pa.table({"path": batch["path"], "features": as_lists(features)})


def embed(job: Job) -> str:
    """Embed the pictures and write them."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    # Ray's cores are a number to plan with: one more than the actors take is for reading and writing, which are short.
    ray.init(num_cpus=job.cores + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    contents = ray.data.read_binary_files(job.paths, include_paths=True, num_cpus=IO_CPUS)
    features = contents.map_batches(
        Embedder,
        fn_constructor_args=(str(job.network), job.precision),
        batch_size=BATCH,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ActorPoolStrategy(size=job.cores),
    )
    features.write_parquet(str(job.output), ray_remote_args={"num_cpus": IO_CPUS})
    ray.shutdown()
    return (
        f"read_binary_files (blocks as Ray chooses them, {IO_CPUS} of a core a task), then map_batches over a pool of"
        f" {job.cores} actors of one core, each opening the network once, Pillow and OpenVINO on one thread in it,"
        f" batches of {BATCH}, then write_parquet; as Ray's guides to batch inference and to performance have it"
    )


if __name__ == "__main__":
    sys.exit(run(PEER, embed))
