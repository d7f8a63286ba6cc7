"""The benchmark, with one command: prepare the pictures, run every part, write the figures.

    python scripts/bench/run.py --images FRUITS --weights vgg16=WEIGHTS.weights.h5

Writes results.json, results.md and figure.svg below --work after every round, so that an interrupted run keeps what it
had; started again, it goes on with the parts that are missing or older than the checkout. `--only peers` measures that
part anew. `--write-docs` measures nothing and puts the last results into the documentation. Parts: bound, decode,
extract-a, extract-b, extract-c, files, peers, pca, serve.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import figure
import machine
import parts
import programs
import table
from bench import Bench
from estimate import Progress
from inputs import InputError
from rounds import Part
from sides import CannotRun

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "performance.md"
FIGURE = REPOSITORY / "docs" / "performance.svg"
MARKS = ("<!-- results: written by make bench-docs -->", "<!-- end of results -->")
FORMAT = 2  # of results.json; what has another is measured anew
SHORT_COUNTS = {("extract-a", "resnet50"): (8, 24), ("peers", "resnet50"): (4, 12)}

RUNNERS: dict[str, Callable[[parts.Session, parts.Save], Part]] = {
    "bound": parts.run_bound,
    "decode": programs.run_decode,
    **{name: functools.partial(parts.run_sides, name) for name in parts.COMPARISONS},
    "files": parts.run_files,
    "pca": programs.run_pca,
    "serve": programs.run_serve,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0, 1 where a part failed, or 2 for what the caller can mend."""
    options = parse(argv)
    work: Path = options.work.resolve()
    if options.write_docs:
        return write_docs(work)
    try:
        session = open_session(options, work)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = load_results(work, session)
    parts.clear_outputs(session.bench)
    names = wanted(options, session, results)
    seconds = parts.plan(session)
    session.bench.progress.planned_seconds = sum(seconds[name] for name in names)
    failed = []
    for number, name in enumerate(names):
        session.bench.progress.done_seconds = sum(seconds[done] for done in names[:number])
        failed += [] if run_part(name, session, results) else [name]
    write(work, results)
    print((work / "results.md").read_text())
    return 1 if failed else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files for (a); rendered ones if not given")
    parser.add_argument("--photos", type=Path, help="folder of photographs for (b)")
    parser.add_argument("--large-photos", type=Path, help="folder of 24-megapixel photographs for (c)")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NETWORK=WEIGHTS",
        help="random:<seed>, imagenet or a .weights.h5 file, for resnet50 or vgg16 (default: random:0)",
    )
    parser.add_argument("--networks", default="resnet50,vgg16", help="which of them (default: both)")
    parser.add_argument("--only", help="these parts, measured anew: bound,decode,extract-a,...")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="against peers that are near, in the fastest precision; fewer elsewhere (default: 5)",
    )
    parser.add_argument(
        "--count", action="append", default=[], metavar="PART/NETWORK=FEW:MANY", help="pictures of a comparison"
    )
    parser.add_argument("--cores", type=int, default=machine.cores(), help="to use (default: all)")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "bench", help="folder for all of it (default: bench)")
    parser.add_argument("--short", action="store_true", help="a little of everything: does the benchmark still run?")
    parser.add_argument("--write-docs", action="store_true", help="put the last results into docs/performance.md")
    options = parser.parse_args(argv)
    unknown = set((options.only or "bound").split(",")) - set(parts.PARTS)
    if unknown:
        parser.error(f"--only knows {', '.join(parts.PARTS)}; not {', '.join(sorted(unknown))}")
    return options


def open_session(options: argparse.Namespace, work: Path) -> parts.Session:
    """All that the parts share. Raises ValueError for options that make no sense."""
    from mirabelle.network.engines import native_precisions

    work.mkdir(parents=True, exist_ok=True)
    networks = ["resnet50"] if options.short else options.networks.split(",")
    weights = dict.fromkeys(networks, "random:0")
    for pair in options.weights:
        name, sep, source = pair.partition("=")
        if not sep:
            raise ValueError(f"--weights {pair}: write NETWORK=WEIGHTS")
        path = Path(source)
        weights |= {name: str(path.resolve()) if path.is_file() else source} if name in weights else {}
    counts = dict(SHORT_COUNTS if options.short else parts.COUNTS)
    for text in options.count:
        where, _, numbers = text.partition("=")
        part, _, network = where.partition("/")
        few, _, many = numbers.partition(":")
        if (part, network) not in parts.COUNTS or not (
            few.isdecimal() and many.isdecimal() and 0 < int(few) < int(many)
        ):
            raise ValueError(f"--count {text}: write PART/NETWORK=FEW:MANY, for instance peers/resnet50=200:1000")
        counts[part, network] = (int(few), int(many))
    given = {"a": options.images, "b": options.photos, "c": options.large_photos}
    bench = Bench(
        work,
        options.cores,
        ("float32",) if options.short else tuple(native_precisions()),
        weights,
        1 if options.short else options.rounds,
        0.5 if options.short else 5,
        options.short,
        lambda line: print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True),
        Progress(0),
    )
    folders = {letter: folder for letter, folder in given.items() if folder is not None}
    return parts.Session(bench, folders, counts, options.short)


def load_results(work: Path, session: parts.Session) -> dict[str, Any]:
    """What is there already, under this machine's facts as they are now."""
    file = work / "results.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    facts = machine.facts()
    is_like = before.get("format") == FORMAT and before["machine"]["CPU"] == facts["CPU"]
    kept = before["parts"] if is_like else {}
    parts.learn_bounds(session, kept.get("bound", {}))
    return {
        "format": FORMAT,
        "machine": facts,
        "cores": session.bench.cores,
        "native": list(session.bench.native),
        "amx": machine.has_amx(),
        "short": session.short,
        "parts": kept,
    }


def settings_of(session: parts.Session, results: dict[str, Any]) -> dict[str, Any]:
    """What a part's figures depend on besides the machine; the same for all parts of an invocation."""
    bench = session.bench
    return {
        "revision": results["machine"]["git revision"],
        "rounds": bench.rounds,
        "cores": bench.cores,
        "weights": {name: Path(source).name for name, source in bench.weights.items()},
        "given": {letter: folder.name for letter, folder in session.given.items()},
        "counts": {f"{part}/{network}": list(pair) for (part, network), pair in session.counts.items()},
    }


def wanted(options: argparse.Namespace, session: parts.Session, results: dict[str, Any]) -> list[str]:
    """The parts to run: those named, else those that are missing, unfinished or of another revision or setting."""
    if options.only:
        return [name for name in parts.PARTS if name in options.only.split(",")]
    stamps = {name: part.get("stamp", {}) for name, part in results["parts"].items()}
    now = settings_of(session, results)
    finished = {name for name, stamp in stamps.items() if stamp.get("finished") and stamp["settings"] == now}
    return [name for name in parts.PARTS if options.again or name not in finished]


def run_part(name: str, session: parts.Session, results: dict[str, Any]) -> bool:
    """Run one part and keep it; false where it failed."""
    bench = session.bench
    stamp = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "settings": settings_of(session, results),
        "finished": False,
    }

    def save(part: Part) -> None:
        results["parts"][name] = {**part, "stamp": stamp}
        write(bench.work, results)

    bench.say(f"{name}; {bench.progress.left()}")
    start = time.monotonic()
    reason = left_out(name, session)
    try:
        if reason:
            raise CannotRun(reason)
        part = RUNNERS[name](session, save)
    except (CannotRun, InputError) as error:
        save({**results["parts"].get(name, {}), "not_run": str(error)} if not reason else {"not_run": reason})
        bench.say(f"  not run: {error}")
        return bool(reason) or name in ("files", "pca", "serve")
    stamp["finished"] = True
    save(part)
    bench.say(f"  done in {time.monotonic() - start:.0f} s")
    return True


def left_out(name: str, session: parts.Session) -> str:
    """Why the short form doesn't run a part, or nothing."""
    is_there = any(part == name for part, _ in session.counts)
    return "the short form leaves it out" if name in parts.COMPARISONS and not is_there else ""


def write(work: Path, results: dict[str, Any]) -> None:
    """Everything that is known by now, in all its forms."""
    (work / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (work / "results.md").write_text(table.markdown(results))


def write_docs(work: Path) -> int:
    """The last results, between their marks in the documentation, and the figure beside it."""
    file = work / "results.json"
    if not file.is_file():
        print(f"error: there are no results in {work}; make bench measures", file=sys.stderr)
        return 2
    results = json.loads(file.read_text())
    if results.get("format") != FORMAT:
        print(f"error: the results in {work} are of an earlier form; make bench measures anew", file=sys.stderr)
        return 2
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    is_drawn = figure.draw(results, FIGURE)
    picture = "![Images a second of every side, beside the engine alone](performance.svg)\n\n" if is_drawn else ""
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{picture}{table.markdown(results)}\n{MARKS[1]}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
