"""The server's targets, each with its figure. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cells import said
from line import PRECISIONS, Line, Results, missing, verdict_of
from serve_figures import OURS, Entry, added_ms, lacking, loops_of, of_bound, of_engine, rounds_of, times_peer
from steady import spread

NETWORK, CLIENTS, FEW, MANY = "resnet50", 8, 1, 64
PICTURES = ("100 px", "300 KB")
PEER = "BentoML"
OF_ENGINE, ADDED_MS, READY_SECONDS = 0.90, 3.0, 3.0


def lines(results: Results) -> Iterator[Line]:
    """For each size of pictures and precision: of the engine, what is added, beside the peer; and the start."""
    for pictures in PICTURES:
        for precision in PRECISIONS:
            found = find(results, pictures, precision)
            what = f"{NETWORK}, {pictures}, {precision}"
            yield from (
                of_the_engine(results, found, f"served at {CLIENTS} clients over the engine alone, {what}"),
                added(found, f"milliseconds that the server adds at {FEW} client, {what}"),
                beside_peer(found, f"times the pictures/s of {PEER} at {CLIENTS} clients, {what}"),
            )
    yield ready(results)


def find(results: Results, pictures: str, precision: str) -> Entry | str:
    """What was measured, or why nothing was."""
    native = results["native"][-1] if precision == "auto" else precision
    part = results["parts"].get("serve", {})
    for entry in part.get("entries", []):
        if (entry["network"], entry["pictures"], entry["precision"]) == (NETWORK, pictures, native):
            return dict(entry)
    return "not run: it was left out" if part.get("entries") else missing(results, "serve")


def of_the_engine(results: Results, found: Entry | str, what: str) -> Line:
    """With the other numbers of clients beside it, and what engine and decoding together allow."""
    wanted = f"{OF_ENGINE:.2f} or better"
    if isinstance(found, str):
        return Line(what, wanted, verdict=found)
    share = of_engine(found, OURS, CLIENTS)
    bound = of_bound(found, OURS, CLIENTS, results["parts"]["serve"]["cores"])
    if share is None or bound is None:
        return Line(what, wanted, verdict=lacking(found, OURS, CLIENTS))
    notes = [
        f"{bound.text(2)} of engine and decoding on these cores, which alone would be {share.median / bound.median:.2f}"
    ]
    others = [(count, of_engine(found, OURS, count)) for count in (FEW, MANY)]
    notes += [f"at {count} client{'s' * (count > 1)} {said(one, 2)}" for count, one in others if one]
    notes += [lacking(found, OURS, count) for count, one in others if not one and rounds_of(found, OURS, count)]
    return Line(what, wanted, share.text(2), verdict_of(share.median >= OF_ENGINE), "; ".join(notes))


def added(found: Entry | str, what: str) -> Line:
    """To decoding and engine, one picture after another; medians."""
    wanted = f"at most {ADDED_MS:g}"
    if isinstance(found, str):
        return Line(what, wanted, verdict=found)
    more = added_ms(found, OURS)
    if more is None:
        return Line(what, wanted, verdict=lacking(found, OURS, FEW))
    tails = [(count, spread(_p99(found, count))) for count in (FEW, CLIENTS)]
    note = ", ".join(f"at {count} client{'s' * (count > 1)} {said(one)} ms" for count, one in tails if one)
    return Line(what, wanted, more.text(2), verdict_of(more.median <= ADDED_MS), f"p99 {note}")


def _p99(found: Entry, clients: int) -> list[float]:
    return [1000 * loop["p99_seconds"] for loop in loops_of(found, OURS, clients)]


def beside_peer(found: Entry | str, what: str) -> Line:
    """Both by the engine of their own minutes."""
    if isinstance(found, str):
        return Line(what, "above 1", verdict=found)
    peer = found["sides"].get(PEER)
    if peer is None:
        return Line(what, "above 1", verdict=f"not run: {PEER} was left out")
    times = times_peer(found, PEER, CLIENTS)
    if times is None:
        side = PEER if loops_of(found, OURS, CLIENTS) else OURS
        return Line(what, "above 1", verdict=lacking(found, side, CLIENTS))
    return Line(what, "above 1", times.text(2), verdict_of(times.median > 1), f"BentoML {peer.get('version', '')}")


def ready(results: Results) -> Line:
    """From the process's start, over all starts."""
    what, wanted = "seconds until the server is ready", f"at most {READY_SECONDS:g}"
    entries = results["parts"].get("serve", {}).get("entries", [])
    seconds = spread(entry["sides"][OURS].get("ready_seconds") for entry in entries)
    if seconds is None:
        return Line(what, wanted, verdict=missing(results, "serve"))
    return Line(what, wanted, seconds.text(), verdict_of(seconds.median <= READY_SECONDS))
