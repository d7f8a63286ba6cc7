#!/usr/bin/env python3
"""The job that most people run today, as the other side of a comparison.

It is the usual notebook turned into a script and nothing else: Spark's `binaryFile` reader, a `repartition`, a pandas
UDF over an iterator that builds the Keras network anew for each partition and sets its weights from a broadcast,
`model.predict` once an Arrow batch, features as lists of floats in Parquet. As in the notebook, one picture that can't
be decoded fails the job.

It shares no code with Mirabelle on purpose, and needs pyspark, Keras with TensorFlow, Pillow and pandas. The driver
reads the weights; the executors read the pictures and write OUTPUT, both on disks that all of them see.
"""

from __future__ import annotations

import time

__started__ = time.perf_counter()  # before the heavy imports, for a user waits for them too

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow; Spark's workers inherit it
os.environ["PYSPARK_PYTHON"] = sys.executable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pyspark import Broadcast
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, element_at, split
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

SIDE_PX = 224
PARTITIONS = 24  # what the notebook gives to repartition()
Weights = list[NDArray[np.float32]]


class JobError(Exception):
    """Something the caller can mend; its text is one sentence for the terminal."""


@dataclass(frozen=True)
class Figures:
    """What a run measured: rows written, seconds since the script's first line, seconds of the Spark action alone."""

    images: int
    seconds_total: float
    seconds_job: float
    images_per_second: float


def build_model(backbone: str) -> Any:
    """The Keras network without its top, average-pooled, its weights not yet set."""
    from keras import applications

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # or it warns in every task that `predict` is traced again
    builders = {"resnet50": applications.ResNet50, "vgg16": applications.VGG16}
    return builders[backbone](weights=None, include_top=False, pooling="avg", input_shape=(SIDE_PX, SIDE_PX, 3))


def load_weights(backbone: str, source: str) -> Weights:
    """The network's arrays, from a `.weights.h5` file or drawn at random for "random:<seed>"."""
    import keras

    if source.startswith("random:"):
        seed = source.removeprefix("random:")
        if not seed.isdecimal():
            raise JobError(f"--weights random:<seed> needs a whole number, not {seed!r}")
        keras.utils.set_random_seed(int(seed))
        return cast(Weights, build_model(backbone).get_weights())
    if not Path(source).is_file():
        raise JobError(f"there is no weights file {source}")
    model = build_model(backbone)
    try:
        model.load_weights(source)
    except (OSError, ValueError, KeyError) as error:
        raise JobError(f"{source} doesn't hold the weights of {backbone} without its top") from error
    return cast(Weights, model.get_weights())


def make_featurize(backbone: str, weights: Broadcast[Weights]) -> Any:
    """The pandas UDF from encoded pictures to flat lists of features; its inner functions run on the executors."""

    def preprocess(content: bytes, preprocess_input: Callable[[Any], Any]) -> Any:
        from keras.utils import img_to_array

        picture = Image.open(io.BytesIO(content)).resize((SIDE_PX, SIDE_PX))
        return preprocess_input(img_to_array(picture))

    def featurize(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        from keras.applications import resnet50, vgg16

        preprocess_input = {"resnet50": resnet50, "vgg16": vgg16}[backbone].preprocess_input
        model = build_model(backbone)
        model.set_weights(weights.value)
        for contents in batches:
            pictures = np.stack([preprocess(content, preprocess_input) for content in contents])
            predictions = model.predict(pictures, verbose=0)
            yield pd.Series([prediction.flatten().tolist() for prediction in predictions])

    by_hints: Any = pandas_udf  # its stubs know only the deprecated functionType; the hints above make it SCALAR_ITER
    return by_hints(featurize, returnType=ArrayType(FloatType()))


def find_images(folder: Path, limit: int | None) -> list[str]:
    """What to hand to the reader: the folder, or, under a limit, its first pictures by path.

    The limit is applied here rather than by sorting in Spark, which would read every picture to keep a few.
    """
    if not folder.is_dir():
        raise JobError(f"there is no folder {folder} to read pictures from")
    pictures = sorted(str(path) for path in folder.rglob("*.jpg") if path.is_file())
    if not pictures:
        raise JobError(f"{folder} holds no *.jpg")
    return [str(folder)] if limit is None else pictures[:limit]


def read_images(spark: SparkSession, paths: list[str]) -> DataFrame:
    """The pictures' path, label (the folder a picture lies in) and bytes."""
    images = (
        spark.read.format("binaryFile")
        .option("pathGlobFilter", "*.jpg")
        .option("recursiveFileLookup", "true")
        .load(paths)
        .repartition(PARTITIONS)
    )
    return images.withColumn("label", element_at(split(col("path"), "/"), -2))


def open_session(master: str) -> SparkSession:
    """A session set up as notebooks do it, without the web page and the progress bar."""
    spark = (
        SparkSession.builder.appName("notebook-job")
        .master(master)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def run_job(given: argparse.Namespace) -> Figures:
    """Featurize the pictures, write them and say how long it took. Raises JobError for what the caller can mend."""
    paths = find_images(given.images.resolve(), given.limit)
    weights = load_weights(given.backbone, given.weights)
    spark = open_session(given.master)
    try:
        featurize = make_featurize(given.backbone, spark.sparkContext.broadcast(weights))
        features = read_images(spark, paths).select("path", "label", featurize("content").alias("features"))
        started = time.perf_counter()
        features.write.mode("overwrite").parquet(str(given.output.resolve()))
        seconds_job = time.perf_counter() - started
    finally:
        spark.stop()
    seconds_total = time.perf_counter() - __started__
    count = len(pd.read_parquet(given.output, columns=["path"]))
    return Figures(count, round(seconds_total, 3), round(seconds_job, 3), round(count / seconds_job, 3))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="notebook_job.py",
        description="Featurize a folder of pictures the way the usual PySpark notebook does, to compare against.",
        epilog="Example: notebook_job.py --images fruits/Test --output /tmp/features --weights random:0 --limit 120",
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of <label>/*.jpg, searched to any depth")
    parser.add_argument("--output", type=Path, required=True, help="Parquet folder to write; an old one is replaced")
    parser.add_argument("--backbone", choices=["resnet50", "vgg16"], default="resnet50", help="network (%(default)s)")
    parser.add_argument(
        "--weights", required=True, help="a .weights.h5 file of the network without its top, or random:<seed>"
    )
    parser.add_argument("--master", default="local[*]", help="Spark master (%(default)s)")
    parser.add_argument("--limit", type=int, help="take only the first LIMIT pictures, sorted by path")
    parser.add_argument("--json", type=Path, help="also write the figures to this file", metavar="FILE")
    given = parser.parse_args(argv)
    if given.limit is not None and given.limit < 1:
        parser.error(f"--limit must be at least 1, not {given.limit}")
    return given


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 for what the caller can mend, or 1 where the Spark job failed."""
    given = parse(argv)
    try:
        figures = run_job(given)
    except JobError as error:
        print(f"notebook_job: {error}.", file=sys.stderr)
        return 2
    except PySparkException as error:
        print(f"notebook_job: the Spark job failed:\n{error}", file=sys.stderr)
        return 1
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    print(json.dumps(asdict(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
