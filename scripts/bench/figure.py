"""The comparison as bars: steady images a second of every side, and what the engine alone does. Writes one SVG file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from line import Results
from steady import spread, summarise
from targets import LOWEST_COSINE, OURS

COLOURS = {OURS: "#7a4fbf", "peer": "#b9b4c4"}


def bars(results: Results) -> list[dict[str, Any]]:
    """One for each side, network and precision that has a figure; of Mirabelle alone where no peers were measured."""
    parts = results["parts"]
    comparisons = (parts.get("peers") or parts.get("extract-a") or {}).get("comparisons", [])
    bounds = {
        (one["backbone"], one["precision"]): found.median
        for one in parts.get("bound", {}).get("bounds", [])
        if (found := spread(one["images_per_second"]))
    }
    rows = []
    for part in comparisons:
        for entry in part["entries"]:
            steady = summarise(entry).steady
            if steady is None or entry.get("lowest_cosine", 0) < LOWEST_COSINE:
                continue
            rows.append(
                {
                    "network": part["backbone"],
                    "side": f"{entry['side']}, {entry['precision']}",
                    "whose": OURS if entry["side"] == OURS else "peer",
                    "images_per_second": steady.median,
                    "text": f"{steady.median:.1f}",
                    "bound": bounds.get((part["backbone"], entry["precision"])),
                }
            )
    # The chart keeps this order.
    return sorted(rows, key=lambda row: (row["network"], -row["images_per_second"]))


def draw(results: Results, target: Path) -> bool:
    """Write the figure; false where there is nothing to draw."""
    import altair as alt
    import vl_convert

    rows = bars(results)
    if not rows:
        return False
    base = alt.Chart().encode(y=alt.Y("side:N", title=None, sort=None, axis=alt.Axis(labelLimit=320, ticks=False)))
    colour = alt.Color("whose:N", legend=None, scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())))
    length = alt.X("images_per_second:Q", title="images a second, steady; the line is the engine alone")
    bar = base.mark_bar(height={"band": 0.75}).encode(x=length, color=colour)
    text = base.mark_text(align="left", dx=4).encode(x="images_per_second:Q", text="text:N")
    bound = base.mark_tick(color="#222222", thickness=2, bandSize=18).encode(x="bound:Q")
    layered = alt.layer(bar, text, bound).properties(width=520)
    chart = layered.facet(
        row=alt.Row("network:N", title=None, header=alt.Header(labelAngle=0, labelAnchor="start", labelOrient="top")),
        data=alt.InlineData(values=rows),
    )
    chart = chart.resolve_scale(x="independent", y="independent").properties(background="white")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")
    return True
