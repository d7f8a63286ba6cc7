"""Rounds of a comparison: each side on few pictures and on many in turn, the bound around Mirabelle's.

Steady images a second are the pictures more over the seconds more, for all sides alike, so that starting up costs none
of them anything there. Each side starts anew on an empty output folder; its features are compared with Mirabelle's own
in float32. Starts processes; writes below the work folder alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import Bench, warm_up, work_for
from bound import Speed, best
from estimate import round_seconds
from features import agreement, read_features
from inputs import Pictures
from sides import CannotRun, Mirabelle, Run, Side, Work, output_of
from steady import steady

HERE = Path(__file__).parent
Part = dict[str, Any]
Features = dict[str, NDArray[np.float32]]


def measure_bound(
    bench: Bench, backbone: str, precision: str, only: Speed | None = None, seconds: float = 0
) -> list[Speed]:
    """The engine alone: all layouts and batch sizes, or ``only`` one for so many seconds."""
    command = [sys.executable, str(HERE / "bound.py"), "--network", str(bench.network(backbone))]
    command += ["--precision", precision, "--cores", str(bench.cores)]
    if only is not None:
        command += ["--layout", only.layout, "--batch", str(only.batch), "--seconds", str(seconds)]
    elif bench.quick:
        command += ["--quick"]
    return [Speed(**row) for row in json.loads(output_of(command))]


def find_bound(bench: Bench, backbone: str, precision: str) -> Part:
    """All layouts, and the two fastest once more and longer, as the fastest of many noisy figures is partly luck."""
    grid = measure_bound(bench, backbone, precision)
    fastest = sorted(grid, key=lambda speed: -speed.images_per_second)[: 1 if bench.quick else 2]
    again = {
        speed: best(measure_bound(bench, backbone, precision, speed, bench.bound_seconds / 2)).images_per_second
        for speed in fastest
    }
    chosen = max(again, key=lambda speed: again[speed])
    bench.say(f"  bound of {backbone} in {precision}: {again[chosen]:.1f} images/s, {chosen.layout}")
    return {
        "backbone": backbone,
        "precision": precision,
        "grid": [speed.__dict__ for speed in grid],
        "layout": chosen.layout,
        "batch": chosen.batch,
        "images_per_second": [again[chosen]],
    }


@dataclass(frozen=True)
class Comparison:
    """What the sides are compared on.

    Attributes:
        backbone: the network.
        pictures: all that any side gets.
        sizes: how many of them, few and many, by the side's name and the precision.
        bounds: the layout and batch that are fastest, by precision; none where no bound is to be measured.
        bound_seconds: for one figure of the bound, right before and right after a run.
        rounds: how many, by the side's name and the precision; 0: it does not take part.
        starts_cold: whether no side has run yet, so that each is to be warmed up.
    """

    backbone: str
    pictures: Pictures
    sizes: dict[tuple[str, str], tuple[int, int]]
    bounds: dict[str, Speed]
    bound_seconds: float
    rounds: dict[tuple[str, str], int]
    starts_cold: bool = True


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
    entries = [
        new_entry(side, precision, comparison.sizes[side.name, precision])
        for side in sides
        for precision in side.precisions(bench.native)
        if comparison.rounds[side.name, precision]
    ]
    by_name = {side.name: side for side in sides}
    part: Part = {
        "backbone": comparison.backbone,
        "weights": Path(bench.weights[comparison.backbone]).name,
        "input": comparison.pictures.kind.letter,
        "source": comparison.pictures.source,
        "entries": entries,
    }
    for side in to_warm_up(sides) if comparison.starts_cold else []:
        try:
            warm_up(bench, side, comparison.backbone, comparison.pictures)
        except CannotRun as error:
            bench.say(f"  {side.name}: not run: {error}")
            for entry in (entry for entry in entries if entry["side"] == side.name):
                entry["not_run"] = str(error)
    reference: Features = {}
    for number in range(max(comparison.rounds.values())):
        # Mirabelle in float32, which the others are compared with, comes first. There and back, so that a machine that
        # grows steadily slower or faster does so for all alike.
        for entry in entries if number % 2 == 0 else entries[::-1]:
            side = by_name[entry["side"]]
            if number >= comparison.rounds[side.name, entry["precision"]]:
                continue
            bench.progress.done_seconds += expected_seconds(bench, comparison, side, entry["precision"])
            if "not_run" in entry:
                continue
            try:
                row = one_round(bench, comparison, side, entry, (reference, keep))
            except CannotRun as error:
                if entry["side"] == Mirabelle.name:
                    raise
                entry["not_run"] = str(error)
                bench.say(f"  {entry['side']}, {entry['precision']}: not run: {error}")
                continue
            entry["rounds"].append(row)
            bench.say(f"  round {number + 1}, {told(entry, row)}; {bench.progress.left()}")
        save(part)
    return part


def to_warm_up(sides: Sequence[Side]) -> list[Side]:
    """Those that are to run once before any figure: Mirabelle is warm by then, and what a notebook needs others do."""
    return [side for side in sides if side.program not in ("mirabelle", "notebook")]


def new_entry(side: Side, precision: str, size: tuple[int, int]) -> Part:
    """An entry of which nothing is known yet."""
    few, many = size
    facts = {"side": side.name, "precision": precision, "few": few, "many": many}
    return {**facts, "told": "", "versions": {}, "rounds": []}


def expected_seconds(bench: Bench, comparison: Comparison, side: Side, precision: str) -> float:
    """What a side's round takes, roughly."""
    letter, sizes = comparison.pictures.kind.letter, comparison.sizes[side.name, precision]
    network, seconds = (comparison.backbone, precision), comparison.bound_seconds * (side.name == Mirabelle.name)
    return round_seconds(side.program, network, letter, sizes, bench.cores, seconds)


def told(entry: Part, row: Part) -> str:
    """A round in a line."""
    speed = steady(entry["few"], entry["many"], row["few_seconds"], row["many_seconds"])
    figures = f"{row['few_seconds']:.1f} s and {row['many_seconds']:.1f} s, {speed or 0:.1f} images/s"
    return f"{entry['side']}, {entry['precision']}: {figures}"


def one_round(
    bench: Bench, comparison: Comparison, side: Side, entry: Part, features: tuple[Features, Path | None]
) -> Part:
    """One side on few and on many pictures; its row of the round. ``entry`` learns what holds for all rounds."""
    precision = entry["precision"]
    is_ours = side.name == Mirabelle.name
    row: Part = {"bounds": []}
    for size in ("few", "many"):
        # Around the run that most of the seconds are of, and in the minutes that they are of.
        if size == "many" and is_ours:
            row["bounds"] += bound_now(bench, comparison, precision)
        pictures = comparison.pictures.spread(entry[size])
        with tempfile.TemporaryDirectory(dir=bench.work) as scratch:
            work = work_for(bench, comparison.backbone, precision, pictures, Path(scratch))
            run = side.run(work)
            check_features(work, pictures, entry, is_ours, *features)
        row |= {f"{size}_seconds": run.seconds}
        if is_ours:
            row |= profile_of(size, run)
        entry |= {"told": run.told, "versions": run.versions}
    if is_ours:
        row["bounds"] += bound_now(bench, comparison, precision)
    return row


def profile_of(size: str, run: Run) -> Part:
    """What Mirabelle's manifest says of where the time went, which the table shows and no figure rests on."""
    return {f"{size}_stages": run.stages, f"{size}_workers": run.worker_seconds}


def bound_now(bench: Bench, comparison: Comparison, precision: str) -> list[float]:
    """The bound at this moment, as a machine's speed drifts; empty where the comparison has none."""
    if precision not in comparison.bounds:
        return []
    layout = comparison.bounds[precision]
    speed = best(measure_bound(bench, comparison.backbone, precision, layout, comparison.bound_seconds))
    return [speed.images_per_second]


def check_features(
    work: Work, pictures: Pictures, entry: Part, is_ours: bool, reference: Features, keep: Path | None
) -> None:
    """Hold a run's features against Mirabelle's in float32, by way of the lowest cosine of all runs.

    Raises:
        CannotRun: they can't be read, or are not of these pictures.
    """
    try:
        found = read_features(work.output, work.pictures)
    except (ValueError, KeyError, OSError) as error:  # Arrow's errors are among them
        raise CannotRun(f"its output can't be read: {error}") from error
    asked = {str(path.relative_to(pictures.root)) for path in pictures.paths}
    if found.keys() != asked:
        missing, strange = len(asked - found.keys()), len(found.keys() - asked)
        raise CannotRun(f"its output lacks {missing} of {len(asked)} pictures and has {strange} that are none")
    if is_ours and work.precision == "float32":
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(work.output / "features", keep)
        reference.update({path: row for path, row in found.items() if path not in reference})
    near = agreement(found, reference)
    entry["lowest_cosine"] = min(near.cosine, entry.get("lowest_cosine", 1.0))
    entry["lowest_centred"] = min(near.centred, entry.get("lowest_centred", 1.0))
