"""The bound: how many images a second the engine does alone, on ready tensors, with nothing else running.

Tries thread layouts (one process with all the threads, one with a stream a core and requests in flight, one process a
core) and batch sizes, each warmed up and then run for some seconds, and prints every figure as JSON. `run.py` starts it
as a process of its own, once for all layouts and then for the best one before and after what it measures. Batches grow
for as long as that is faster.

    python scripts/bench/bound.py --network FOLDER --precision float32 --cores 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 8, 32)
QUICK_BATCHES = (8,)
WAIT_SECONDS = 300
# Of the best so far: what is slower than that is so by more than noise.
SLOWER = 0.97
# What a batch may take: larger ones gain nothing.
BATCH_SECONDS = 5.0


@dataclass(frozen=True)
class Layout:
    """How the cores are shared out: processes of so many threads each; ``streams`` of 0 is one request at a time."""

    processes: int
    threads: int
    streams: int = 0

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        if self.streams:
            return f"1 process, {self.streams} streams"
        return f"{self.processes} process{'' if self.processes == 1 else 'es'} of {self.threads} thread{plural}"


@dataclass(frozen=True)
class Speed:
    """Images a second of one layout at one batch size."""

    layout: str
    batch: int
    images_per_second: float


def layouts(cores: int) -> list[Layout]:
    """Those worth trying: every even share of the cores, and the engine's own streams."""
    counts = [n for n in (1, 2, 4, cores // 2, cores) if 0 < n <= cores and cores % n == 0]
    shared = [Layout(n, cores // n) for n in sorted(set(counts))]
    return [*shared, Layout(1, cores, streams=cores)] if cores > 1 else shared


def compile_network(network: Path, precision: str, layout: Layout) -> Any:
    """For this process's share of the layout; set as Mirabelle's workers set it, but for streams."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if layout.streams else "LATENCY",
        "NUM_STREAMS": layout.streams or 1,
        "INFERENCE_NUM_THREADS": layout.threads,
        "INFERENCE_PRECISION_HINT": openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32,
    }
    if layout.processes > 1:
        # They would all pin themselves to the first cores.
        settings["ENABLE_CPU_PINNING"] = False
    return core.compile_model(core.read_model(network / "model.xml"), "CPU", settings)


def run_for(seconds: float, compiled: Any, batch: int, layout: Layout, start: Any) -> float:
    """Images a second of this process; ``start`` is waited for after the warm-up."""
    import openvino

    side_px = int(compiled.input(0).partial_shape[1].get_length())
    pixels = np.random.default_rng(0).integers(0, 255, (batch, side_px, side_px, 3), dtype=np.uint8)
    queue = openvino.AsyncInferQueue(compiled, layout.streams or 1)
    request = compiled.create_infer_request()

    def infer() -> None:
        if layout.streams:
            queue.start_async([pixels], share_inputs=True)
        else:
            request.infer([pixels], share_inputs=True)

    for _ in range(layout.streams or 1):
        infer()
    queue.wait_all()
    start.wait(WAIT_SECONDS)
    batches, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        infer()
        batches += 1
    queue.wait_all()
    return batches * batch / (time.perf_counter() - began)


def work(network: Path, precision: str, layout: Layout, seconds: float, ends: Any) -> None:
    """One process of a layout: a figure for each batch size that it is told, until that is 0."""
    start, orders, answers = ends
    compiled = compile_network(network, precision, layout)
    while batch := orders.get():
        # All wait for one another at the start, so that none takes two orders.
        answers.put(run_for(seconds, compiled, batch, layout, start))


def measure(network: Path, precision: str, layout: Layout, batches: tuple[int, ...], seconds: float) -> list[Speed]:
    """The layout's images a second, summed over its processes, at each batch size worth trying."""
    spawn = multiprocessing.get_context("spawn")
    start, orders, answers = spawn.Barrier(layout.processes), spawn.Queue(), spawn.Queue()
    given = (network, precision, layout, seconds, (start, orders, answers))
    workers = [spawn.Process(target=work, args=given, daemon=True) for _ in range(layout.processes)]
    for worker in workers:
        worker.start()

    def ask(batch: int) -> float:
        for _ in workers:
            orders.put(batch)
        return float(sum(answers.get(timeout=WAIT_SECONDS) for _ in workers))

    found: list[Speed] = []
    for batch in batches:
        if found and not is_worth_trying(batch, layout, found):
            break
        found.append(Speed(str(layout), batch, round(ask(batch), 2)))
    for _ in workers:
        orders.put(0)
    for worker in workers:
        worker.join()
    return found


def is_worth_trying(batch: int, layout: Layout, found: list[Speed]) -> bool:
    """Whether a larger batch may be faster: growing has not made it slower, and it is done within seconds."""
    speed = best(found).images_per_second
    at_once = batch * (layout.streams or layout.processes)
    return found[-1].images_per_second >= SLOWER * speed and at_once / speed <= BATCH_SECONDS


def best(speeds: Iterable[Speed]) -> Speed:
    """The fastest."""
    return max(speeds, key=lambda speed: speed.images_per_second)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, required=True, help="folder of model.xml and model.bin")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each figure, after the warm-up (default: %(default)s)"
    )
    parser.add_argument("--layout", help="this one alone, as the output names it")
    parser.add_argument("--batch", type=int, action="append", help="this size alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one batch size, half a second each")
    options = parser.parse_args()
    chosen = [layout for layout in layouts(options.cores) if options.layout in (None, str(layout))]
    if not chosen:
        parser.error(f"--layout is one of {', '.join(map(str, layouts(options.cores)))}")
    batches = tuple(options.batch or (QUICK_BATCHES if options.quick else BATCHES))
    seconds = 0.5 if options.quick else options.seconds
    speeds = [s for layout in chosen for s in measure(options.network, options.precision, layout, batches, seconds)]
    print(json.dumps([asdict(speed) for speed in speeds]))


if __name__ == "__main__":
    main()
