"""What every peer does alike: the command line, the list of pictures, the pixels, OpenVINO's network, the outcome.

A peer is a program of its own that shares no code with Mirabelle. It says of itself what it is with ``--describe``, and
with the other options embeds the first pictures of a folder and writes ``path`` and ``features`` as Parquet.

The pixels are Pillow's ``convert("RGB")`` and its bilinear resize to 224 by 224 (or as near as the peer's own decoder
comes to that), so that every side's features can be compared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame, SparkSession

    Pixels = NDArray[np.uint8]
    Features = NDArray[np.float32]
    Weights = list[NDArray[np.float32]]

SIDE_PX = 224
# For Spark's partitions by size: its default, 4 MiB, counts a small picture for a large one.
OPEN_COST = {"spark.sql.files.openCostInBytes": "65536"}


class PeerError(Exception):
    """Why a peer can't run here; its text is one sentence for the terminal."""


@dataclass(frozen=True)
class Peer:
    """What a peer is.

    Attributes:
        name: for a table.
        precisions: of the arithmetic, that it can do.
        python: the environment it needs: ``main`` is the project's own, ``bench`` is .venv-bench, ``synapseml``
            is .venv-bench-synapseml.
        packages: distributions whose versions count.
    """

    name: str
    precisions: tuple[str, ...]
    python: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What a peer is to do.

    Attributes:
        images: the folder of pictures.
        paths: the pictures to embed, sorted; absolute.
        is_whole: whether ``paths`` are all the pictures of the folder.
        output: the Parquet folder to write; there is none yet.
        backbone: ``resnet50`` or ``vgg16``.
        weights: a ``.weights.h5`` file, or ``random:<seed>``.
        network: folder of OpenVINO's model.xml and model.bin: uint8 RGB (n, 224, 224, 3) to float32 (n, width).
        precision: ``float32`` or ``bf16``.
        cores: how many it may use.
    """

    images: Path
    paths: list[str]
    is_whole: bool
    output: Path
    backbone: str
    weights: str
    network: Path
    precision: str
    cores: int


def run(peer: Peer, embed: Callable[[Job], str], argv: list[str] | None = None) -> int:
    """The whole of a peer's command line.

    Args:
        peer: what it is.
        embed: does the job and returns one sentence: what it was told to do, and why that is its best.
        argv: in place of the process's own.

    Returns:
        0, or 2 where it can't run here.
    """
    given = _parse(peer, argv)
    if given.describe:
        print(json.dumps({"name": peer.name, "precisions": peer.precisions, "python": peer.python}))
        return 0
    # Worker processes of Spark, Ray and Daft import this module too.
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    try:
        job = _job(peer, given)
        told = embed(job)
        facts = {
            "images": _count_rows(job.output),
            "told": told,
            "versions": {package: version(package) for package in peer.packages},
        }
    except PeerError as error:
        print(f"{peer.name}: {error}.", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"{peer.name}: it needs {error.name}, which this Python lacks ({sys.prefix}).", file=sys.stderr)
        return 2
    text = json.dumps(facts, indent=1)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def pixels(content: bytes) -> Pixels:
    """uint8 RGB (224, 224, 3) of an encoded picture."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        rgb = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def compile_network(network: Path, precision: str, settings: dict[str, Any]) -> Any:
    """OpenVINO's compiled model with the peer's own settings."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # or it would call home
    import openvino

    hint = openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32
    model = openvino.Core().read_model(network / "model.xml")
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint, **settings})


class OneThread:
    """OpenVINO in a process that has one core to itself: one request on one thread, at OpenVINO's latency hint.

    Several such processes, as Spark, Ray and Daft make them, are left unpinned, or all would sit on the first core.
    """

    def __init__(self, network: Path, precision: str) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = compile_network(network, precision, settings)
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def __call__(self, batch: Pixels) -> Features:
        """Features float32 (n, width) of uint8 RGB (n, 224, 224, 3); a new array."""
        self._request.infer([batch], share_inputs=True)
        return cast("Features", self._request.get_tensor(self._output).data.copy())


def as_lists(features: Features) -> Any:
    """An Arrow column of lists, one for each row of float32 (n, width); shares the memory."""
    import numpy as np
    import pyarrow as pa

    count, width = features.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(features.reshape(-1)))


def build_keras(backbone: str) -> Any:
    """The Keras network without its top, average-pooled, its weights not yet set."""
    from keras import applications

    builders = {"resnet50": applications.ResNet50, "vgg16": applications.VGG16}
    return builders[backbone](weights=None, include_top=False, pooling="avg", input_shape=(SIDE_PX, SIDE_PX, 3))


def load_keras(backbone: str, weights: str) -> Any:
    """The Keras network with its weights: of a ``.weights.h5`` file, or random ones for "random:<seed>"."""
    import keras

    if weights.startswith("random:"):
        seed = weights.removeprefix("random:")
        if not seed.isdecimal():
            raise PeerError(f"--weights random:<seed> needs a whole number, not {seed!r}")
        keras.utils.set_random_seed(int(seed))
        return build_keras(backbone)
    model = build_keras(backbone)
    try:
        model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise PeerError(f"{weights} doesn't hold the weights of {backbone} without its top") from error
    return model


def open_spark(cores: int, settings: dict[str, str]) -> SparkSession:
    """A local session with these settings, without the web page and the progress bar; the caller stops it."""
    from pyspark.sql import SparkSession

    # Workers run what this does, in its environment.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{cores}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def read_images(spark: SparkSession, job: Job) -> DataFrame:
    """``path``, as a plain one, and ``content`` of the job's pictures; not read yet."""
    from pyspark.sql.functions import regexp_replace

    files = spark.read.format("binaryFile").option("pathGlobFilter", "*.jpg").option("recursiveFileLookup", "true")
    found = files.load([str(job.images)] if job.is_whole else job.paths)
    return found.select(regexp_replace("path", "^file:/+", "/").alias("path"), "content")


def _job(peer: Peer, given: argparse.Namespace) -> Job:
    missing = [name for name in ("images", "output", "weights", "network") if getattr(given, name) is None]
    if missing:
        raise PeerError(f"--{missing[0]} is needed")
    if given.precision not in peer.precisions:
        raise PeerError(f"it computes in {' or '.join(peer.precisions)} only")
    images = given.images.absolute()
    paths = sorted(str(path) for path in images.rglob("*.jpg") if path.is_file())
    if not paths:
        raise PeerError(f"{images} holds no *.jpg")
    if not (given.network / "model.xml").is_file():
        raise PeerError(f"{given.network} holds no model.xml")
    output = given.output.absolute()
    if output.is_dir():
        shutil.rmtree(output)
    return Job(
        images=images,
        paths=paths[: given.limit],
        is_whole=given.limit is None or given.limit >= len(paths),
        output=output,
        backbone=given.backbone,
        weights=given.weights,
        network=given.network.absolute(),
        precision=given.precision,
        cores=given.cores,
    )


def _count_rows(folder: Path) -> int:
    import pyarrow.dataset

    return int(pyarrow.dataset.dataset(folder, format="parquet").count_rows())


def _parse(peer: Peer, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"{peer.name}, to compare Mirabelle with.")
    parser.add_argument("--describe", action="store_true", help="only print what this is, as JSON")
    parser.add_argument("--images", type=Path, help="folder of *.jpg, searched to any depth")
    parser.add_argument("--output", type=Path, help="Parquet folder to write; an old one is replaced")
    parser.add_argument("--backbone", choices=("resnet50", "vgg16"), default="resnet50", help="default: %(default)s")
    parser.add_argument("--weights", help="a .weights.h5 file of the network without its top, or random:<seed>")
    parser.add_argument("--network", type=Path, help="folder of the same network for OpenVINO, model.xml and model.bin")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="default: %(default)s")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="how many to use (default: all, %(default)s)")
    parser.add_argument("--limit", type=int, help="embed only the first LIMIT pictures, sorted by path")
    parser.add_argument("--json", type=Path, help="write what was done to this file too", metavar="FILE")
    given = parser.parse_args(argv)
    if given.limit is not None and given.limit < 1:
        parser.error(f"--limit must be at least 1, not {given.limit}")
    return given
