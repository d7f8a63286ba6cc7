"""The whole `mirabelle extract` on a GPU beside the bare network: images a second, their ratio, where the time goes.

The bare network is the engine of Mirabelle's workers on pictures that lie in memory decoded, as one process and as so
many as share the GPU, in batches of several sizes; the fastest is the bound. The job runs on few pictures and on many:
steady images a second are the pictures more over the seconds more, of whole processes, so that what starts costs
nothing. Without a GPU it runs as well, and its figures say nothing of one.

    KERAS_BACKEND=jax python scripts/bench/gpu.py PICTURES                # a folder of JPEGs, repeated through links
    python scripts/bench/gpu.py PICTURES --few 20 --many 120 --tasks 2 --batch-mib 4 --input-px 96    # does it run?
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from machine import cores, facts
from mirabelle.config import load
from mirabelle.listing.calibration import prepare_network
from mirabelle.network.preparing import Network
from mirabelle.schema import DECODING, INFERENCE, STORE, WRITING
from scale import link_manifest
from sides import timed
from steady import steady

WAIT_SECONDS = 600


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--input-px", type=int, default=224)
    parser.add_argument("--precision", default="bf16", choices=["float32", "bf16"])
    parser.add_argument("--tasks", type=int, default=4, help="that share the GPU and the cores")
    parser.add_argument("--batch-mib", type=int, nargs="+", default=[4, 32, 128], help="of the bare network")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure of the bare network")
    parser.add_argument("--few", type=int, default=5_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirabelle-gpu-") as scratch:
        settings = [
            "engine.name=keras",
            f"engine.precision={given.precision}",
            f"backbone.name={given.backbone}",
            "backbone.weights=random:0",
            f"backbone.input_px={given.input_px}",
            f"cache={scratch}/cache",
            f"spark.master=local[{cores()}]",
            f"spark.task.cpus={max(1, cores() // given.tasks)}",
        ]
        network = prepare_network(load(None, ["images.root=.", "output=out", *settings], {}))
        told = {**facts(), "GPU": gpu(), "network": f"{given.backbone}, {given.input_px} px, {given.precision}"}
        print("\n".join(f"{name}: {fact}" for name, fact in told.items()), flush=True)
        bounds = {
            (processes, mib): bare(network, mib, processes, given.seconds)
            for processes in sorted({1, given.tasks})
            for mib in given.batch_mib
        }
        print("\n| bare network, processes | batch, MiB | images/s |\n|---|---|---|")
        for (processes, mib), speed in bounds.items():
            print(f"| {processes} | {mib} | {speed:,.1f} |", flush=True)
        # What a first run leaves in the cache, no run is charged for.
        extract(given.pictures, given.few, settings, Path(scratch, "first"))
        bound = max(bounds.values())
        print(f"\n| round | {given.few:,}, s | {given.many:,}, s | images/s | of the bare network | the tasks' time |")
        print("|---|---|---|---|---|---|")
        for number in range(given.rounds):
            few, many = (
                extract(given.pictures, size, settings, Path(scratch, f"{number}-{size}"))
                for size in (given.few, given.many)
            )
            print(f"| {number + 1} | {few['whole']:.1f} | {many['whole']:.1f} | ", end="")
            rate = steady(given.few, given.many, few["whole"], many["whole"])
            parts = shares(few, many, given.tasks)
            print(f"{rate:,.1f} | {rate / bound:.2f} | {parts} |" if rate else "lost in noise | | |", flush=True)


def shares(few: dict[str, float], many: dict[str, float], tasks: int) -> str:
    """Where the time of so many tasks at once went, of what many pictures took more than few."""
    spent = tasks * (many["whole"] - few["whole"]) or float("nan")
    parts = {part: (many[part] - few[part]) / spent for part in (INFERENCE, DECODING, STORE, WRITING)}
    parts["other"] = 1 - sum(parts.values())
    return ", ".join(f"{part.replace('_', ' ')} {share:.0%}" for part, share in parts.items())


def gpu() -> str:
    """Its name and driver, and what Keras runs on."""
    import keras

    from mirabelle.network.gpu import is_seen

    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = "none"
    backend = keras.backend.backend()
    return f"{found}; Keras on {backend} " + ("sees it" if is_seen(keras) else "sees NONE: these are figures of a CPU")


def bare(network: Network, batch_mib: int, processes: int, seconds: float) -> float:
    """Images a second of so many processes together, each with the network on pixels of its own."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(processes), spawn.Queue()
    given = (network, batch_mib, max(1, cores() // processes), seconds, start, answers)
    workers = [spawn.Process(target=work, args=given, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    speed = float(sum(answers.get(timeout=WAIT_SECONDS) for _ in workers))
    for worker in workers:
        worker.join()
    return speed


def work(network: Network, batch_mib: int, threads: int, seconds: float, start: Any, answers: Any) -> None:
    """One process: compile, wait for the others, and run for so long."""
    from mirabelle.network.engines import open_engine

    side, precision = network.embedding.input_px, network.embedding.precision
    engine = open_engine("keras", network.files, network.normalisation, precision, threads)
    batch = max(1, batch_mib * 2**20 // (3 * side**2))
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    engine.embed(pixels)
    start.wait(WAIT_SECONDS)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        engine.embed(pixels)
        done += batch
    answers.put(done / (time.perf_counter() - began))


def extract(pictures: Path, size: int, settings: list[str], scratch: Path) -> dict[str, float]:
    """Whole seconds of a job, and its workers' by part."""
    scratch.mkdir()
    link_manifest(pictures, size, scratch / "manifest.parquet")
    given = [*settings, f"images.manifest={scratch / 'manifest.parquet'}", f"output={scratch / 'output'}"]
    command = [sys.executable, "-m", "mirabelle", "extract", "--quiet"]
    whole = timed([*command, *(flag for setting in given for flag in ("--set", setting))])
    (manifest,) = (json.loads(path.read_text()) for path in (scratch / "output" / "runs").glob("*.json"))
    assert manifest["counts"]["model_rows"] == size, manifest["counts"]
    return {**manifest["worker_seconds"], "whole": whole}


if __name__ == "__main__":
    main()
