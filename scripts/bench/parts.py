"""The parts of the benchmark, each a function from what is shared to its piece of the results. Starts processes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import decode
import files
import inputs
from bench import Bench, export_network, warm_up
from bound import Speed
from estimate import BOUND_SEARCH_SECONDS, OTHER_PARTS, round_seconds, start_seconds
from inputs import Pictures
from rounds import Comparison, Part, compare, find_bound, to_warm_up
from sides import NOT_INSTALLED, PYTHONS, CannotRun, Mirabelle, MirabelleInt8, Side, find_peers, output_of
from targets import BACKBONES

HERE = Path(__file__).parent
Save = Callable[[Part], None]

# Pictures, few and many, for each part and network: enough that some seconds more or less of a start don't count. A
# peer that is much slower than all others, or slower to start, has its own, by its program's name.
COUNTS = {
    ("extract-a", "resnet50"): (100, 5_000),
    ("extract-a", "vgg16"): (24, 144),
    ("extract-b", "resnet50"): (50, 350),
    ("extract-b", "vgg16"): (24, 120),
    ("extract-c", "resnet50"): (8, 128),
    ("extract-c", "vgg16"): (8, 40),
    # As many of the peers' batches of 16 for either core: else one is idle at the end, on few pictures for
    # a larger share of the time, and the difference flatters whoever it was.
    ("peers", "resnet50"): (96, 480),
    ("peers", "vgg16"): (32, 128),
    ("peers-b", "resnet50"): (50, 250),
    ("peers-c", "resnet50"): (8, 104),
    ("synapseml", "resnet50"): (50, 300),
    # Starting takes it 12 to 15 s, a second of which is a tenth of what these pictures take.
    ("ray_data", "resnet50"): (96, 768),
}
# As fast as we are but for some hundredths, so that it takes all rounds to tell who is ahead.
NEAR = ("mirabelle", "daft_job", "openvino_pool", "ray_data")
# Further behind: half of them, in the fastest precision. All others are two to five times slower, and one says so.
BEHIND = ("predict_batch_udf",)
# On photographs, where whoever decodes cheaper is ahead: the nearest two.
ON_PHOTOGRAPHS = ("daft_job", "openvino_pool")
EXTRACTS, COMPARISONS = ("extract-a", "extract-b", "extract-c"), ("peers", "peers-b", "peers-c")
PARTS = ("bound", "decode", *EXTRACTS, "files", *COMPARISONS, "pca", "serve")
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

    def size(self, part: str, backbone: str, side: Side) -> tuple[int, int]:
        """Pictures for a side, few and many."""
        return self.counts.get((side.program, backbone), self.counts[part, backbone])

    def rounds(self, part: str, backbone: str, side: Side, precision: str) -> int:
        """So many as it takes to tell a side from Mirabelle, with the network and in the precision; 0: not compared."""
        if part.startswith("extract-"):
            # Between two bounds of its own; on (a) it runs on thousands, and VGG16 is nearly all engine.
            return 1 if part == "extract-a" or backbone == "vgg16" else -(-self.bench.rounds // 3)
        is_first = (part, backbone) == ("peers", "resnet50")
        if precision == "int8":
            return self.bench.rounds if is_first else 0
        is_best = precision == self.bench.native[-1]
        if not is_best and not is_first:
            # The others' features are held against Mirabelle's in float32.
            return int(side.program == Mirabelle.program)
        if side.program not in (NEAR if not is_best else (*NEAR, *BEHIND)):
            return int(is_first)
        share = 3 if not is_best else 1 if side.program in NEAR and part == "peers" else 2
        return -(-self.bench.rounds // share)

    def bound_seconds(self, part: str) -> float:
        """For a figure of the bound in a part: half where runs are short; peers are held against Mirabelle alone."""
        if part.startswith("peers"):
            return 0
        return (1 if part == "extract-a" else 0.5) * self.bench.bound_seconds

    def network(self, backbone: str) -> None:
        """Have it converted and exported, once."""
        if backbone not in self.exported:
            export_network(self.bench, backbone)
            if not self.short:
                warm_up(self.bench, Mirabelle(), backbone, self.pictures("a", self.most("a")))
            self.exported.add(backbone)

    def most(self, letter: str) -> int:
        """Pictures of an input that any part wants, so that they are made once."""
        users = [part for part in (*EXTRACTS, *COMPARISONS) if letter_of(part) == letter]
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


def run_extract(name: str, session: Session, save: Save) -> Part:
    """Mirabelle alone on one input, with every network and precision."""
    return run_comparisons(name, [Mirabelle()], session, save)


def run_peers(name: str, session: Session, save: Save) -> Part:
    """Mirabelle and its peers on one input."""
    sides, broken = peers_and_ours(name, session)
    return run_comparisons(name, sides, session, save) | {"broken": broken if name == "peers" else {}}


def peers_and_ours(name: str, session: Session) -> tuple[list[Side], dict[str, str]]:
    """Mirabelle and the peers of a part, and why others can't say what they are."""
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
    for name in (*EXTRACTS, *COMPARISONS):
        sides = peers_and_ours(name, session)[0] if name.startswith("peers") else [Mirabelle()]
        seconds[name] = sum(
            round_seconds(
                side.program,
                (backbone, precision),
                letter_of(name),
                session.size(name, backbone, side),
                bench.cores,
                session.bound_seconds(name),
            )
            for backbone in session.backbones
            for side in sides
            for precision in side.precisions(bench.native)
            for _ in range(session.rounds(name, backbone, side, precision))
            if (name, backbone) in session.counts
        )
        # Each peer once, untimed, on hardly any pictures.
        seconds[name] += sum(start_seconds(side.program) for side in to_warm_up(sides))
    return seconds


def run_comparisons(name: str, sides: Sequence[Side], session: Session, save: Save) -> Part:
    """One comparison a network."""
    letter = letter_of(name)
    part: Part = {"comparisons": []}
    for backbone in session.backbones:
        if (name, backbone) not in session.counts:
            continue
        session.network(backbone)
        pictures = session.pictures(letter, session.most(letter))
        wanted = {side.name: session.size(name, backbone, side) for side in sides}
        there = len(pictures.paths)
        sizes = {key: pair if pair[1] <= there else (max(1, there // 5), there) for key, pair in wanted.items()}
        few, many = sizes[Mirabelle.name]
        session.bench.say(f"  {backbone}, ({letter}) {pictures.source}, {few} and {many} pictures")
        seconds = session.bound_seconds(name)
        bounds = bounds_for(session, backbone) if seconds else {}
        rounds = {
            (side.name, precision): session.rounds(name, backbone, side, precision)
            for side in sides
            for precision in side.precisions(session.bench.native)
        }
        is_first = not part["comparisons"]
        comparison = Comparison(backbone, pictures.spread(many), sizes, bounds, seconds, rounds, is_first)
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


def run_decode(session: Session, save: Save) -> Part:
    """Every decoder on every input, in alternating rounds."""
    rows = {
        (letter, name): {"input": letter, "decoder": name, "core_ms": []}
        for letter in DECODED
        for name, (_, is_ours) in decode.DECODERS.items()
        if is_ours or not session.short
    }
    with tempfile.TemporaryDirectory(dir=session.bench.work) as scratch:
        for letter, count in DECODED.items():
            pictures = session.pictures(letter, session.most(letter))
            pictures.spread(2 if session.short else count).link(Path(scratch) / letter)
        for _ in range(-(-session.bench.rounds // 3)):
            for (letter, name), row in rows.items():
                time_decoder(session, Path(scratch) / letter, name, row)
            save({"rows": list(rows.values())})
    return {"rows": list(rows.values())}


def time_decoder(session: Session, pictures: Path, name: str, row: dict[str, Any]) -> None:
    """One figure more for a decoder, or why there is none."""
    if "not_run" in row:
        return
    python = PYTHONS["main" if decode.DECODERS[name][1] else "bench"]
    if not python.is_file():
        row["not_run"] = NOT_INSTALLED
        return
    command = [str(python), str(HERE / "decode.py"), "--pictures", str(pictures), "--decoder", name]
    try:
        told = json.loads(output_of([*command, "--seconds", "0.1" if session.short else "0.7"]))
    except CannotRun as error:
        row["not_run"] = str(error)
        return
    row["core_ms"].append(told["core_ms"])
    row["apart"] = told["apart"]


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
