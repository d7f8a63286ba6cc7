#!/usr/bin/env python3
"""The job that most people run today: the usual notebook turned into a script and nothing else.

Spark's `binaryFile` reader, a `repartition`, a pandas UDF over an iterator that builds the Keras network anew for each
partition and sets its weights from a broadcast, `model.predict` once an Arrow batch, features as lists of floats in
Parquet. As in the notebook, one picture that can't be decoded fails the job. Only Pillow's resize is named here, where
notebooks take its default, bicubic: so all sides see the same pixels.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from common import SIDE_PX, Job, Peer, build_keras, load_keras, open_spark, read_images, run

if TYPE_CHECKING:
    import pandas as pd
    from common import Weights
    from pyspark import Broadcast

PEER = Peer(
    "Notebook-style Spark job",
    precisions=("float32",),
    python="main",
    packages=("pyspark", "keras", "tensorflow-cpu", "pillow", "numpy", "pyarrow"),
)
PARTITIONS = 24  # what the notebook gives to repartition()


def embed(job: Job) -> str:
    """Featurize the pictures and write them."""
    from pyspark.sql.functions import col, element_at, split

    weights = cast("Weights", load_keras(job.backbone, job.weights).get_weights())
    spark = open_spark(job.cores, {"spark.sql.execution.arrow.maxRecordsPerBatch": "1024"})
    try:
        featurize = make_featurize(job.backbone, spark.sparkContext.broadcast(weights))
        images = (
            read_images(spark, job).repartition(PARTITIONS).withColumn("label", element_at(split(col("path"), "/"), -2))
        )
        features = images.select("path", "label", featurize("content").alias("features"))
        features.write.mode("overwrite").parquet(str(job.output))
    finally:
        spark.stop()
    return (
        f"Spark local[{job.cores}], binaryFile and repartition({PARTITIONS}), an iterator pandas UDF that builds the"
        " Keras network for each partition and calls model.predict on Arrow batches of 1,024, all as notebooks have it:"
        " nothing is tuned, for it stands for what people run"
    )


def make_featurize(backbone: str, weights: Broadcast[Weights]) -> Any:
    """The pandas UDF from encoded pictures to flat lists of features; its inner functions run on the executors."""
    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf
    from pyspark.sql.types import ArrayType, FloatType

    def preprocess(content: bytes, preprocess_input: Callable[[Any], Any]) -> Any:
        from keras.utils import img_to_array
        from PIL import Image

        picture = Image.open(io.BytesIO(content)).convert("RGB")
        picture = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        return preprocess_input(img_to_array(picture))

    def featurize(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import numpy as np
        from keras.applications import resnet50, vgg16

        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # or each task warns that `predict` is traced again
        preprocess_input = {"resnet50": resnet50, "vgg16": vgg16}[backbone].preprocess_input
        model = build_keras(backbone)
        model.set_weights(weights.value)
        for contents in batches:
            pictures = np.stack([preprocess(content, preprocess_input) for content in contents])
            predictions = model.predict(pictures, verbose=0)
            yield pd.Series([prediction.flatten().tolist() for prediction in predictions])

    # Spark reads the hints, which are only names here, to know that this is an iterator's UDF.
    featurize.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    by_hints: Any = pandas_udf  # its stubs know only the deprecated functionType
    return by_hints(featurize, returnType=ArrayType(FloatType()))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow; Spark's workers inherit it
    sys.exit(run(PEER, embed))
