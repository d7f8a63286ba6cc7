#!/usr/bin/env python3
"""Plain Keras: `model.predict` over a tf.data pipeline. No Spark, one process.

After TensorFlow's guide "Better performance with the tf.data API": pictures are read, decoded and resized in a map
with `num_parallel_calls=AUTOTUNE` and fetched ahead of the network, in batches; the backbone's own preprocessing is in
the model. The decoder is told to use the accurate inverse DCT, which Pillow uses too, and the resize is bilinear with
antialias, as Pillow's is.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from common import SIDE_PX, Job, Peer, as_lists, load_keras, run

if TYPE_CHECKING:
    from common import Features

PEER = Peer(
    "Keras over tf.data",
    precisions=("float32",),
    python="main",
    packages=("keras", "tensorflow-cpu", "numpy", "pyarrow"),
)
BATCH = 32


def embed(job: Job) -> str:
    """Embed the pictures and write them."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job.cores)
    tf.config.threading.set_inter_op_parallelism_threads(job.cores)
    import keras
    import pyarrow as pa
    from keras import applications
    from pyarrow import parquet

    preprocess = {"resnet50": applications.resnet50, "vgg16": applications.vgg16}[job.backbone].preprocess_input
    pictures = keras.Input((SIDE_PX, SIDE_PX, 3))
    headless = load_keras(job.backbone, job.weights)
    model = keras.Model(pictures, headless(preprocess(pictures)))
    features: Features = model.predict(make_dataset(job), verbose=0)
    job.output.mkdir(parents=True)
    parquet.write_table(pa.table({"path": job.paths, "features": as_lists(features)}), job.output / "features.parquet")
    return (
        "One process: a tf.data pipeline (map and prefetch with AUTOTUNE, accurate DCT, bilinear with antialias) into"
        f" model.predict in batches of {BATCH}, TensorFlow held to {job.cores} threads; as TensorFlow's guide to"
        " tf.data performance has it"
    )


def make_dataset(job: Job) -> Any:
    """Batches of float32 RGB (n, 224, 224, 3) in the order of the paths."""
    import tensorflow as tf

    def read(path: Any) -> Any:
        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        small = tf.image.resize(picture, (SIDE_PX, SIDE_PX), method="bilinear", antialias=True)
        return tf.round(small)  # Pillow's pixels are whole numbers

    paths = tf.data.Dataset.from_tensor_slices(job.paths)
    return paths.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
    sys.exit(run(PEER, embed))
