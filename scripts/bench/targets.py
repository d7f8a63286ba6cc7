"""Each target with its figure: met, not met and where the time went instead, or why there is none. Pure.

Results in, lines out. A target always has its line, so that none is forgotten where a part was left out or failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, cast

import serve_targets
from files import SPLIT
from line import PRECISIONS, Line, Results, missing, verdict_of
from steady import Spread, Summary, core_shares, share_left, spread, stage_seconds, summarise, times_as_fast

Entry = dict[str, Any]

EFFICIENCY = {"a": 0.95, "b": 0.90, "c": 0.75}
# Of the second bound: the engine, and undoing JPEG's Huffman coding, which no decoder gets around.
OVER_HUFFMAN = {"b": 0.95, "c": 0.85}
HUFFMAN = "Huffman decoding alone"
BACKBONES = ("resnet50", "vgg16")
WHOLE_OVER_BOUND = 1.25
WHOLE_IMAGES = 5_000
AGAINST_NOTEBOOK = {"auto": 8.0, "float32": 2.5}
LOWEST_COSINE = 0.999
# More than the bound by more than the bound's own noise: a start stalled, or the engine did when it was alone.
IMPOSSIBLE = 1.05
NOISE = "not judged: more than the bound, which noise alone can be"
INT8 = "Mirabelle, int8"
# Times the speed of these at their best; its features are near, as the certificate tells, and not the same.
INT8_TIMES = {"mirabelle": 1.7, "daft": 1.6}
INT8_COSINE = 0.9
OURS = "Mirabelle"


def lines(results: Results) -> list[Line]:
    """All targets, in order."""
    found = [*efficiencies(results), *over_huffman(results), *whole_times(results), *against_notebook(results)]
    found += [*against_peers(results), *in_int8(results), *decoding(results), *file_sizes(results), *reduction(results)]
    found += serve_targets.lines(results)
    if results["short"]:
        found = [
            replace(line, verdict="not judged: the short form", why="") if line.verdict in ("met", "not met") else line
            for line in found
        ]
    return found


def efficiencies(results: Results) -> Iterator[Line]:
    """Steady images a second over the engine's alone, for each input, network and precision."""
    for letter, wanted in EFFICIENCY.items():
        for backbone in BACKBONES:
            for precision in PRECISIONS:
                what = f"efficiency of extract on ({letter}), {backbone}, {precision}"
                found = find(results, f"extract-{letter}", backbone, OURS, precision)
                if isinstance(found, str):
                    yield Line(what, f"{wanted:.2f} or better", verdict=found)
                    continue
                efficiency = summarise(found).efficiency
                if efficiency is None:
                    yield Line(what, f"{wanted:.2f} or better", verdict="not judged: noise ate the difference")
                    continue
                verdict, why = judged_share(efficiency.median, wanted, found, results)
                yield Line(what, f"{wanted:.2f} or better", efficiency.text(2), verdict, why)


def over_huffman(results: Results) -> Iterator[Line]:
    """Steady images a second over the second bound, for the photographs."""
    for letter, wanted in OVER_HUFFMAN.items():
        for backbone in BACKBONES:
            for precision in PRECISIONS:
                what = f"extract on ({letter}) over engine and Huffman decoding, {backbone}, {precision}"
                line = Line(what, f"{wanted:.2f} or better")
                found = find(results, f"extract-{letter}", backbone, OURS, precision)
                if isinstance(found, str):
                    yield replace(line, verdict=found)
                elif huffman_ms(results, letter) is None:
                    yield replace(line, verdict=missing(results, "decode"))
                elif (share := of_second_bound(results, letter, found)) is None:
                    yield replace(line, verdict="not judged: noise ate the difference")
                else:
                    verdict, why = judged_share(share, wanted, found, results)
                    yield replace(line, figure=f"{share:.2f}", verdict=verdict, why=why)


def judged_share(share: float, wanted: float, entry: Entry, results: Results) -> tuple[str, str]:
    """Verdict on a share of a bound, and where the time went where it is too little."""
    if share > IMPOSSIBLE:
        return NOISE, ""
    return verdict_of(share >= wanted), "" if share >= wanted else explain_steady(entry, results["cores"])


def huffman_ms(results: Results, letter: str) -> float | None:
    """Core-milliseconds that a picture's Huffman decoding takes; None where it was not measured."""
    for row in results["parts"].get("decode", {}).get("rows", []):
        if (row["input"], row["decoder"]) == (letter, HUFFMAN) and (found := spread(row["core_ms"])):
            return found.median
    return None


def of_second_bound(results: Results, letter: str, entry: Entry) -> float | None:
    """An entry's efficiency where Huffman decoding counts as inevitable."""
    summary, core_ms = summarise(entry), huffman_ms(results, letter)
    if summary.efficiency is None or summary.bound is None or core_ms is None:
        return None
    return summary.efficiency.median / share_left(summary.bound.median, core_ms, results["cores"])


def whole_times(results: Results) -> Iterator[Line]:
    """The whole process over the engine's time for as many pictures."""
    for precision in PRECISIONS:
        what = f"whole time for {WHOLE_IMAGES:,} of (a), resnet50, {precision}, over images / bound"
        wanted = f"at most {WHOLE_OVER_BOUND}"
        found = find(results, "extract-a", "resnet50", OURS, precision)
        if isinstance(found, str):
            yield Line(what, wanted, verdict=found)
            continue
        over = summarise(found).over_bound
        if over is None:
            yield Line(what, wanted, verdict="not judged: the bound is missing")
        elif found["many"] != WHOLE_IMAGES:
            yield Line(what, wanted, over.text(2), f"not judged: measured on {found['many']:,} pictures")
        else:
            met = over.median <= WHOLE_OVER_BOUND
            yield Line(what, wanted, over.text(2), verdict_of(met), "" if met else explain_whole(found))


def against_notebook(results: Results) -> Iterator[Line]:
    """Times the steady speed of the notebook-style job, which knows float32 alone."""
    for backbone in BACKBONES:
        for precision in PRECISIONS:
            wanted = f"{AGAINST_NOTEBOOK[precision]:g} or more" + (" with AMX" if precision == "auto" else "")
            what = f"times the notebook-style job's speed on (a), {backbone}, {precision}"
            ours = find(results, "peers", backbone, OURS, precision)
            theirs = find(results, "peers", backbone, "notebook", "float32")
            times = None if isinstance(ours, str) or isinstance(theirs, str) else ratio(ours, theirs)
            if isinstance(theirs, str) or isinstance(ours, str):
                yield Line(what, wanted, verdict=ours if isinstance(ours, str) else str(theirs))
            elif times is None:
                yield Line(what, wanted, verdict="not judged: noise ate the difference")
            elif precision == "auto" and not results["amx"]:
                yield Line(what, wanted, f"{times:.2f}", "not judged: no AMX here", whole_note(ours, theirs))
            else:
                met = times >= AGAINST_NOTEBOOK[precision]
                notes = [whole_note(ours, theirs), "" if met else explain_steady(ours, results["cores"])]
                yield Line(what, wanted, f"{times:.2f}", verdict_of(met), "; ".join(note for note in notes if note))


def whole_note(ours: Entry, theirs: Entry) -> str:
    """Times as fast from start to end, which has the networks that the other builds again and again."""
    mine, other = summarise(ours).whole, summarise(theirs).whole
    if mine is None or other is None or ours["many"] != theirs["many"]:
        return ""
    return f"{other.median / mine.median:.2f} on {ours['many']:,} from start to end"


def against_peers(results: Results) -> Iterator[Line]:
    """Ahead of each other peer, at its best in any precision, and in float32; on photographs at its best."""
    for part, letter, each in (
        ("peers", "a", list(product(BACKBONES, PRECISIONS))),
        ("extract-b", "b", [("resnet50", "auto")]),
        ("extract-c", "c", [("resnet50", "auto")]),
    ):
        there = results["parts"].get(part, {})
        names = dict.fromkeys(
            entry["side"]
            for comparison in there.get("comparisons", [])
            for entry in comparison["entries"]
            if not entry["side"].startswith(OURS) and "notebook" not in entry["side"].lower()
        )
        for name in names or ["every other peer"]:
            for backbone, precision in each:
                what = f"times the speed of {name} on ({letter}), {backbone}, {precision}"
                yield peer_line(results, part, name, (backbone, precision), what)
        for name, why in there.get("broken", {}).items():
            yield Line(f"times the speed of {name}", "above 1", verdict=f"not run: {why}")


def peer_line(results: Results, part: str, name: str, network: tuple[str, str], what: str) -> Line:
    """One peer, against its best in any precision under ``auto``."""
    backbone, precision = network
    line = Line(what, "above 1")
    ours = find(results, part, backbone, OURS, precision)
    if isinstance(ours, str):
        return replace(line, verdict=ours)
    allowed = PRECISIONS if precision == "auto" else ("float32",)
    theirs = [find(results, part, backbone, name, each) for each in allowed]
    found = [times for other in theirs if not isinstance(other, str) and (times := times_as_fast(ours, other))]
    if not found:
        reasons = [other for other in theirs if isinstance(other, str)]
        verdict = reasons[0] if len(reasons) == len(theirs) else "not judged: noise ate the difference"
        return replace(line, verdict=verdict)
    line = replace(line, **judged(min(found, key=lambda times: times.median)))
    return line if line.verdict.startswith("met") else replace(line, why=explain_steady(ours, results["cores"]))


def judged(times: Spread) -> dict[str, str]:
    """Figure and verdict of being faster; ahead or behind is what an interval without 1 says."""
    if times.low == times.high:
        verdict = f"{verdict_of(times.median > 1)}, in one round"
    else:
        verdict = "level: the interval has 1" if times.low <= 1 <= times.high else verdict_of(times.low > 1)
    return {"figure": times.text(2), "verdict": verdict}


def in_int8(results: Results) -> Iterator[Line]:
    """Times the speed of others at their best, where int8 is fast."""
    ours = find(results, "peers", "resnet50", INT8, "int8", INT8_COSINE)
    for name, wanted in INT8_TIMES.items():
        line = Line(f"times the speed of {name.title()} at its best on (a), resnet50, int8", f"{wanted} or more")
        theirs = find(results, "peers", "resnet50", OURS if name == "mirabelle" else name, "auto")
        if isinstance(ours, str) or isinstance(theirs, str):
            yield replace(line, verdict=ours if isinstance(ours, str) else str(theirs))
        elif not (times := times_as_fast(ours, theirs)):
            yield replace(line, verdict="not judged: noise ate the difference")
        else:
            met = times.median >= wanted
            told = f"{times.text(2)}; lowest cosine {ours['lowest_cosine']:.3f}"
            yield replace(
                line, figure=told, verdict=verdict_of(met), why="" if met else explain_steady(ours, results["cores"])
            )


def decoding(results: Results) -> Iterator[Line]:
    """What a picture costs to decode, and how that compares with the decoder whose pixels are the same."""
    rows = results["parts"].get("decode", {}).get("rows", [])
    for letter in EFFICIENCY:
        here = [row for row in rows if row["input"] == letter and row.get("core_ms")]
        costs = {row["decoder"]: found for row in here if (found := spread(row["core_ms"]))}
        what = f"core-milliseconds from bytes to tensor, ({letter})"
        if OURS in costs:
            beside = (name for name in (f"{OURS}, not exact", "Pillow") if name in costs)
            told = "; ".join([costs[OURS].text(2), *(f"{name} {costs[name].median:.2f}" for name in beside)])
            yield Line(what, "told", told, "told")
        else:
            yield Line(what, "told", verdict=missing(results, "decode"))


def file_sizes(results: Results) -> Iterator[Line]:
    """Whether the files are written in the way that costs least."""
    tables = {table["backbone"]: table["ways"] for table in results["parts"].get("files", {}).get("tables", [])}
    for backbone in BACKBONES:
        what = f"cost of feature files over the cheapest way's that Spark reads, {backbone}"
        if backbone not in tables:
            yield Line(what, "at most 1.05", verdict=missing(results, "files"))
            continue
        ours = tables[backbone][0]
        readable = [way for way in tables[backbone] if not way["way"].endswith(SPLIT)]
        cheapest = min(readable, key=lambda way: way["cost_seconds"])
        over = ours["cost_seconds"] / cheapest["cost_seconds"]
        smaller = cheapest["size_bytes"] / ours["size_bytes"]
        why = "" if over <= 1.05 else f"cheapest: {cheapest['way']}, {smaller:.2f} times the size"
        yield Line(what, "at most 1.05", f"{over:.2f}", verdict_of(over <= 1.05), why)


def reduction(results: Results) -> Iterator[Line]:
    """PCA's own lines, as its benchmark tells them."""
    told = results["parts"].get("pca", {}).get("targets")
    if not told:
        yield Line("PCA", "its own targets", verdict=missing(results, "pca"))
        return
    for row in told:
        yield Line(row["name"], row["target"], f"{row['figure']:.3g}", verdict_of(row["met"]), row.get("note", ""))


def find(
    results: Results, part: str, backbone: str, side: str, precision: str, lowest: float = LOWEST_COSINE
) -> Entry | str:
    """A side's entry in a comparison, or why there is none."""
    native = results["native"][-1] if precision == "auto" else precision
    comparisons = results["parts"].get(part, {}).get("comparisons", [])
    here = [one for one in comparisons if one["backbone"] == backbone]
    if not here:
        return f"not run: {backbone} was left out" if comparisons else missing(results, part)
    for entry in here[0]["entries"]:
        if (entry["side"] == side or side in entry["side"].lower()) and entry["precision"] == native:
            if "not_run" in entry or not entry["rounds"]:
                return f"not run: {entry.get('not_run', 'no round was finished')}"
            if entry["lowest_cosine"] < lowest:
                return f"counts for nothing: other features, lowest cosine {entry['lowest_cosine']:.4f}"
            return cast("Entry", entry)
    return f"not run: {side} was left out"


def ratio(ours: Entry, theirs: Entry) -> float | None:
    """Median steady speed over median steady speed."""
    mine, other = summarise(ours).steady, summarise(theirs).steady
    return mine.median / other.median if mine and other else None


def explain_steady(entry: Entry, cores: int) -> str:
    """Where the cores' time goes, once started."""
    shares, summary = core_shares(entry, cores), summarise(entry)
    if not shares:
        return ""
    text = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    slower = engine_slowdown(shares, summary)
    return f"of the cores' time: {text}" + (
        f"; the engine takes {slower:.2f} times its core time alone" if slower else ""
    )


def engine_slowdown(shares: Mapping[str, float], summary: Summary) -> float | None:
    """The engine's core time a picture inside the job over that of the bound."""
    if summary.efficiency is None or not shares.get("engine"):
        return None
    return shares["engine"] / summary.efficiency.median


def explain_whole(entry: Entry) -> str:
    """Seconds by stage."""
    return "seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stage_seconds(entry).items())
