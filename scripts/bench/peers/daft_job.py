#!/usr/bin/env python3
"""Daft on its native runner: Daft downloads the files, a class UDF decodes and embeds them.

After Daft's pages "Stateful Class UDFs with @daft.cls" and "Partitioning and Batching": the class opens the network
once an instance, there is an instance a core, each in a process of its own so that none waits for another's lock, and
a batch method gets as many rows as suit the network. Pillow decodes inside the UDF. With Daft's own decode_image and
resize there, a picture cost as much time, and its pixels differed from everyone else's by up to 8 of 255 (features of
VGG16: cosine 0.9994 at the lowest), so nothing is lost to Daft by it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from common import Job, OneThread, Peer, as_lists, pixels, run

PEER = Peer(
    "Daft",
    precisions=("float32", "bf16"),
    python="bench",
    packages=("daft", "openvino", "pillow", "numpy", "pyarrow"),
)
BATCH = 16  # on one thread 1, 8, 16 and 32 take the same time a picture


def embed(job: Job) -> str:
    """Embed the pictures and write them."""
    os.environ["DAFT_PROGRESS_BAR"] = "0"
    os.environ["DO_NOT_TRACK"] = "true"
    without_tensorflow()
    import daft
    from daft import DataType, col
    from daft.functions import download

    daft.set_runner_native(num_threads=job.cores)
    embedder_class: Any = daft.cls(max_concurrency=job.cores, use_process=True)(
        make_embedder(daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=BATCH))
    )
    embedder = embedder_class(str(job.network), job.precision)
    pictures = daft.from_pydict({"path": job.paths})
    features = pictures.select(col("path"), embedder.embed(download(col("path"))).alias("features"))
    features.write_parquet(str(job.output))
    return (
        f"Native runner on {job.cores} threads: Daft's own download, then a @daft.cls UDF with one instance a core"
        f" (max_concurrency={job.cores}, use_process=True), each opening the network once, OpenVINO on one thread, its"
        f" batch method given {BATCH} rows and decoding with Pillow, which took no longer than Daft's own image"
        " functions; all as its guide to class UDFs has it"
    )


def without_tensorflow() -> None:
    """Daft imports TensorFlow wherever it is installed; who uses Daft alone hasn't got it, and doesn't wait for it."""
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]


def make_embedder(batch_method: Any) -> type:
    """The class that Daft makes an instance of in each worker process."""

    class Embedder:
        """One network on one thread."""

        def __init__(self, network: str, precision: str) -> None:
            self._infer = OneThread(Path(network), precision)

        @batch_method  # type: ignore[untyped-decorator]
        def embed(self, contents: Any) -> Any:
            import numpy as np

            return as_lists(self._infer(np.stack([pixels(content) for content in contents.to_pylist()])))

    return Embedder


if __name__ == "__main__":
    sys.exit(run(PEER, embed))
