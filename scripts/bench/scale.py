"""What the number of images costs before any of them is embedded: time to the first feature, and memory.

For each size it starts `mirabelle extract` on a manifest of so many rows (distinct paths, by way of links to the same
few pictures) or, with --listed, on so many keys of a bucket; waits until three chunks are committed; and ends it.
Memory is the peak of the driver's Python, of its JVM and of the largest worker, as the system counts it (VmHWM).
`scripts/minio run python scripts/bench/scale.py --listed` gives it a bucket.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURES = 1000
CHUNKS = 3
POLL_SECONDS = 0.2
SETTINGS = (
    "backbone.name=mobilenet",
    "backbone.weights=random:1",
    "backbone.input_px=32",
    "extract.chunk_images=2000",
    "engine.precision=float32",
)


def draw(folder: Path) -> None:
    """Small pictures, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(PICTURES):
        pixels = np.random.default_rng(i).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.png")


def link_manifest(folder: Path, rows: int, file: Path) -> None:
    """So many distinct paths to the pictures below ``folder``, through links to it, beside ``file``."""
    pictures = sorted(path for path in folder.rglob("*.*g") if path.is_file())
    links = file.parent / "links"
    links.mkdir(exist_ok=True)
    table_schema = pa.schema([("path", pa.string()), ("size_bytes", pa.int64()), ("label", pa.string())])
    with pq.ParquetWriter(file, table_schema) as writer:
        for block in range(-(-rows // len(pictures))):
            link = links / f"{block:06}"
            if not link.exists():
                link.symlink_to(folder.resolve())
            taken = pictures[: rows - block * len(pictures)]
            columns = [
                [f"{link}/{path.relative_to(folder)}" for path in taken],
                [path.stat().st_size for path in taken],
                [f"kind {i % 100}" for i in range(len(taken))],
            ]
            writer.write_table(pa.table(columns, schema=table_schema))


def fill_bucket(folder: Path, uri: str, keys: int) -> None:
    """So many keys in a hundred prefixes."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    from mirabelle.storage import open_store, split_s3

    boto3.client("s3").create_bucket(Bucket=split_s3(uri)[0])
    store = open_store(uri)
    contents = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda i: store.write(f"{uri}/kind-{i % 100:02}/{i:07}.png", contents[i % PICTURES] + b"%d" % i),
                range(keys),
            )
        )


def watch(settings: Sequence[str], output: Path) -> dict[str, float]:
    """Start an extract, wait for its first chunks, end it; seconds and MiB."""
    options = [option for setting in settings for option in ("--set", setting)]
    command = [str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet", *options]
    peaks = {"driver": 0.0, "jvm": 0.0, "worker": 0.0}
    found: dict[str, float] = {}
    start = time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while len(list(output.glob("features/*/*/*/_chunk.json"))) < CHUNKS and process.poll() is None:
            time.sleep(POLL_SECONDS)
            for kind, mib in memory(process.pid):
                peaks[kind] = max(peaks[kind], mib)
            if "first" not in found and any(output.glob("_staging/*/*/features/*.parquet")):
                found["first"] = time.monotonic() - start
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (manifest,) = output.glob("runs/*.json")
    seconds = json.loads(manifest.read_text())["seconds"]
    return {**found, **peaks, "list": seconds["list"], "plan": seconds["plan"]}


def memory(driver: int) -> Iterator[tuple[str, float]]:
    """Peak memory so far of the processes of the driver's session, by kind."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) != driver:
                continue
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            kind = "driver" if int(folder.name) == driver else "jvm" if "java" in status["Name"] else "worker"
            yield kind, int(status["VmHWM"].split()[0]) / 1024
        except (OSError, KeyError, ValueError):
            continue


def main() -> None:
    """Measure each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 1_000_000], help="rows (default 10000 1000000)")
    parser.add_argument("--listed", action="store_true", help="list so many keys of a bucket, in place of a manifest")
    parser.add_argument("--scratch", help="folder to work in (default: a temporary one)")
    options = parser.parse_args()
    if options.listed and "AWS_ENDPOINT_URL" not in os.environ:
        parser.exit(2, "set AWS_ENDPOINT_URL, or run me by `scripts/minio run`\n")
    scratch = Path(tempfile.mkdtemp(prefix="mirabelle-scale-", dir=options.scratch))
    try:
        pictures = scratch / "pictures"
        draw(pictures)
        rows = []
        # The first converts the network, which none should be charged for, and is thrown away.
        for size in (CHUNKS * 2000, *options.sizes):
            output = scratch / f"output-{size}"
            if options.listed:
                uri = f"s3://mirabelle-scale-{size}/pictures"
                fill_bucket(pictures, uri, size)
                source = [f"images.root={uri}", "images.layout={label}/{name}"]
            else:
                manifest = scratch / f"{size}.parquet"
                link_manifest(pictures, size, manifest)
                source = [f"images.manifest={manifest}"]
            cache = [f"cache={scratch / 'cache'}", "spark.driver.memory=2g", "spark.master=local[2]"]
            rows.append((size, watch([*source, f"output={output}", *SETTINGS, *cache], output)))
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", end=", ")
        print(", ".join(f"{name} {version(name)}" for name in ("mirabelle", "pyspark", "duckdb")))
        kind = "listed keys" if options.listed else "manifest rows"
        print(
            f"\n| {kind} | listing, s | comparing, s | first feature after, s | driver, MiB | JVM, MiB | worker, MiB |"
        )
        print("|---|---|---|---|---|---|---|")
        for size, got in rows[1:]:
            first = f"{got['first']:.1f}" if "first" in got else "?"
            times = f"{got['list']:.1f} | {got['plan']:.1f} | {first}"
            print(f"| {size:,} | {times} | {got['driver']:,.0f} | {got['jvm']:,.0f} | {got['worker']:,.0f} |")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
