"""From bucket to bucket beside from folder to folder: the same pictures, the same network, in alternating rounds.

Prints images a second while embedding, seconds of the whole process, and their ratio, and checks that both sides' rows
are the same bit for bit. `scripts/minio run python scripts/bench/in_bucket.py FOLDER` gives it a server, which then
shares the machine with the job: on a cluster it would not.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.storage import open_store

BUCKET = "s3://mirabelle-bench-pictures"


def extract(images: str, output: str, settings: Sequence[str]) -> tuple[float, float]:
    """Run one side to its end; images a second while embedding, seconds in all."""
    given = [f"images.root={images}", f"output={output}", *settings]
    options = [option for setting in given for option in ("--set", setting)]
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    store = open_store(output)
    path = max(entry.path for entry in store.walk(f"{output}/runs") if entry.path.endswith(".json"))
    return float(json.loads(store.read(path, 2**24))["images_per_second"]), seconds


def rows(output: str, images: str) -> dict[str, bytes]:
    """The features of each picture, as bytes, by its path below the root."""
    store = open_store(output)
    found: dict[str, bytes] = {}
    for entry in store.walk(f"{output}/features"):
        if entry.path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(store.read(entry.path, 2**34)))
            for path, features in zip(table["path"].to_pylist(), table["features"], strict=True):
                assert path not in found, path
                found[path.removeprefix(images)] = pa.array(features.values).to_numpy().tobytes()
    return found


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="pictures, such as Fruits-360")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random:0", help="what the weights are does not change the speed")
    options = parser.parse_args()
    if "AWS_ENDPOINT_URL" not in os.environ:
        parser.exit(2, "set AWS_ENDPOINT_URL, or run me by `scripts/minio run`\n")
    folder = str(Path(options.folder).resolve())
    put = [sys.executable, str(Path(__file__).parents[1] / "bucket.py"), "put", folder, f"{BUCKET}/pictures"]
    subprocess.run(put, check=True)
    scratch = Path(tempfile.mkdtemp(prefix="mirabelle-bench-"))
    settings = [
        f"backbone.name={options.backbone}",
        f"backbone.weights={options.weights}",
        f"spark.master=local[{os.cpu_count()}]",
        f"cache={scratch / 'cache'}",
    ]
    # Converts the network and finds S3A's packages, which neither side should be charged for.
    for output in (f"{scratch}/warm", f"{BUCKET}/warm"):
        extract(f"{folder}/Test" if Path(folder, "Test").is_dir() else folder, output, settings)
    found: dict[str, list[tuple[float, float]]] = {"folder": [], "bucket": []}
    try:
        for number in range(options.rounds):
            found["folder"].append(extract(folder, f"{scratch}/{number}", settings))
            found["bucket"].append(extract(f"{BUCKET}/pictures", f"{BUCKET}/{number}", settings))
        same = rows(f"{scratch}/0", folder) == rows(f"{BUCKET}/0", f"{BUCKET}/pictures")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", end=", ")
    print(", ".join(f"{name} {version(name)}" for name in ("mirabelle", "pyspark", "openvino", "obstore")))
    print(f"{options.backbone}, {options.weights}, medians of {options.rounds} rounds")
    print("\n| source and output | images/s | whole, s |\n|---|---|---|")
    medians = {side: [statistics.median(column) for column in zip(*got, strict=True)] for side, got in found.items()}
    for side, (speed, seconds) in medians.items():
        print(f"| {side} | {speed:.1f} | {seconds:.1f} |")
    ratio = medians["bucket"][0] / medians["folder"][0]
    print(f"\nbucket / folder, images a second: {ratio:.2f}; rows the same bit for bit: {same}")


if __name__ == "__main__":
    main()
