"""Rounds of a comparison: every side on few and on many pictures, in turn, with the engine's bound beside Mirabelle's.

Steady images a second are the pictures more over the seconds more, for all sides alike, so that starting up costs none
of them anything there. Each side starts anew on an empty output folder; its features are compared with Mirabelle's own
in float32. Starts processes; writes below the work folder alone.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bound import Speed, best
from inputs import Pictures
from sides import CannotRun, Mirabelle, Run, Side, Work, agreement, output_of, read_features
from steady import steady

HERE = Path(__file__).parent
Part = dict[str, Any]
Features = dict[str, NDArray[np.float32]]
WARM_UP_IMAGES = 4


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Attributes:
        work: folder that everything is written below; absolute.
        cores: to use.
        native: precisions that the machine computes natively, float32 first.
        weights: by backbone, as Mirabelle names them.
        rounds: of each comparison.
        bound_seconds: for one figure of the bound.
        quick: whether the bound is looked for among few layouts.
        say: what to do with a line of progress.
    """

    work: Path
    cores: int
    native: tuple[str, ...]
    weights: dict[str, str]
    rounds: int
    bound_seconds: float
    quick: bool
    say: Callable[[str], None]

    @property
    def cache(self) -> Path:
        """Mirabelle's."""
        return self.work / "cache"

    def network(self, backbone: str) -> Path:
        """Folder of the converted network."""
        return self.work / "networks" / backbone


def export_network(bench: Bench, backbone: str) -> None:
    """Have the network converted into Mirabelle's cache, and the very files that it sends put where peers find them."""
    # In a process that ends, as Keras and its backend keep their memory and threads.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(convert, backbone, bench.weights[backbone], bench.cache, bench.network(backbone)).result()


def convert(backbone: str, weights: str, cache: Path, target: Path) -> None:
    """Write the converted network's files into ``target``, by way of the cache."""
    from mirabelle import networks
    from mirabelle.config import load

    settings = [f"cache={cache}", f"backbone.name={backbone}", f"backbone.weights={weights}"]
    config = load(None, ["images.root=.", "output=.", *settings], {})
    target.mkdir(parents=True, exist_ok=True)
    for name, content in networks.prepare(config, "float32").files.items():
        (target / name).write_bytes(content)


def warm_up(bench: Bench, backbone: str, pictures: Pictures) -> None:
    """One run that nobody times, so that the first of those that count finds Spark and Python in memory too."""
    with tempfile.TemporaryDirectory(dir=bench.work) as scratch:
        some = pictures.spread(WARM_UP_IMAGES)
        Mirabelle().run(work_for(bench, backbone, "float32", some, Path(scratch)))


def work_for(bench: Bench, backbone: str, precision: str, pictures: Pictures, scratch: Path) -> Work:
    """A side's work on these pictures, in ``scratch``."""
    return Work(
        pictures.link(scratch / "pictures"),
        len(pictures.paths),
        backbone,
        bench.weights[backbone],
        bench.network(backbone),
        precision,
        bench.cores,
        scratch,
        bench.cache,
    )


def measure_bound(bench: Bench, backbone: str, precision: str, only: Speed | None = None) -> list[Speed]:
    """The engine alone: all layouts and batch sizes, or ``only`` one."""
    command = [sys.executable, str(HERE / "bound.py"), "--network", str(bench.network(backbone))]
    command += ["--precision", precision, "--cores", str(bench.cores)]
    if only is not None:
        command += ["--layout", only.layout, "--batch", str(only.batch), "--seconds", str(bench.bound_seconds)]
    elif bench.quick:
        command += ["--quick"]
    return [Speed(**row) for row in json.loads(output_of(command))]


def find_bound(bench: Bench, backbone: str, precision: str) -> Part:
    """All layouts once, and the three fastest again thrice, as the fastest of many noisy figures is partly luck."""
    grid = measure_bound(bench, backbone, precision)
    fastest = sorted(grid, key=lambda speed: -speed.images_per_second)[: 1 if bench.quick else 3]
    again: dict[Speed, list[float]] = {speed: [] for speed in fastest}
    for _ in range(1 if bench.quick else 3):
        for speed in fastest:
            again[speed].append(best(measure_bound(bench, backbone, precision, speed)).images_per_second)
    chosen = max(again, key=lambda speed: float(np.median(again[speed])))
    bench.say(f"  bound of {backbone} in {precision}: {np.median(again[chosen]):.1f} images/s, {chosen.layout}")
    return {
        "backbone": backbone,
        "precision": precision,
        "grid": [speed.__dict__ for speed in grid],
        "layout": chosen.layout,
        "batch": chosen.batch,
        "images_per_second": again[chosen],
    }


@dataclass(frozen=True)
class Comparison:
    """What the sides are compared on.

    Attributes:
        backbone: the network.
        few, many: pictures; ``few`` are among ``many``.
        bounds: the layout and batch that are fastest, by precision.
    """

    backbone: str
    few: Pictures
    many: Pictures
    bounds: dict[str, Speed]


def compare(
    bench: Bench, comparison: Comparison, sides: Sequence[Side], keep: Path | None, save: Callable[[Part], None]
) -> Part:
    """Run all rounds; ``save`` gets what there is after each.

    Args:
        bench: what all measurements share.
        comparison: what to run.
        sides: Mirabelle first.
        keep: where to leave Mirabelle's float32 output, for those who need real features.
        save: called after every round.
    """
    entries: list[Part] = [
        {"side": side.name, "precision": precision, "told": "", "versions": {}, "rounds": []}
        for side in sides
        for precision in side.precisions(bench.native)
    ]
    by_name = {side.name: side for side in sides}
    part: Part = {
        "backbone": comparison.backbone,
        "weights": Path(bench.weights[comparison.backbone]).name,
        "input": comparison.many.kind.letter,
        "source": comparison.many.source,
        "few": len(comparison.few.paths),
        "many": len(comparison.many.paths),
        "entries": entries,
    }
    reference: Features = {}
    for number in range(bench.rounds):
        # Mirabelle in float32, which the others are compared with, comes first in the first round.
        for entry in entries[number % len(entries) :] + entries[: number % len(entries)]:
            if "not_run" in entry:
                continue
            try:
                row = one_round(bench, comparison, by_name[entry["side"]], entry, (reference, keep))
            except CannotRun as error:
                if entry["side"] == Mirabelle.name:
                    raise
                entry["not_run"] = str(error)
                bench.say(f"  {entry['side']}, {entry['precision']}: not run: {error}")
                continue
            entry["rounds"].append(row)
            bench.say(f"  round {number + 1}, {entry['side']}, {entry['precision']}: {told(part, row)}")
        save(part)
    return part


def told(part: Part, row: Part) -> str:
    """A round in a line."""
    speed = steady(part["few"], part["many"], row["few_seconds"], row["many_seconds"])
    return f"{row['few_seconds']:.1f} s and {row['many_seconds']:.1f} s, {speed or 0:.1f} images/s"


def one_round(
    bench: Bench, comparison: Comparison, side: Side, entry: Part, features: tuple[Features, Path | None]
) -> Part:
    """One side on few and on many pictures; its row of the round. ``entry`` learns what holds for all rounds."""
    precision, bounds = entry["precision"], []
    is_ours = side.name == Mirabelle.name
    if is_ours:
        bounds.append(bound_now(bench, comparison, precision))
    row: Part = {}
    for size, pictures in (("few", comparison.few), ("many", comparison.many)):
        with tempfile.TemporaryDirectory(dir=bench.work) as scratch:
            work = work_for(bench, comparison.backbone, precision, pictures, Path(scratch))
            run = side.run(work)
            check_features(work, entry, is_ours, *features)
        row |= {f"{size}_seconds": run.seconds}
        if is_ours:
            row |= profile_of(size, run)
        entry |= {"told": run.told, "versions": run.versions}
    if is_ours:
        bounds.append(bound_now(bench, comparison, precision))
        row["bound"] = sum(bounds) / len(bounds)
    return row


def profile_of(size: str, run: Run) -> Part:
    """What Mirabelle's manifest says of where the time went, which the table shows and no figure rests on."""
    return {f"{size}_stages": run.stages, f"{size}_workers": run.worker_seconds}


def bound_now(bench: Bench, comparison: Comparison, precision: str) -> float:
    """The bound at this moment, as a machine's speed drifts."""
    return best(measure_bound(bench, comparison.backbone, precision, comparison.bounds[precision])).images_per_second


def check_features(work: Work, entry: Part, is_ours: bool, reference: Features, keep: Path | None) -> None:
    """Hold a run's features against Mirabelle's in float32, by way of the lowest cosine of all runs."""
    try:
        found = read_features(work.output, work.pictures)
    except (ValueError, KeyError, OSError) as error:  # Arrow's errors are among them
        raise CannotRun(f"its output can't be read: {error}") from error
    if len(found) != work.images:
        raise CannotRun(f"it gave features of {len(found)} of {work.images} pictures")
    if is_ours and work.precision == "float32":
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(work.output / "features", keep)
        reference.update({path: row for path, row in found.items() if path not in reference})
    near = agreement(found, {path: row for path, row in reference.items() if path in found})
    entry["lowest_cosine"] = min(near.cosine, entry.get("lowest_cosine", 1.0))
    entry["lowest_centred"] = min(near.centred, entry.get("lowest_centred", 1.0))
