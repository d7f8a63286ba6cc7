"""The server beside the engine alone and beside a peer: clients that ask again as soon as they are answered.

    python scripts/bench/serve.py                              # ResNet50 with random weights, float32 and bf16
    python scripts/bench/serve.py --bundle OUT/bundle/ID       # a bundle that is there
    python scripts/bench/serve.py --seconds 3 --clients 1,8 --no-peer

All sides in one run, turn by turn: the bundle's engine on ready tensors, in batches and on all threads or each half of
them as suits it best, then as many clients ask the server, then the peer, then the engine again; a server's pictures a
second count by the mean of the engine's before and after. Pictures have to be decoded on the cores that the network
runs on, so what could be had at best is 1 / (1 / engine + core-seconds of decoding / cores), the bound. At one client
also what the server adds to decoding and engine, which are timed alone, one picture after another. The clients are a
process of this machine and take their share of its cores, which the servers lack then. `make bench` runs it as the part
`serve`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from closed_loop import closed_loop, photographs
from machine import cores, facts
from serve_figures import tables
from servers import OURS, PEER, Running, bentoml, mirabelle, peer_version
from sides import CannotRun

SIZES = {"100 px": (100, 100), "300 KB": (1024, 768)}
ENGINE_BATCHES = (1, 4, 8, 16)
# Of a loop; the engine runs for half as long before and after it.
SECONDS, ROUNDS = 3.5, 2
# As the peer's: where others are at work 64 clients wait for longer than our default, and it is speed that is measured.
PATIENCE = "deadline_seconds=60"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="folder; else one is made with random weights")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--precisions", default="float32,bf16", help="of bundles that are made")
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of pictures (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each loop (default: %(default)g)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of all loops (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=cores(), help="for engine and servers (default: all)")
    parser.add_argument("--no-peer", action="store_true", help=f"leave {PEER} out")
    parser.add_argument("--cache", default="~/.cache/mirabelle", help="where converted networks are kept")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of Mirabelle's server")
    given = parser.parse_args()
    made: dict[str, Any] = {"cores": given.cores, "seconds": given.seconds, "entries": []}
    print("\n".join(f"{name}: {fact}" for name, fact in facts().items()))
    with tempfile.TemporaryDirectory(prefix="mirabelle-bench-") as scratch:
        for bundle in [given.bundle] if given.bundle else bundles(given, Path(scratch)):
            for size in given.sizes.split(","):
                made["entries"].append(measure(bundle, size, given, Path(scratch)))
                if given.json:
                    given.json.write_text(json.dumps(made) + "\n")
    print("\n" + "\n".join(tables(made)))


def bundles(given: argparse.Namespace, scratch: Path) -> Iterator[str]:
    """A bundle for each precision that this machine has natively, of a network and a classifier of random weights."""
    from mirabelle.network.engines import native_precisions

    for precision in given.precisions.split(","):
        if precision not in native_precisions():
            print(f"{precision}: not native here")
            continue
        folder = scratch / f"{given.network}-{precision}"
        # In a process that ends, as Keras and its backend keep their memory and threads.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(make_bundle, (given.network, given.weights, precision, given.cache, folder))
        yield str(folder)


def make_bundle(network: str, weights: str, precision: Any, cache: str, folder: Path) -> None:
    """Write a bundle of a network and a classifier of ten labels, whose weights are drawn."""
    from mirabelle.bundle.chaining import Chain
    from mirabelle.bundle.classifying import Classifier, linear
    from mirabelle.bundle.opened import CARD
    from mirabelle.bundle.sealing import seal
    from mirabelle.config.stores import load_config
    from mirabelle.network.preparing import prepare_network
    from mirabelle.pipeline.bundle_parts import Parts
    from mirabelle.pipeline.bundling import facts_of, files_of

    settings = ["images.root=.", "output=.", f"backbone.name={network}", f"backbone.weights={weights}"]
    prepared = prepare_network(load_config(None, [*settings, f"cache={Path(cache).expanduser()}"]), precision)
    labels = [f"label {number}" for number in range(10)]
    drawn = np.random.default_rng(0).normal(0, 0.01, (len(labels), prepared.embedding.width))
    classifier = Classifier("linear", "softmax", linear(drawn, np.zeros(len(labels))))
    told = {"id": "random", "estimator": "LogisticRegression", "features": "full", "labels": labels, "pca": None}
    parts = Parts("classifier", told, prepared, None, Chain(classifier, tuple(labels), {}))
    files = seal(facts_of(parts, f"{network}-{precision}", network, {}), {**files_of(parts), CARD: b"# random\n"})
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def measure(address: str, size: str, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Engine, server and peer in turn, for one size of pictures."""
    from mirabelle import open_bundle

    bundle = open_bundle(address, given.cores)
    pictures = photographs(SIZES[size])
    layout = fastest(bundle, 2 * given.seconds)
    entry: dict[str, Any] = {
        "network": bundle.info.name,
        "precision": bundle.info.precision,
        "pictures": size,
        "bytes": round(statistics.mean(map(len, pictures))),
        "layout": str(layout),
        "decode_core_seconds": decoding(bundle, pictures, given.seconds / 4),
        "alone_seconds": [],
        "sides": {},
    }
    with ExitStack() as stack:
        sides: dict[str, Running] = {}
        for name, start in starts(address, given, scratch).items():
            try:
                sides[name] = stack.enter_context(start())
                version = peer_version() if name == PEER else ""
                entry["sides"][name] = {"version": version, "ready_seconds": sides[name].ready_seconds, "loops": []}
            except CannotRun as error:
                entry["sides"][name] = {"not_run": str(error), "loops": []}
        for _ in range(given.rounds):
            entry["alone_seconds"].append(one_by_one(bundle, pictures, given.seconds / 2))
            before = engine_alone(bundle, layout, given.seconds / 2)
            for clients, (name, side) in product(map(int, given.clients.split(",")), sides.items()):
                loop = ask(side, pictures, clients, given.seconds)
                after = engine_alone(bundle, layout, given.seconds / 2)
                entry["sides"][name]["loops"].append({"clients": clients, "engine": [before, after], **loop})
                before = after
        for name, side in sides.items():
            entry["sides"][name]["resident_mib"] = side.resident_mib()
    return entry


def ask(side: Running, pictures: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """A loop's figures; or why it has none: a server that refuses under one load may answer under another."""
    try:
        loop = closed_loop(side.address, pictures, clients, seconds)
    except RuntimeError as error:
        return {"refused": str(error)}
    return {"speed": loop.speed, "p50_seconds": loop.at(0.5), "p99_seconds": loop.at(0.99)}


def starts(address: str, given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """By name, what starts each server."""
    found: dict[str, Any] = {OURS: partial(mirabelle, address, given.cores, [PATIENCE, *given.settings])}
    return found if given.no_peer else {**found, PEER: partial(bentoml, address, given.cores, scratch)}


@dataclass(frozen=True)
class Layout:
    """How the engine runs alone: so many pictures at a time, on all threads or on each half of them."""

    batch: int
    is_halved: bool

    def __str__(self) -> str:
        return f"batch {self.batch}" + (" on each half" if self.is_halved else "")


def fastest(bundle: Any, seconds: float) -> Layout:
    """That with which the engine is fastest."""
    halved = (False, True) if bundle.threads % 2 == 0 else (False,)
    layouts = [Layout(batch, is_halved) for is_halved in halved for batch in ENGINE_BATCHES]
    return max(layouts, key=lambda layout: engine_alone(bundle, layout, seconds / len(layouts)))


def engine_alone(bundle: Any, layout: Layout, seconds: float) -> float:
    """Pictures a second of the bundle's engine on ready tensors."""
    side = bundle.info.input_px
    pixels = np.random.default_rng(0).integers(0, 255, (layout.batch, side, side, 3), dtype=np.uint8)
    halves = (0, 1) if layout.is_halved else (None,)

    def run(half: int | None) -> int:
        done = 0
        while time.perf_counter() - began < seconds or not done:
            bundle.infer(pixels, half)
            done += layout.batch
        return done

    for half in halves:
        bundle.infer(pixels, half)
    began = time.perf_counter()
    with ThreadPoolExecutor(len(halves)) as pool:
        done = sum(pool.map(run, halves))
    return done / (time.perf_counter() - began)


def decoding(bundle: Any, pictures: list[bytes], seconds: float) -> float:
    """Median core-seconds of decoding a picture."""
    found: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(found) < len(pictures):
        start = time.thread_time()
        bundle.decode(pictures[len(found) % len(pictures)])
        found.append(time.thread_time() - start)
    return statistics.median(found)


def one_by_one(bundle: Any, pictures: list[bytes], seconds: float) -> float:
    """Median seconds of decoding a picture and running the network on it, and nothing else."""
    found: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or not found:
        start = time.perf_counter()
        bundle.infer(bundle.decode(pictures[len(found) % len(pictures)]).pixels[None])
        found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    main()
