"""How large a cluster a job wants, how long it takes there and what it costs. [Store]

Runs where people type. An estimate from measured speeds (docs/performance.md, docs/costs.md), not a promise.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.listing.source import read_listing
from mirabelle.storage import absolute, is_s3
from mirabelle.table.runlog import newest_manifests

# Images a second of one core of an AMD EPYC (Zen 5), bf16, pictures of 100 x 100 (docs/costs.md).
MEASURED = {"resnet50": 54.0, "vgg16": 13.0}
OF_ANOTHER_NETWORK = 20.0
# Of photographs; what decoding them takes beside the network.
PHOTOGRAPH_BYTES = 100_000
PHOTOGRAPHS_SLOWER = 40 / 54
FLOAT32_SLOWER = 0.5
# A job's own start and end: Spark, preflight, listing, the last commit.
FIXED_SECONDS = 90.0
# GETs that S3 answers for one prefix before it says SlowDown (its guide to performance).
REQUESTS_A_PREFIX = 5_500
# A worker process has its network and a batch of pictures, beside the JVM's heap.
HEAP_GIB = 2
WORKER_GIB = 1.5


@dataclass(frozen=True)
class Size:
    """A job's size.

    Attributes:
        images: listed.
        size_bytes: of all of them; 0: not known.
        rate: images a second of one core.
        rate_from: where that is from, in words.
        executors: how many.
        cores: of each.
        memory_gib: of each executor's heap.
        overhead_gib: of each, for the Pythons beside it.
        seconds: from the job's start to its end.
        dollars: for the cores, while it runs.
    """

    images: int
    size_bytes: int
    rate: float
    rate_from: str
    executors: int
    cores: int
    memory_gib: int
    overhead_gib: int
    seconds: float
    dollars: float

    def lines(self) -> list[tuple[str, str]]:
        """For people."""
        bytes_told = f", {self.size_bytes / 1e9:,.1f} GB" if self.size_bytes else ""
        return [
            ("pictures", f"{self.images:,}{bytes_told}"),
            ("speed", f"{self.rate:.0f} images/s a core ({self.rate_from})"),
            ("executors", f"{self.executors:,} of {self.cores} cores, {self.memory_gib} + {self.overhead_gib} GiB"),
            ("estimate", f"{self.seconds / 60:,.0f} min, {self.dollars:,.2f} dollars, once the cluster is there"),
        ]


def measure(config: Config) -> tuple[int, int]:
    """How many pictures the configuration lists, and their bytes.

    Raises:
        ListingError: as of a run.
    """
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as scratch:
        images = read_listing(config, scratch)
        return images.rows, images.size_bytes


def size_job(config: Config, images: int, size_bytes: int) -> Size:
    """What a job of so many pictures wants.

    Args:
        config: its ``submit`` part has the wishes; an earlier run of its output, the speed.
        images: how many.
        size_bytes: of all.
    """
    wanted = config.submit
    rate, rate_from = _rate(config, size_bytes / max(1, images))
    cores = min(wanted.max_cores, max(1, math.ceil(images / (rate * 60 * wanted.minutes))))
    each = min(wanted.executor_cores, wanted.max_cores)
    executors = math.ceil(cores / each)
    seconds = FIXED_SECONDS + images / (rate * executors * each)
    # The driver has the cores of one executor.
    dollars = (executors + 1) * each * seconds / 3600 * wanted.core_hour_dollars
    return Size(
        images, size_bytes, rate, rate_from, executors, each, HEAP_GIB, math.ceil(each * WORKER_GIB), seconds, dollars
    )


def prefix_warning(config: Config, size: Size) -> str | None:
    """A sentence, where a job would ask one prefix for more than S3 answers."""
    requests = size.rate * size.executors * size.cores
    if not is_s3(config.images.root or config.images.manifest or "") or requests <= REQUESTS_A_PREFIX:
        return None
    return (
        f"warning: {size.executors * size.cores:,} cores ask for up to {requests:,.0f} pictures a second, and S3 gives"
        f" some {REQUESTS_A_PREFIX:,} of one prefix: spread them over {math.ceil(requests / REQUESTS_A_PREFIX)}, or its"
        " retries set the pace"
    )


def _rate(config: Config, bytes_each: float) -> tuple[float, str]:
    if config.submit.images_per_second:
        return config.submit.images_per_second, "submit.images_per_second"
    output = absolute(config.output)
    store = store_of(config, output)
    if store.exists(output) and (found := _rate_of_a_run(newest_manifests(store, output), config.backbone.name)):
        return found
    name = config.backbone.name.lower()
    rate = MEASURED.get(name, OF_ANOTHER_NETWORK)
    told = "measured on Zen 5" if name in MEASURED else "a guess: set submit.images_per_second"
    if bytes_each > PHOTOGRAPH_BYTES:
        rate *= PHOTOGRAPHS_SLOWER
    if config.engine.precision == "float32":
        rate *= FLOAT32_SLOWER
    return rate, told


def _rate_of_a_run(manifests: Iterable[dict[str, Any]], backbone: str) -> tuple[float, str] | None:
    """The speed of the newest run that embedded enough to tell."""
    for manifest in manifests:
        speed, slots = manifest.get("images_per_second"), manifest.get("slots")
        ran = manifest.get("embedding") or {}
        enough = (manifest.get("counts") or {}).get("embedded", 0) >= 1000
        if speed and slots and enough and ran.get("backbone") == backbone.lower():
            return speed / slots, f"run {manifest['run_id']}"
    return None
