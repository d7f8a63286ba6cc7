"""The parts of the benchmark, each a function from what is shared to its piece of the results. Starts processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import files
import inputs
from bench import Bench, export_network, warm_up
from bound import Speed
from estimate import BOUND_SEARCH_SECONDS, OTHER_PARTS, round_seconds, start_seconds
from inputs import Pictures
from rounds import Comparison, Part, compare, find_bound, to_warm_up
from sides import CannotRun, Mirabelle, MirabelleInt8, Side, find_peers
from targets import BACKBONES

Save = Callable[[Part], None]

# Pictures, few and many, for each part and network: enough that some seconds more or less of a start don't count. A
# peer that is much slower than all others, or slower to start, has its own, by its program's name.
COUNTS = {
    ("extract-a", "resnet50"): (100, 5_000),
    # The whole job is judged in the fastest precision; here a start is a tenth of what these take.
    ("extract-a-float32", "resnet50"): (100, 1_500),
    ("extract-a", "vgg16"): (24, 144),
    # Of 300 the difference took four seconds, and where starts stalled it was above the bound.
    ("extract-b", "resnet50"): (50, 500),
    ("extract-b", "vgg16"): (24, 120),
    ("extract-c", "resnet50"): (8, 104),
    ("extract-c", "vgg16"): (8, 40),
    # As many of the peers' batches of 16 for either core: else one is idle at the end, on few pictures for
    # a larger share of the time, and the difference flatters whoever it was.
    ("peers", "resnet50"): (96, 480),
    ("peers", "vgg16"): (32, 128),
    ("synapseml", "resnet50"): (50, 300),
    # Starting takes it 12 to 15 s, a second of which is a tenth of what these pictures take.
    ("ray_data", "resnet50"): (96, 768),
}
# As fast as we are but for some hundredths, so that it takes all rounds to tell who is ahead.
NEAR = ("mirabelle", "daft_job", "openvino_pool")
# So are these, or behind, and slow to start, by which a round of theirs takes twice as long: in the fastest precision
# alone, and half of the rounds, but for Ray Data with the first network. All others say in one that they are slower.
LATE = ("ray_data", "predict_batch_udf")
# On photographs, where whoever decodes cheaper is ahead: the nearest two, in half of the rounds.
ON_PHOTOGRAPHS = ("daft_job", "openvino_pool")
EXTRACTS = ("extract-a", "extract-b", "extract-c")
COMPARISONS = (*EXTRACTS, "peers")
PARTS = ("bound", "decode", *EXTRACTS, "files", "peers", "pca", "serve")
# Pictures that the decoders are timed on.
DECODED = {"a": 200, "b": 16, "c": 4}
FILE_ROWS = 5_000
# Starts quickest, in Mirabelle's own environment.
SHORT_PEER = "openvino_pool"


@dataclass
class Session:
    """One invocation: what is shared, the pictures that were asked for, and what one part learns for the next.

    Attributes:
        bench: what all measurements share.
        given: folders of pictures by input, where there are any.
        counts: as ``COUNTS``.
        short: whether only a little is to be run.
        bounds: fastest layouts by network and precision, as far as they are known.
        exported: networks that are converted and ready.
    """

    bench: Bench
    given: dict[str, Path]
    counts: dict[tuple[str, str], tuple[int, int]]
    short: bool = False
    bounds: dict[tuple[str, str], Speed] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)

    @property
    def backbones(self) -> list[str]:
        """The networks to measure."""
        return [name for name in BACKBONES if name in self.bench.weights]

    def pictures(self, letter: str, count: int) -> Pictures:
        """So many of an input."""
        return inputs.prepare(letter, count, self.given.get(letter), self.bench.work)

    def size(self, part: str, backbone: str, side: Side, precision: str) -> tuple[int, int]:
        """Pictures for a side in a precision, few and many."""
        own = [key for key in (side.program, f"{part}-{precision}") if (key, backbone) in self.counts]
        return self.counts[own[0] if own else part, backbone]

    def rounds(self, part: str, backbone: str, side: Side, precision: str) -> int:
        """So many as it takes to tell a side from Mirabelle, with the network and in the precision; 0: not compared."""
        whole, half = self.bench.rounds, -(-self.bench.rounds // 2)
        is_ours, is_resnet = side.program == Mirabelle.program, backbone == BACKBONES[0]
        if precision == "int8":
            return whole if is_resnet else 0
        is_best = precision == self.bench.native[-1]
        if part != "peers":
            # On (a) thousands are enough for one round to tell, and VGG16 is nearly all engine.
            return half if is_best and is_resnet and part != "extract-a" else int(is_ours)
        if not is_best:
            # The others' features are held against Mirabelle's in float32.
            return int(is_ours or (is_resnet and side.program not in LATE))
        if side.program in LATE:
            return whole if is_resnet and side.program == "ray_data" else half
        return whole if side.program in NEAR else int(is_resnet)

    def bound_seconds(self, part: str) -> float:
        """For a figure of the bound in a part: half where runs are short; the peers' part is of ratios to Mirabelle."""
        return {"peers": 0.0, "extract-a": 1.0}.get(part, 0.5) * self.bench.bound_seconds

    def network(self, backbone: str) -> None:
        """Have it converted and exported, once."""
        if backbone not in self.exported:
            export_network(self.bench, backbone)
            if not self.short:
                warm_up(self.bench, Mirabelle(), backbone, self.pictures("a", self.most("a")))
            self.exported.add(backbone)

    def most(self, letter: str) -> int:
        """Pictures of an input that any part wants, so that they are made once."""
        users = [part for part in COMPARISONS if letter_of(part) == letter]
        compared = [
            many
            for (part, network), (_, many) in self.counts.items()
            if part in users and network in self.bench.weights
        ]
        return max([2 if self.short else DECODED[letter], *compared])


def run_bound(session: Session, save: Save) -> Part:
    """The engine alone, for every network and precision."""
    part: Part = {"bounds": []}
    for backbone in session.backbones:
        session.network(backbone)
        for precision in session.bench.native:
            found = find_bound(session.bench, backbone, precision)
            part["bounds"].append(found)
            save(part)
    learn_bounds(session, part)
    return part


def learn_bounds(session: Session, part: Part) -> None:
    """Keep the fastest layouts for the parts to come."""
    for one in part.get("bounds", []):
        speed = Speed(one["layout"], one["batch"], one["images_per_second"][0])
        session.bounds[one["backbone"], one["precision"]] = speed


def letter_of(name: str) -> str:
    """Of the input that a part runs on."""
    return "a" if name == "peers" else name[-1]


def run_sides(name: str, session: Session, save: Save) -> Part:
    """Mirabelle, between two bounds or beside its peers or both, on one input with every network and precision."""
    sides, broken = sides_of(name, session)
    return run_comparisons(name, sides, session, save) | {"broken": broken if name == "peers" else {}}


def sides_of(name: str, session: Session) -> tuple[list[Side], dict[str, str]]:
    """Mirabelle and the peers of a part, and why others can't say what they are."""
    if name == "extract-a":
        return [Mirabelle()], {}
    found, broken = find_peers()
    if session.short or name != "peers":
        programs = (SHORT_PEER,) if session.short else ON_PHOTOGRAPHS
        return [Mirabelle(), *(peer for peer in found if peer.program in programs)], broken
    return [Mirabelle(), MirabelleInt8(), *found], broken


def plan(session: Session) -> dict[str, float]:
    """Seconds that each part takes, roughly."""
    bench = session.bench
    seconds: dict[str, float] = {
        **OTHER_PARTS,
        "bound": BOUND_SEARCH_SECONDS * len(session.backbones) * len(bench.native),
    }
    for name in COMPARISONS:
        sides, _ = sides_of(name, session)
        seconds[name] = sum(
            round_seconds(
                side.program,
                (backbone, precision),
                letter_of(name),
                session.size(name, backbone, side, precision),
                bench.cores,
                session.bound_seconds(name) if side.name == Mirabelle.name else 0,
            )
            for backbone in session.backbones
            for side, precision in with_precisions(sides, session)
            for _ in range(session.rounds(name, backbone, side, precision))
            if (name, backbone) in session.counts
        )
        # Each peer once, untimed, on hardly any pictures.
        seconds[name] += sum(start_seconds(side.program) for side in to_warm_up(sides))
    return seconds


def with_precisions(sides: Sequence[Side], session: Session) -> list[tuple[Side, str]]:
    """Each side with each precision that it has here."""
    return [(side, precision) for side in sides for precision in side.precisions(session.bench.native)]


def run_comparisons(name: str, sides: Sequence[Side], session: Session, save: Save) -> Part:
    """One comparison a network."""
    letter = letter_of(name)
    part: Part = {"comparisons": []}
    for backbone in session.backbones:
        if (name, backbone) not in session.counts:
            continue
        session.network(backbone)
        pictures = session.pictures(letter, session.most(letter))
        there = len(pictures.paths)
        sizes, rounds = {}, {}
        for side, precision in with_precisions(sides, session):
            few, many = session.size(name, backbone, side, precision)
            sizes[side.name, precision] = (few, many) if many <= there else (max(1, there // 5), there)
            rounds[side.name, precision] = session.rounds(name, backbone, side, precision)
        few, many = sizes[Mirabelle.name, session.bench.native[-1]]
        session.bench.say(f"  {backbone}, ({letter}) {pictures.source}, {few} and {many} pictures")
        seconds = session.bound_seconds(name)
        bounds = bounds_for(session, backbone) if seconds else {}
        some = pictures.spread(max(pair[1] for pair in sizes.values()))
        is_first = not part["comparisons"]
        comparison = Comparison(backbone, some, sizes, bounds, seconds, rounds, is_first)
        keep = features_folder(session, backbone) if letter == "a" else None
        save_with = partial(save_comparison, save, list(part["comparisons"]))
        part["comparisons"].append(compare(session.bench, comparison, sides, keep, save_with))
    return part


def save_comparison(save: Save, before: list[Part], made: Part) -> None:
    """One that is under way, after those that are done."""
    save({"comparisons": [*before, made]})


def bounds_for(session: Session, backbone: str) -> dict[str, Speed]:
    """The fastest layout for each precision, looked for where no earlier part has."""
    for precision in session.bench.native:
        if (backbone, precision) not in session.bounds:
            learn_bounds(session, {"bounds": [find_bound(session.bench, backbone, precision)]})
    return {precision: session.bounds[backbone, precision] for precision in session.bench.native}


def features_folder(session: Session, backbone: str) -> Path:
    """Where real features are left for the part that writes files."""
    return session.bench.work / "features" / backbone


def run_files(session: Session, save: Save) -> Part:
    """Ways to write the features that earlier parts have left; raises CannotRun where none has."""
    part: Part = {"tables": []}
    for backbone in session.backbones:
        folder = features_folder(session, backbone)
        if not folder.is_dir():
            continue
        table = files.read_rows(folder, FILE_ROWS)
        ways = files.measure(table, 1 if session.short else 3)
        figures = [{**way.__dict__, "cost_seconds": way.cost_seconds} for way in ways]
        part["tables"].append({"backbone": backbone, "rows": len(table), "ways": figures})
        save(part)
    if not part["tables"]:
        raise CannotRun("there are no features to write; run extract-a or peers first")
    return part


def clear_outputs(bench: Bench) -> None:
    """Remove what an interrupted run left half-way."""
    for left in bench.work.glob("tmp*"):
        shutil.rmtree(left, ignore_errors=True)
