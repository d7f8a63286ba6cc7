"""The server beside the engine alone: clients that ask again as soon as they are answered, in a closed loop.

    python scripts/bench/serve.py                              # ResNet50 with random weights, float32 and bf16
    python scripts/bench/serve.py --bundle OUT/bundle/ID       # a bundle that is there
    python scripts/bench/serve.py --seconds 3 --clients 1,8

Both sides in one run: the bundle's engine on ready tensors, in the batch that suits it best, before and after the
server; the ratio of the server's pictures a second to the better of them is what counts. At one client also what the
server adds to decoding and engine, which are timed alone, one picture after another. The clients are processes of this
machine and take their share of its cores, which the server lacks then.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from machine import facts

SIZES = {"100 px": (100, 100), "300 KB": (1024, 768)}
ENGINE_BATCHES = (1, 4, 8, 16)


@dataclass(frozen=True)
class Measured:
    """One closed loop: pictures a second, and latencies in seconds, sorted."""

    clients: int
    speed: float
    latencies: list[float]

    def at(self, share: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="folder or .tar; else one is made with random weights")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--precisions", default="float32,bf16", help="of bundles that are made")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each loop, after a tenth that is not counted")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of the server")
    given = parser.parse_args()
    print("\n".join(f"{name}: {fact}" for name, fact in facts().items()))
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as scratch:
        made = [given.bundle] if given.bundle else list(bundles(given.network, given.precisions.split(","), scratch))
        for bundle in made:
            measure(bundle, [int(one) for one in given.clients.split(",")], given.seconds, given.settings)


def bundles(network: str, precisions: list[str], scratch: str) -> Iterator[str]:
    """A bundle for each precision that this machine has natively, of a network and a classifier of random weights."""
    from mirabelle.bundle.chaining import Chain
    from mirabelle.bundle.classifying import Classifier, linear
    from mirabelle.bundle.opened import CARD
    from mirabelle.bundle.sealing import seal
    from mirabelle.config.stores import load_config
    from mirabelle.network.engines import native_precisions
    from mirabelle.network.preparing import prepare_network
    from mirabelle.pipeline.bundle_parts import Parts
    from mirabelle.pipeline.bundling import facts_of, files_of

    settings = ["images.root=.", "output=.", f"backbone.name={network}", "backbone.weights=random:0"]
    config = load_config(None, settings)
    for precision in precisions:
        if precision not in native_precisions():
            print(f"{precision}: not native here")
            continue
        prepared = prepare_network(config, precision)
        labels = [f"label {number}" for number in range(10)]
        weights = np.random.default_rng(0).normal(0, 0.01, (len(labels), prepared.embedding.width))
        classifier = Classifier("linear", "softmax", linear(weights, np.zeros(len(labels))))
        told = {"id": "random", "estimator": "LogisticRegression", "features": "full", "labels": labels, "pca": None}
        parts = Parts("classifier", told, prepared, None, Chain(classifier, tuple(labels), {}))
        files = seal(facts_of(parts, f"{network}-{precision}", network, {}), {**files_of(parts), CARD: b"# random\n"})
        folder = Path(scratch) / f"{network}-{precision}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        yield str(folder)


def photographs(size: tuple[int, int], count: int = 16) -> list[bytes]:
    """JPEGs with about as much in them as photographs of their size have; 1024 by 768 is about 300 KB."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 14, smooth.shape).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
        found.append(file.getvalue())
    return found


def measure(address: str, clients: list[int], seconds: float, settings: list[str]) -> None:
    """Engine, server and engine again, for both sizes of pictures."""
    from mirabelle import open_bundle

    bundle = open_bundle(address)
    print(f"\n{bundle.info.name}, {bundle.info.precision}, {bundle.threads} threads")
    for name, size in SIZES.items():
        pictures = photographs(size)
        print(f"  {name} ({statistics.mean(map(len, pictures)) / 1000:.0f} KB)")
        before = engine_alone(bundle, seconds)
        alone = one_by_one(bundle, pictures, seconds)
        with server(address, settings) as (port, ready_seconds):
            loops = [closed_loop(port, pictures, count, seconds) for count in clients]
            memory = resident(port)
        engine = max(before, engine_alone(bundle, seconds))
        print(f"    engine alone: {engine:.1f} pictures/s; decode + engine, one by one: {1000 * alone:.2f} ms")
        for loop in loops:
            added = f", adds {loop.at(0.5) - 1000 * alone:+.2f} ms" if loop.clients == 1 else ""
            print(
                f"    {loop.clients:>3} clients: {loop.speed:7.1f} pictures/s, {loop.speed / engine:.2f} of the engine;"
                f" median {loop.at(0.5):.1f} ms, p99 {loop.at(0.99):.1f} ms{added}"
            )
        print(f"    ready after {ready_seconds:.1f} s; {memory}")


def engine_alone(bundle: Any, seconds: float) -> float:
    """Pictures a second of the bundle's engine on ready tensors, in its best batch."""
    side = bundle.info.input_px
    best = 0.0
    for batch in ENGINE_BATCHES:
        pixels = np.random.default_rng(0).integers(0, 255, (batch, side, side, 3), dtype=np.uint8)
        bundle.infer(pixels)
        done, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds / len(ENGINE_BATCHES):
            bundle.infer(pixels)
            done += batch
        best = max(best, done / spent)
    return best


def one_by_one(bundle: Any, pictures: list[bytes], seconds: float) -> float:
    """Median seconds of decoding a picture and running the network on it, and nothing else."""
    found: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds / 2:
        start = time.perf_counter()
        bundle.infer(bundle.decode(pictures[len(found) % len(pictures)]).pixels[None])
        found.append(time.perf_counter() - start)
    return statistics.median(found)


@contextmanager
def server(address: str, settings: list[str]) -> Iterator[tuple[int, float]]:
    """``mirabelle serve`` in a process of its own: its port, and seconds from its start to its being ready."""
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "mirabelle", "serve", address, "--port", "0", *options]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        if "serving" not in line:
            raise RuntimeError(line + process.stderr.read())
        port = int(line.rpartition(":")[2])
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready").close()
        ready = time.perf_counter() - began
        PROCESSES[port] = process.pid
        try:
            yield port, ready
        finally:
            process.send_signal(signal.SIGTERM)


PROCESSES: dict[int, int] = {}


def resident(port: int) -> str:
    """How much memory the server has taken by now."""
    lines = Path(f"/proc/{PROCESSES[port]}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines if line.startswith(("VmHWM", "VmRSS")))
    return (
        f"{int(told['VmRSS'].split()[0]) / 1024:.0f} MiB resident, {int(told['VmHWM'].split()[0]) / 1024:.0f} at most"
    )


def closed_loop(port: int, pictures: list[bytes], clients: int, seconds: float) -> Measured:
    """As many clients as asked for, each with a request under way all the time; in one process beside the server."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spent, latencies = pool.apply(_loop, (port, pictures, clients, seconds))
    return Measured(clients, len(latencies) / spent, sorted(latencies))


def _loop(port: int, pictures: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    os.nice(5)
    return asyncio.run(_ask_for(port, pictures, clients, seconds))


async def _ask_for(port: int, pictures: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    head = "POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(one)).encode() + one for one in pictures]
    latencies: list[float] = []
    starts = time.perf_counter() + seconds / 10
    ends = starts + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < ends:
            writer.write(requests[number % len(requests)])
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(json.loads(body))
            number += 1
            if starts <= (now := time.perf_counter()) < ends:
                latencies.append(now - began)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return seconds, latencies


if __name__ == "__main__":
    main()
