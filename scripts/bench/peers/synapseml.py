#!/usr/bin/env python3
"""SynapseML on Spark: ImageTransformer decodes and resizes in the JVM, ONNXModel runs ONNX Runtime there.

After SynapseML's page "ONNX model inferencing on Spark" and its ImageFeaturizer, which puts the same two together. The
jars come from Maven Central through Spark's own `spark.jars.packages`: the newest there, for Spark 3.5 and Scala 2.12.
In place of the GPU build of ONNX Runtime 1.8.1 that they ask for, which is of 2021, they get the CPU build of today;
its Java interface is the same. ONNX Runtime takes as many threads in each task as there are cores: ONNXModel has no
setting for it. Its resize, OpenCV's, has no antialias: pictures larger than the network's get other pixels than
Pillow's.

The network is made of the same Keras weights with tf2onnx, once, and kept beside OpenVINO's in --network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import OPEN_COST, SIDE_PX, Job, Peer, PeerError, load_keras, open_spark, read_images, run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PEER = Peer(
    "SynapseML ONNXModel",
    precisions=("float32",),
    python="synapseml",
    packages=("pyspark", "synapseml", "tf2onnx"),
)
SYNAPSEML = "com.microsoft.azure:synapseml-deep-learning_2.12:1.1.0"
ONNX_RUNTIME = "com.microsoft.onnxruntime:onnxruntime:1.29.0"
BATCH = 16
OPSET = 13
# Both backbones were trained on these means in blue, green, red, and on nothing else (Keras's "caffe" preprocessing).
MEANS_BGR = [103.939, 116.779, 123.68]


def embed(job: Job) -> str:
    """Embed the pictures and write them."""
    network = to_onnx(job)
    spark = open_session(job.cores)
    try:
        from py4j.protocol import Py4JJavaError

        images = make_transformer().transform(read_images(spark, job)).select("path", "pictures")
        try:
            features = make_model(network).transform(images)
            features.select("path", "features").write.parquet(str(job.output))
        except Py4JJavaError as error:
            raise PeerError(f"its jars don't run here: {str(error.java_exception).splitlines()[0]}") from error
    finally:
        spark.stop()
    return (
        f"Spark 3.5 local[{job.cores}], a task a core (each opens the network anew): ImageTransformer decodes, resizes"
        f" and normalises in the JVM, ONNXModel with batches of {BATCH} on the CPU build of today's ONNX Runtime in"
        " place of the GPU build of 2021 that its jars ask for, all graph optimizations on, its default; as SynapseML's"
        " page on ONNX has it"
    )


def make_transformer() -> Any:
    """From encoded pictures to float32 (3, 224, 224) in the order blue, green, red, less their means."""
    from pyspark.sql.types import FloatType
    from synapse.ml.opencv import ImageTransformer

    return (
        ImageTransformer()
        .setInputCol("content")
        .setOutputCol("pictures")
        .resize((SIDE_PX, SIDE_PX))
        .normalize(mean=MEANS_BGR, std=[1.0, 1.0, 1.0], color_scale_factor=1.0)
        .setTensorChannelOrder("BGR")
        .setTensorElementType(FloatType())
    )


def make_model(network: Path) -> Any:
    """The network in ONNX Runtime, all its graph optimizations on, as is SynapseML's default."""
    from synapse.ml.onnx import ONNXModel

    return (
        ONNXModel()
        .setModelPayload(network.read_bytes())
        .setDeviceType("CPU")
        .setFeedDict({"pictures": "pictures"})
        .setFetchDict({"features": "features"})
        .setMiniBatchSize(BATCH)
    )


def to_onnx(job: Job) -> Path:
    """The network as ONNX, input float32 (n, 3, 224, 224): what lies beside OpenVINO's, or made and put there."""
    target = job.network / f"{job.backbone}-{OPSET}.onnx"
    if target.is_file():
        return target
    model = load_keras(job.backbone, job.weights)
    import tensorflow as tf
    import tf2onnx

    signature = (tf.TensorSpec((None, SIDE_PX, SIDE_PX, 3), tf.float32, name="pictures"),)

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def features(pictures: Any) -> dict[str, Any]:
        return {"features": model(pictures, training=False)}

    beside = target.with_suffix(f".{os.getpid()}")
    tf2onnx.convert.from_function(
        features, input_signature=signature, opset=OPSET, inputs_as_nchw=["pictures"], output_path=str(beside)
    )
    return beside.rename(target)


def open_session(cores: int) -> SparkSession:
    """Spark with SynapseML's jars."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    settings = {
        **OPEN_COST,
        "spark.jars.packages": f"{SYNAPSEML},{ONNX_RUNTIME}",
        "spark.jars.excludes": "com.microsoft.onnxruntime:onnxruntime_gpu",
        "spark.driver.memory": "4g",
        "spark.sql.files.minPartitionNum": str(cores),  # each task opens the network anew
    }
    try:
        return open_spark(cores, settings)
    except (Py4JError, PySparkException, RuntimeError) as error:
        raise PeerError("Spark didn't start with SynapseML's jars, which come from Maven Central") from error


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
    sys.exit(run(PEER, embed))
