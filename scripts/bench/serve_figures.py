"""The server's figures: beside the engine, its bound and a peer, as tables and as the lines of the targets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cells import NOTHING, grid, said
from steady import Spread, spread

Entry = Mapping[str, Any]
Loop = Mapping[str, Any]

OURS = "Mirabelle"


def bound_of(entry: Entry, engine: float, cores: int) -> float:
    """Pictures a second of engine and decoding on the same cores, and of nothing else."""
    return 1 / (1 / engine + float(entry["decode_core_seconds"]) / cores)


def engine_of(loop: Loop) -> float:
    """Pictures a second of the engine alone in a loop's minutes."""
    return sum(loop["engine"]) / len(loop["engine"])


def loops_of(entry: Entry, side: str, clients: int) -> list[Loop]:
    """A side's loops of so many clients that have figures."""
    return [loop for loop in rounds_of(entry, side, clients) if "refused" not in loop]


def rounds_of(entry: Entry, side: str, clients: int) -> list[Loop]:
    """A side's loops of so many clients, a round each, those without figures, too."""
    loops = entry["sides"].get(side, {}).get("loops", [])
    return [loop for loop in loops if loop["clients"] == clients]


def lacking(entry: Entry, side: str, clients: int) -> str:
    """Why a side has no figures for so many clients."""
    who = f"{clients} client{'s' * (clients > 1)}"
    if "not_run" in entry["sides"].get(side, {}):
        return f"not run: {entry['sides'][side]['not_run']}"
    reasons = [loop["refused"] for loop in rounds_of(entry, side, clients) if "refused" in loop]
    return f"not run: {side} refused {who}: {reasons[0]}" if reasons else f"not run: {who} were left out"


def of_engine(entry: Entry, side: str, clients: int) -> Spread | None:
    """Pictures a second over the engine's alone."""
    return spread(loop["speed"] / engine_of(loop) for loop in loops_of(entry, side, clients))


def of_bound(entry: Entry, side: str, clients: int, cores: int) -> Spread | None:
    """Pictures a second over those of engine and decoding."""
    loops = loops_of(entry, side, clients)
    return spread(loop["speed"] / bound_of(entry, engine_of(loop), cores) for loop in loops)


def added_ms(entry: Entry, side: str) -> Spread | None:
    """What a server adds at one client to decoding and engine, one after another: medians, in milliseconds."""
    pairs = zip(rounds_of(entry, side, 1), entry["alone_seconds"], strict=False)
    return spread(1000 * (loop["p50_seconds"] - one) for loop, one in pairs if "refused" not in loop)


def times_peer(entry: Entry, peer: str, clients: int) -> Spread | None:
    """Our pictures a second over a peer's, each by the engine of its own minutes."""
    pairs = zip(rounds_of(entry, OURS, clients), rounds_of(entry, peer, clients), strict=False)
    whole = [(a, b) for a, b in pairs if "refused" not in a and "refused" not in b]
    return spread(a["speed"] / engine_of(a) / (b["speed"] / engine_of(b)) for a, b in whole)


def peers_of(entries: list[Entry]) -> list[str]:
    """All sides but our own."""
    return list(dict.fromkeys(name for entry in entries for name in entry["sides"] if name != OURS))


def tables(part: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, a table of the engine and one of each side's loops."""
    entries, cores = part.get("entries", []), part.get("cores", 1)
    if not entries:
        return
    engines, loops = [], []
    for entry in entries:
        what = (entry["network"], entry["precision"], f"{entry['pictures']}, {entry['bytes'] / 1000:.0f} KB")
        alone = [speed for side in entry["sides"].values() for loop in side["loops"] for speed in loop["engine"]]
        engine = spread(alone)
        if engine is None:
            continue
        decoding = 1000 * entry["decode_core_seconds"]
        bound = bound_of(entry, engine.median, cores) / engine.median
        one = said(spread(1000 * each for each in entry["alone_seconds"]))
        engines.append((*what, f"{engine.text()} ({entry['layout']})", f"{decoding:.2f}", f"{bound:.2f}", one))
        for name, side in entry["sides"].items():
            shown = f"{name} {side.get('version', '')}".strip()
            if "not_run" in side:
                loops.append((*what, shown, f"not run: {side['not_run']}", *[NOTHING] * 6))
            for clients in dict.fromkeys(loop["clients"] for loop in side["loops"]):
                loops.append((*what, shown, *_row(entry, name, clients, cores)))
    head = ("network", "precision", "pictures")
    yield grid((*head, "engine alone, pictures/s", "decoding, core-ms", "bound over engine", "one by one, ms"), engines)
    yield ""
    heads = ("server", "clients", "pictures/s", "of the engine", "of the bound", "median, ms", "p99, ms", "adds, ms")
    yield grid((*head, *heads), loops)
    yield ""
    yield from _starts(entries)


def _row(entry: Entry, name: str, clients: int, cores: int) -> Iterator[str]:
    own = loops_of(entry, name, clients)
    yield f"{clients}"
    yield said(spread(loop["speed"] for loop in own)) if own else lacking(entry, name, clients)
    yield said(of_engine(entry, name, clients), 2)
    yield said(of_bound(entry, name, clients, cores), 2)
    yield said(spread(1000 * loop["p50_seconds"] for loop in own))
    yield said(spread(1000 * loop["p99_seconds"] for loop in own))
    yield said(added_ms(entry, name), 2) if clients == 1 else NOTHING


def _starts(entries: list[Entry]) -> Iterator[str]:
    """Seconds to readiness and memory of each side, over all its starts."""
    for name in (OURS, *peers_of(entries)):
        sides = [entry["sides"][name] for entry in entries if "ready_seconds" in entry["sides"].get(name, {})]
        if sides:
            ready = said(spread(side["ready_seconds"] for side in sides))
            memory = said(spread(side.get("resident_mib") for side in sides), 0)
            yield f"- **{name}**: ready after {ready} s; {memory} MiB resident at the end"
