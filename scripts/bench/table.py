"""Results as Markdown: the machine, every target's line, and a table for each part. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import serve_figures
from cells import NOTHING, grid, said
from line import Line, Results
from steady import PARTS, core_shares, spread, summarise
from targets import LOWEST_COSINE, OURS, lines, of_second_bound


def markdown(results: Results) -> str:
    """The whole page, for `results.md` and for the documentation."""
    blocks = [facts(results), targets(results)]
    for title, rows in (
        ("The bound: the engine alone", bounds(results)),
        ("Extract against the bound", extracts(results)),
        ("Against the others", peers(results)),
        ("Decoding", decoding(results)),
        ("Feature files", files(results)),
        ("PCA", pca(results)),
        ("The server", serve_figures.tables(results["parts"].get("serve", {}))),
    ):
        text = "\n".join(rows)
        if text:
            blocks.append(f"### {title}\n\n{text}")
    return "\n\n".join(blocks) + "\n"


def facts(results: Results) -> str:
    """What it was measured on, and from which revision where parts are of several."""
    rows = [f"- {key}: {value}" for key, value in results["machine"].items()]
    parts = results["parts"]
    stamps = {name: part["stamp"] for name, part in parts.items() if "stamp" in part}
    rows += [
        f"- {name}: {stamp['date']}, revision {stamp['settings']['revision']}, {stamp['settings']['rounds']} rounds"
        for name, stamp in stamps.items()
        if stamp["finished"]
    ]
    if results.get("short"):
        rows.append("- **the short form: it shows that the benchmark runs, and its figures mean nothing**")
    return "\n".join(rows)


def targets(results: Results) -> str:
    """Every target with its figure."""
    return "### Targets\n\n" + judged(lines(results))


def judged(found: Iterable[Line]) -> str:
    """Targets as a table."""
    rows = [(line.what, line.wanted, line.figure, line.verdict, line.why) for line in found]
    return grid(("target", "wanted", "figure", "verdict", "where the time goes, or a note"), rows)


def pictures(entry: dict[str, Any]) -> str:
    """How many, few and many, an entry's figures are of."""
    return f"{entry['few']:,} and {entry['many']:,}"


def bounds(results: Results) -> Iterator[str]:
    """The fastest layout for each network and precision, and the best of every other."""
    found = results["parts"].get("bound", {}).get("bounds", [])
    if not found:
        return
    rows = []
    for one in found:
        by_layout: dict[str, dict[str, Any]] = {}
        for speed in sorted(one["grid"], key=lambda speed: speed["images_per_second"]):
            by_layout[speed["layout"]] = speed
        others = [
            f"{layout} {speed['images_per_second']:.1f} (batch {speed['batch']})"
            for layout, speed in reversed(by_layout.items())
            if layout != one["layout"]
        ]
        speeds = said(spread(one["images_per_second"]))
        rows.append((one["backbone"], one["precision"], speeds, one["layout"], str(one["batch"]), "; ".join(others)))
    yield grid(("network", "precision", "images/s", "layout", "batch", "other layouts at their best, once"), rows)


def extracts(results: Results) -> Iterator[str]:
    """Mirabelle on each input, beside the engine alone."""
    rows = []
    for letter in "abc":
        for part in results["parts"].get(f"extract-{letter}", {}).get("comparisons", []):
            for entry in (entry for entry in part["entries"] if entry["side"] == OURS):
                summary = summarise(entry)
                shares = core_shares(entry, results["cores"])
                rows.append(
                    (
                        f"({letter}) {part['source']}",
                        part["backbone"],
                        entry["precision"],
                        pictures(entry),
                        said(summary.steady),
                        said(summary.bound),
                        said(summary.efficiency, 2),
                        NOTHING if (share := of_second_bound(results, letter, entry)) is None else f"{share:.2f}",
                        said(summary.whole),
                        said(summary.over_bound, 2),
                        *(f"{shares[name]:.1%}" if shares else NOTHING for name in (*PARTS, "other")),
                    )
                )
    speeds = ("steady, images/s", "bound", "efficiency", "over engine and Huffman decoding", "whole, s")
    head = ("input", "network", "precision", "pictures", *speeds)
    if rows:
        yield grid((*head, "whole over bound", *PARTS, "other"), rows)


def peers(results: Results) -> Iterator[str]:
    """Every side of each comparison, fastest first, and how it was configured."""
    told: dict[str, str] = {}
    names = ("peers", "extract-b", "extract-c")
    found = [one for name in names for one in results["parts"].get(name, {}).get("comparisons", [])]
    for part in (one for one in found if any(entry["side"] != OURS for entry in one["entries"])):
        rows = []
        for entry in sorted(part["entries"], key=lambda e: -(s.median if (s := summarise(e).steady) else 0)):
            summary = summarise(entry)
            cosine = entry.get("lowest_cosine")
            note = f"not run: {entry['not_run']}" if "not_run" in entry else NOTHING
            if cosine is not None and cosine < LOWEST_COSINE:
                note = "other features: counts for nothing"
            shown = [NOTHING] * 2 if cosine is None else [f"{cosine:.5f}", f"{entry['lowest_centred']:.5f}"]
            speeds = (said(summary.steady), said(summary.whole))
            rows.append((entry["side"], entry["precision"], pictures(entry), *speeds, *shown, note))
            if entry["told"]:
                versions = ", ".join(f"{name} {number}" for name, number in entry["versions"].items())
                told[entry["side"]] = entry["told"] + (f" ({versions})" if versions else "")
        yield f"\n({part['input']}) {part['source']}, {part['backbone']}, weights {part['weights']}:\n"
        head = ("side", "precision", "pictures", "steady, images/s", "whole, s", "lowest cosine", "centred", "")
        yield grid(head, rows)
    if told:
        yield ""
        yield from (f"- **{name}**: {text}" for name, text in told.items())


def decoding(results: Results) -> Iterator[str]:
    """Core-milliseconds a picture, by decoder and input."""
    rows = results["parts"].get("decode", {}).get("rows", [])
    letters = sorted({row["input"] for row in rows})
    table = []
    for name in dict.fromkeys(row["decoder"] for row in rows):
        own = {row["input"]: row for row in rows if row["decoder"] == name}
        cells = [said(spread(own[letter].get("core_ms", [])), 2) for letter in letters]
        apart = [row["apart"] for row in own.values() if row.get("apart") is not None]
        why = next((row["not_run"] for row in own.values() if "not_run" in row), NOTHING)
        distance = f"{max(apart):.2f}" if apart and not why else NOTHING
        table.append((name, *cells, distance, f"not run: {why}" if why else NOTHING))
    if table:
        inputs = [f"({letter}), core-ms" for letter in letters]
        yield grid(("decoder", *inputs, "pixels off by, of 255", ""), table)


def files(results: Results) -> Iterator[str]:
    """Ways to write feature files."""
    rows = [
        (
            table["backbone"],
            way["way"],
            f"{way['size_bytes'] / table['rows']:,.0f}",
            f"{1e6 * way['write_seconds'] / table['rows']:.1f}",
            f"{1e6 * way['read_seconds'] / table['rows']:.1f}",
            f"{1e6 * way['cost_seconds'] / table['rows']:.1f}",
        )
        for table in results["parts"].get("files", {}).get("tables", [])
        for way in table["ways"]
    ]
    if rows:
        head = ("network", "way", "bytes a row", "write, us a row", "read, us a row", "write, send, read, us a row")
        yield grid(head, rows)


def pca(results: Results) -> Iterator[str]:
    """PCA beside other ways to fit it, and its memory by width."""
    part = results["parts"].get("pca", {})
    if "sides" in part:
        yield f"{part['rows']:,} rows of {part['columns']:,}, {part['components']} components kept:\n"
        rows = [
            (name, said(spread(side["seconds"]), 2), f"{side['angle']:.0e}") for name, side in part["sides"].items()
        ]
        yield grid(("side", "seconds", "largest angle to ours"), rows)
    if "memory" in part:
        sizes = [
            (
                f"{size['columns']:,}",
                f"{size['rows']:,}",
                size["method"],
                f"{size['seconds']:.1f}",
                *(f"{size[name]:.2f}" for name in ("driver_gib", "worker_gib", "jvm_gib")),
            )
            for size in part["memory"]
        ]
        yield ""
        yield grid(("columns", "rows", "method", "seconds", "driver, GiB", "worker, GiB", "JVM, GiB"), sizes)
