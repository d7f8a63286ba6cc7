"""A model of a cluster: how long embedding takes on many cores, and what breaks first; checked against real executors.

    python scripts/bench/scaling.py                        # the tables of docs/scaling.md
    python scripts/bench/scaling.py --check PICTURES       # one executor, then two, for real; needs an idle machine

The work is cut by the product's own ``Pace``. What the model knows beside it stands in ``Cluster``: the speed of a
core, what S3 answers for a prefix, and what a chunk costs the driver. It has no network between machines, no failures,
and no stragglers but a spread of a tenth.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyspark

from mirabelle.cluster.sizing import REQUESTS_A_PREFIX
from mirabelle.config.models import Extract
from mirabelle.pipeline.extract import CHUNKS_IN_FLIGHT
from mirabelle.spark.planning import Pace, plan_tasks

DEFAULTS = Extract()
BETWEEN_TASKS_SECONDS = 0.02  # docs/performance.md
SPREAD = 0.1


@dataclass(frozen=True)
class Cluster:
    """What the model knows.

    Attributes:
        cores: that embed, one task each.
        rate: images a second of a core; 40 is ResNet50 on photographs (docs/costs.md).
        prefixes: that the pictures are spread over; 0: on a disk.
        plan_seconds: of the driver for a chunk, and for each million images of it (``--check`` measures the latter).
        commit_seconds: of the driver for a chunk.
        chunk_images: in a chunk, at most.
    """

    cores: int
    rate: float = 40.0
    prefixes: int = 10
    plan_seconds: tuple[float, float] = (0.3, 4.0)
    commit_seconds: float = 0.5
    chunk_images: int = DEFAULTS.chunk_images


def embed_seconds(images: int, cluster: Cluster) -> float:
    """How long embedding takes, from the first chunk's plan to the last one's commit."""
    chance = np.random.default_rng(1)
    asked = REQUESTS_A_PREFIX * cluster.prefixes / cluster.cores if cluster.prefixes else math.inf
    rate = min(cluster.rate, asked)
    pace = Pace(DEFAULTS.chunk_seconds, CHUNKS_IN_FLIGHT, cluster.cores, cluster.chunk_images, DEFAULTS.task_images)
    free = [0.0] * cluster.cores
    running: list[tuple[float, int]] = []
    now, left, done = 0.0, images, 0
    while left or running:
        while left and len(running) < CHUNKS_IN_FLIGHT:
            chunk, each = min(left, pace.chunk_images(left)), pace.task_images(left)
            tasks = min(chunk, cluster.cores * max(1, -(-chunk // (each * cluster.cores))))
            once, million = cluster.plan_seconds
            now += once + million * chunk / 1e6
            spread = chance.normal(1, SPREAD, tasks).clip(0.5, 2)
            last = now
            for number in range(tasks):
                share = chunk // tasks + (number < chunk % tasks)
                took = BETWEEN_TASKS_SECONDS + share / rate * spread[number]
                end = max(heapq.heappop(free), now) + took
                heapq.heappush(free, end)
                last = max(last, end)
            heapq.heappush(running, (last, chunk))
            left -= chunk
        ended, chunk = heapq.heappop(running)
        now = max(now, ended) + cluster.commit_seconds
        done += chunk
        pace.measured(done, now)
    return now


def tables() -> Iterator[str]:
    """Those of docs/scaling.md."""
    yield "| executors of 4 cores | cores | 1,000,000 photographs | efficiency | 100,000,000 photographs | efficiency |"
    yield "|---|---|---|---|---|---|"
    for executors in (2, 4, 8, 16, 64, 128, 256):
        cluster = Cluster(4 * executors)
        cells = [f"{executors}", f"{cluster.cores:,}"]
        for images in (10**6, 10**8):
            seconds = embed_seconds(images, cluster)
            cells += [_told(seconds), f"{images / (cluster.rate * cluster.cores * seconds):.0%}"]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| 1,024 cores, 100,000,000 photographs | takes | efficiency |"
    yield "|---|---|---|"
    whole = Cluster(1024)
    for name, cluster in {
        "ten prefixes, as above": whole,
        "one prefix": replace(whole, prefixes=1),
        "chunks of at most 2,000,000": replace(whole, chunk_images=2_000_000),
        "a commit takes 5 s": replace(whole, commit_seconds=5.0),
        "a commit takes 5 s, chunks of at most 2,000,000": replace(whole, commit_seconds=5.0, chunk_images=2_000_000),
        "a network four times as slow (VGG16)": replace(whole, rate=10.0),
    }.items():
        seconds = embed_seconds(10**8, cluster)
        yield f"| {name} | {_told(seconds)} | {10**8 / (cluster.rate * cluster.cores * seconds):.0%} |"


def _told(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.1f} min"


def check(pictures: Path) -> Iterator[str]:
    """One real executor gives the speed of a core, the model tells what two would take, and two are asked."""
    started = time.perf_counter()
    plan_tasks(np.full(200_000, 10_000, np.int64), 1024, 195)
    yield f"planning: {(time.perf_counter() - started) * 5:.1f} s a million images"
    with tempfile.TemporaryDirectory() as scratch:
        _embed(pictures, Path(scratch), 1)  # converts the network
        one = _embed(pictures, Path(scratch), 1)
        two = _embed(pictures, Path(scratch), 2)
    images, seconds = one["counts"]["embedded"], one["seconds"]["embed"]
    # The speed with which the model takes as long as one executor did.
    low, high = 0.1, 1e5
    for _ in range(60):
        middle = (low * high) ** 0.5
        slower = embed_seconds(images, Cluster(1, middle, 0)) > seconds
        low, high = (middle, high) if slower else (low, middle)
    told, measured = embed_seconds(images, Cluster(2, low, 0)), two["seconds"]["embed"]
    yield f"{images} pictures on one executor of one core: {seconds:.1f} s, {low:.1f} images/s"
    yield f"on two: the model says {told:.1f} s, measured {measured:.1f} s, ratio {measured / told:.2f}"


def _embed(pictures: Path, scratch: Path, executors: int) -> dict[str, Any]:
    """The manifest of a run on executors that are processes of their own."""
    output = scratch / f"out{time.monotonic_ns()}"
    settings = [f"images.root={pictures}", f"output={output}", f"cache={scratch / 'cache'}", "images.include=['*.jpg']"]
    settings += ["backbone.name=vgg16", "backbone.weights=random:1", "backbone.input_px=150"]
    settings += [f"spark.master=local-cluster[{executors},1,1024]", "spark.executor.memory=1g"]
    command = [str(Path(sys.executable).with_name("mirabelle")), "extract", "--quiet"]
    command += [word for setting in settings for word in ("--set", setting)]
    known = {**os.environ, "SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    (manifest,) = (output / "runs").glob("*.json")
    facts: dict[str, Any] = json.loads(manifest.read_text())
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="PICTURES", help="a folder of JPEGs")
    given = parser.parse_args()
    for line in check(given.check) if given.check else tables():
        print(line, flush=True)


if __name__ == "__main__":
    main()
