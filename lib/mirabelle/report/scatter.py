"""The map: images on the plane of the first two principal components, and the key beside it.

Pure; runs on the driver; Altair is imported inside, for it is heavy. Nobody can tell 60 colours apart, so colour is
spent on at most :data:`SLOTS` labels at a time: with few labels each has its own, with many the reader picks labels
from the key and the rest stay grey. The specification holds no pictures; map.js adds them to its rows from one table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirabelle.report.charts import Spec, finish
from mirabelle.report.contents import Scatter
from mirabelle.report.pictures import Picture

# As many colours as page.css has in --slot-0 ...: about the most that can be told apart.
SLOTS = 12
# With more labels than that, this many are lit at first.
FIRST_LIT = 6


@dataclass(frozen=True)
class KeyEntry:
    """One label in the key: its index, how many images of it are on the map, and the row of one of them."""

    index: int
    label: str
    count: int
    row: int


@dataclass(frozen=True)
class Plot:
    """The map, ready to draw.

    Attributes:
        spec: the Vega-Lite specification, with one row an image in its dataset ``points`` (``i`` counts them) and one a
            label in ``centres``.
        shown: the pictures on the map, in the order of ``i``.
        key: the labels, sorted by name.
        few: whether every label has a colour of its own.
        lit: indices of the labels lit at first.
        splits: the names of the splits, in order of appearance; empty when there are fewer than two.
        dropped: how many pictures had coordinates that were not finite.
    """

    spec: Spec
    shown: Sequence[Picture]
    key: Sequence[KeyEntry]
    few: bool
    lit: Sequence[int]
    splits: Sequence[str]
    dropped: int


def _axis_title(component: int, ratios: Sequence[float]) -> str:
    share = f" · {ratios[component]:.1%} of the variance" if component < len(ratios) else ""
    return f"PC{component + 1}{share}"


def _domain(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.04 * (high - low) or 1.0
    return [low - margin, high + margin]


def _axes(points: list[dict[str, Any]], ratios: Sequence[float]) -> tuple[Any, Any]:
    import altair as alt

    # The domains are fixed, so that nothing moves when labels are lit or one split is shown.
    channels = [
        channel(
            f"{field}:Q",
            title=_axis_title(component, ratios),
            axis=alt.Axis(tickCount=6, domain=False, ticks=False),
            scale=alt.Scale(domain=_domain([point[field] for point in points]), nice=False),
        )
        for component, (field, channel) in enumerate((("x", alt.X), ("y", alt.Y)))
    ]
    return channels[0], channels[1]


def _parameters(few: bool, labels: int) -> list[Any]:
    """What map.js sets: everything about the map that changes."""
    import altair as alt

    start = [label % SLOTS if few else -1 for label in range(labels)]
    values = {
        "slots": start,  # the colour of each label, or -1 for unlit
        "faint": not few,  # some labels are lit, so the others step back
        "pictures": False,  # draw pictures in place of points
        "tile": 26,  # their size in px
        "part": None,  # the one split to show
        "hovered": -1,  # the point under the pointer
        "nudges": [0] * labels,  # px down for each label's name; null hides it
    }
    return [alt.param(name=name, value=value) for name, value in values.items()]


def _specification(
    points: list[dict[str, Any]], centres: list[dict[str, Any]], few: bool, ratios: Sequence[float]
) -> Spec:
    """Layers from back to front: unlit points, lit points, pictures in place of points, the hovered one, names."""
    import altair as alt

    slot = "datum.l < 0 ? -1 : slots[datum.l]"
    x, y = _axes(points, ratios)
    base = (
        alt.Chart(alt.NamedData("points"))
        .encode(x=x, y=y)
        .transform_filter("part === null || datum.s === part")
        .transform_calculate(slot=slot)
    )
    colour = alt.Color("slot:O", scale=alt.Scale(domain=list(range(SLOTS)), range="category"), legend=None)
    tile: dict[str, Any] = {"width": alt.ExprRef("tile"), "height": alt.ExprRef("tile"), "aspect": True}
    frame: dict[str, Any] = {"style": "frame", "shape": "square", "size": alt.ExprRef("(tile + 5) * (tile + 5)")}
    dim, lit = base.transform_filter("datum.slot < 0"), base.transform_filter("datum.slot >= 0")
    bare = "!pictures || !datum.image"
    names = alt.Chart(alt.NamedData("centres")).encode(x=x, y=y, text="label:N").transform_calculate(slot=slot)
    names = names.transform_filter("datum.slot >= 0 && nudges[datum.l] !== null")
    words: dict[str, Any] = {
        "dy": alt.ExprRef("nudges[datum.l] || 0"),
        "align": alt.ExprRef(
            "scale('x', datum.x) < 0.2 * width ? 'left' : scale('x', datum.x) > 0.8 * width ? 'right' : 'center'"
        ),
    }
    zoom = alt.selection_interval(
        name="window", bind="scales", zoom="wheel![event.ctrlKey || event.metaKey]", encodings=["x", "y"]
    )
    layers = alt.layer(
        dim.transform_filter(bare).mark_point(style="unlit").properties(name="ground").add_params(zoom),
        dim.transform_filter("pictures && datum.image")
        .mark_image(**tile, opacity=alt.ExprRef("faint ? 0.22 : 1"))
        .encode(url="image:N"),
        lit.transform_filter(bare).mark_point(style="lit").encode(color=colour),
        lit.transform_filter("pictures && datum.image").mark_point(**frame).encode(color=colour),
        lit.transform_filter("pictures && datum.image").mark_image(**tile).encode(url="image:N"),
        base.transform_filter("datum.i === hovered").mark_point(style="hovered"),
        names.mark_text(style="halo", **words),
        names.mark_text(style="name", **words),
    )
    spec = finish(layers.add_params(*_parameters(few, len(centres))).properties(width="container", height=520), "")
    return {**spec, "datasets": {"points": points, "centres": centres}}


def plot(scatter: Scatter, ratios: Sequence[float], prefer: Iterable[str]) -> Plot:
    """Prepare the map.

    Args:
        scatter: the sample.
        ratios: shares of variance of the first components, for the axes; may be empty.
        prefer: labels to light first when there are too many for all of them; the most frequent come after.

    Returns:
        The specification and what the key needs.
    """
    finite = np.flatnonzero(np.isfinite(scatter.coordinates).all(axis=1)).tolist()
    shown, split = [scatter.pictures[i] for i in finite], [scatter.split[i] for i in finite]
    places = scatter.coordinates[finite]
    counts = Counter(picture.label for picture in shown if picture.label is not None)
    index = {label: i for i, label in enumerate(sorted(counts, key=lambda text: (text.casefold(), text)))}
    points = [
        {
            "i": i,
            "x": float(f"{x:.5g}"),
            "y": float(f"{y:.5g}"),
            "l": -1 if picture.label is None else index[picture.label],
            "s": part,
        }
        for i, (picture, (x, y), part) in enumerate(zip(shown, places, split, strict=True))
    ]
    own = np.array([point["l"] for point in points], dtype=np.int64)
    key, centres = [], []
    for label, i in index.items():
        rows = np.flatnonzero(own == i).tolist()
        x, y = np.median(places[rows], axis=0).tolist()
        centres.append({"l": i, "label": label, "x": x, "y": y})
        example = next((row for row in rows if shown[row].thumbnail), rows[0])
        key.append(KeyEntry(index=i, label=label, count=counts[label], row=example))
    few = len(index) <= SLOTS
    wanted = dict.fromkeys([*(p for p in prefer if p in index), *(label for label, _ in counts.most_common())])
    parts = list(dict.fromkeys(part for part in split if part is not None))
    return Plot(
        spec=_specification(points, centres, few, list(ratios)),
        shown=shown,
        key=key,
        few=few,
        lit=[] if few else [index[label] for label in list(wanted)[:FIRST_LIT]],
        splits=parts if len(parts) > 1 else [],
        dropped=len(scatter.pictures) - len(shown),
    )
