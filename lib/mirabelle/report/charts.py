"""Numbers to charts: each function returns one Vega-Lite specification as a plain dict.

Pure; runs on the driver; Altair is imported inside the functions, for it is heavy. A specification carries shapes and
numbers and no colours: marks name a ``style`` (``length``, ``square``, ``target`` ...) and scales a named range, and
page.js gives those their colours, so that one chart suits light and dark. Text from data is only ever data in a
specification, never a field name or an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Spec = dict[str, Any]

# More components than this are thinned: a curve 800 px wide shows no more, and 2,048 rows are only weight.
SCREE_POINTS = 300
# Up to here the confusion matrix follows the page's width and writes its counts; beyond, its cells keep their size.
WIDE_CELLS_UP_TO = 25
COUNTS_UP_TO = 16
CELL_PX = 13
# A longer axis of components is logarithmic, for the first ones matter most.
LINEAR_UP_TO = 30


def finish(chart: Any, description: str) -> Spec:
    """An Altair chart as a dict without colours, schema address or theme, described for those who cannot see it."""
    spec: Spec = chart.properties(description=description).to_dict()
    for key in ("$schema", "config"):
        spec.pop(key, None)
    # Widths follow the page; heights are the chart's own.
    spec["autosize"] = {"type": "fit-x" if spec.get("width") == "container" else "pad", "contains": "padding"}
    return spec


def _over(rows: Sequence[Mapping[str, Any]]) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=rows))


def _named_axis(**look: Any) -> Any:
    """An axis of numbers 0, 1, 2 ... that shows the texts of the parameter ``names``.

    Vega keys its ticks by their value in a plain object, so a label such as ``__proto__`` must not be one.
    """
    import altair as alt

    return alt.Axis(labelExpr="names[datum.value]", **look)


def bars(values: Mapping[str, float], texts: Mapping[str, str], *, description: str, style: str = "length") -> Spec:
    """Horizontal bars in the order given, each with its text at its end.

    Args:
        values: a length for each name, zero or more.
        texts: what to write at the end of each name's bar.
        description: the chart in words.
        style: the style of the bars, a name page.js knows.
    """
    import altair as alt

    rows = [
        {"i": i, "value": float(value), "text": texts[name], "words": f"{name}: {texts[name]}"}
        for i, (name, value) in enumerate(values.items())
    ]
    # The texts stand beyond the bars, so the longest bar leaves them room: some 7 px a character.
    room = 16 + 7 * max((len(text) for text in texts.values()), default=0)
    longest = max(values.values(), default=0.0) or 1.0
    base = _over(rows).encode(
        y=alt.Y("i:O", title=None, axis=_named_axis(domain=False, ticks=False, labelPadding=8)),
        x=alt.X(
            "value:Q",
            axis=None,
            scale=alt.Scale(domain=[0, longest], range=[0, alt.ExprRef(f"max(40, width - {room})")], nice=False),
        ),
        description="words:N",
    )
    base = base.add_params(alt.param(name="names", value=list(values)))
    layers = base.mark_bar(style=style, cornerRadiusEnd=3, height=16) + base.mark_text(style="value").encode(
        text="text:N"
    )
    return finish(layers.properties(width="container", height=28 * len(rows)), description)


def thin(count: int, keep: int, most: int = SCREE_POINTS) -> npt.NDArray[np.int64]:
    """At most about ``most`` of the numbers 1 to ``count``, evenly spread on a log scale, ``keep`` among them."""
    if count <= most:
        return np.arange(1, count + 1)
    spread = np.unique(np.geomspace(1, count, most).round().astype(np.int64))
    return np.unique(np.append(spread, keep))


def _scree_axes(dimension: int) -> dict[str, Any]:
    """The two axes of the scree curve."""
    import altair as alt

    log = dimension > LINEAR_UP_TO
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if k <= dimension]
    x = alt.X(
        "k:Q",
        title="components" + (", on a log scale" if log else ""),
        scale=alt.Scale(type="log" if log else "linear", domain=[1, max(dimension, 2)], nice=False),
        axis=alt.Axis(values=ticks, grid=False, format=",d") if log else alt.Axis(tickMinStep=1, grid=False),
    )
    percents = alt.Axis(format=".0%", tickCount=5, domain=False, ticks=False)
    return {"x": x, "y": alt.Y("together:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=percents)}


def _scree_marks(components: int, dimension: int, share: float, target: float | None, x: Any) -> list[Any]:
    """The rule and label at the number kept, and the dashed line at the target."""
    import altair as alt

    text = f"{components:,} kept, {share:.1%}"
    kept = _over([{"k": components, "together": share, "text": text}]).encode(x=x)
    place = np.log(components) / np.log(max(dimension, 2)) if dimension > LINEAR_UP_TO else components / dimension
    beside: dict[str, Any] = {"align": "left", "dx": 8} if place < 0.6 else {"align": "right", "dx": -8}
    marks = [
        kept.mark_rule(style="kept-rule"),
        kept.mark_text(style="kept-text", **beside).encode(y=alt.datum(0.06), text="text:N"),
        kept.mark_point(style="kept-dot").encode(y=alt.Y("together:Q", title=None)),
    ]
    if target is not None:
        line = _over([{"share": float(target), "text": f"target {target:.0%}"}]).encode(y=alt.Y("share:Q", title=None))
        marks += [
            line.mark_rule(style="target"),
            line.mark_text(style="target-text").encode(x=alt.value(4), text="text:N"),
        ]
    return marks


def scree(ratios: npt.NDArray[np.float64], components: int, target: float | None, *, description: str) -> Spec:
    """The share of variance that the first 1, 2, 3 ... components explain together.

    Args:
        ratios: float64 (d,), each component's share, descending.
        components: how many were kept; marked with a rule.
        target: the share asked for, marked with a dashed line, or ``None``.
        description: the chart in words.
    """
    import altair as alt

    together, dimension = np.minimum(np.cumsum(ratios), 1.0), len(ratios)
    rows = [
        {"k": int(k), "together": round(float(together[k - 1]), 5), "own": round(float(ratios[k - 1]), 6)}
        for k in thin(dimension, components)
    ]
    axes = _scree_axes(dimension)
    curve = _over(rows).encode(**axes)
    near = alt.selection_point(name="near", on="pointermove", nearest=True, fields=["k"], empty=False)
    tooltip = [
        alt.Tooltip("k:Q", title="components", format=",d"),
        alt.Tooltip("together:Q", title="explain together", format=".1%"),
        alt.Tooltip("own:Q", title="the last adds", format=".2%"),
    ]
    dot = curve.mark_point(style="dot").encode(
        tooltip=tooltip, opacity=alt.when(near).then(alt.value(1)).otherwise(alt.value(0))
    )
    layers = [
        curve.transform_filter(f"datum.k <= {int(components)}").mark_area(style="kept"),
        curve.mark_line(style="curve"),
        *_scree_marks(components, dimension, float(together[components - 1]), target, axes["x"]),
        dot.properties(name="near-dots").add_params(near),
    ]
    return finish(alt.layer(*layers).properties(width="container", height=320), description)


def rounds(rows: Sequence[Mapping[str, Any]], name: str, best: int, *, percents: bool, description: str) -> Spec:
    """A figure by epoch: on the images learnt from, and on those set aside.

    Args:
        rows: of each epoch, ``epoch``, the figure under its ``name``, and under ``val_<name>`` that of the others.
        name: of the figure.
        best: the epoch that was chosen; marked with a rule.
        percents: whether it is a share.
        description: the chart in words.
    """
    import altair as alt

    epochs = [int(row["epoch"]) for row in rows]
    axis = alt.Axis(format=".0%" if percents else ".2f", tickCount=5, domain=False, ticks=False)
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(domain=[1, max(2, epochs[-1])], nice=False),
        axis=alt.Axis(
            values=[e for e in epochs if e % max(1, -(-epochs[-1] // 12)) == 0 or e == 1], format="d", grid=False
        ),
    )
    layers: list[Any] = [_over([{"epoch": best}]).mark_rule(style="kept-rule").encode(x=x)]
    for key, style, whose in ((name, "curve", "learnt from"), (f"val_{name}", "curve-second", "set aside")):
        known = [(int(row["epoch"]), row[key]) for row in rows if row[key] is not None]
        values = [{"epoch": epoch, "value": round(float(value), 5)} for epoch, value in known]
        if values:
            tooltip = [
                alt.Tooltip("epoch:Q", title="epoch"),
                alt.Tooltip("value:Q", title=f"{name}, {whose}", format=".1%" if percents else ".4f"),
            ]
            y = alt.Y("value:Q", title=None, axis=axis, scale=alt.Scale(zero=False))
            line = _over(values).mark_line(style=style, point=len(values) == 1)
            layers.append(line.encode(x=x, y=y, tooltip=tooltip))
    return finish(alt.layer(*layers).properties(width="container", height=240), description)


def intervals(rows: Sequence[Mapping[str, Any]], *, description: str) -> Spec:
    """Accuracy of each classifier as a dot on the line of its interval, in the order given."""
    import altair as alt

    values = [
        {
            "i": i,
            "accuracy": round(float(row["accuracy"]), 5),
            "low": round(float(row["accuracy_interval"][0]), 5),
            "high": round(float(row["accuracy_interval"][1]), 5),
            "name": row["name"],
            "words": f"{row['name']}: {row['accuracy']:.1%}",
        }
        for i, row in enumerate(rows)
    ]
    x = alt.X(
        "low:Q",
        title=None,
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format=".0%", tickCount=5, domain=False, ticks=False),
    )
    y = alt.Y("i:O", title=None, axis=_named_axis(domain=False, ticks=False, labelPadding=8, labelLimit=260))
    tooltip = [
        alt.Tooltip("name:N", title="classifier"),
        alt.Tooltip("accuracy:Q", title="accuracy", format=".1%"),
        alt.Tooltip("low:Q", title="from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
    ]
    base = _over(values).encode(y=y, description="words:N", tooltip=tooltip)
    lines = base.mark_rule(style="kept-rule").encode(x=x, x2="high:Q")
    dots = base.mark_point(style="kept-dot").encode(x=alt.X("accuracy:Q", title=None))
    chart = (lines + dots).add_params(alt.param(name="names", value=[row["name"] for row in rows]))
    return finish(chart.properties(width="container", height=34 * len(rows)), description)


def _cells(labels: Sequence[str], counts: npt.NDArray[np.integer[Any]]) -> list[dict[str, Any]]:
    """One row for each cell of the matrix that is not empty."""
    totals = counts.sum(axis=1)
    return [
        {
            "i": int(i),
            "j": int(j),
            "true": labels[i],
            "taken": labels[j],
            "count": int(counts[i, j]),
            "share": round(float(counts[i, j] / totals[i]), 4),
            "of": f"{counts[i, j] / totals[i]:.1%} of {int(totals[i]):,}",
            "right": bool(i == j),
            "words": f"{labels[i]} taken for {labels[j]}: {int(counts[i, j]):,}",
        }
        for i, j in np.argwhere(counts > 0)
    ]


def _matrix(labels: Sequence[str], rows: Sequence[Mapping[str, Any]], wide: bool) -> Any:
    """The axes and tooltip of the confusion matrix, without marks."""
    import altair as alt

    look: dict[str, Any] = {"ticks": False, "domain": False, "grid": True, "zindex": 0, "labelLimit": 130}
    look["labelFontSize"] = 11 if wide else 9.5
    scale = alt.Scale(domain=list(range(len(labels))))
    return _over(rows).encode(
        x=alt.X("j:O", title="taken for", scale=scale, axis=_named_axis(orient="top", labelAngle=-90, **look)),
        y=alt.Y("i:O", title="true label", scale=scale, axis=_named_axis(**look)),
        description="words:N",
        tooltip=[
            alt.Tooltip("true:N", title="true label"),
            alt.Tooltip("taken:N", title="taken for"),
            alt.Tooltip("count:Q", title="images", format=",d"),
            alt.Tooltip("of:N", title="share of row"),
        ],
    )


def confusion(labels: Sequence[str], counts: npt.NDArray[np.integer[Any]], *, description: str) -> Spec:
    """The confusion matrix: right answers in one quiet colour, wrong ones in a loud one, by share of the row.

    Args:
        labels: the k labels, in the order of the matrix.
        counts: int (k, k); rows are the true label, columns the predicted one. Empty cells are not drawn.
        description: the chart in words.
    """
    import altair as alt

    rows, wide = _cells(labels, counts), len(labels) <= WIDE_CELLS_UP_TO
    base = _matrix(labels, rows, wide)
    worst = max([float(row["share"]) for row in rows if not row["right"]], default=0.0)
    most = max(0.2, worst)
    # A square root lifts the few errors out of the background. Counts on a strong colour are written in another ink.
    kinds = (
        ("true", "right", alt.Scale(type="linear", domain=[0, 1], range="ramp"), 0.7),
        ("false", "wrong", alt.Scale(type="sqrt", domain=[0, most], range="heatmap"), 0.45 * most),
    )
    layers = []
    for right, title, scale, strong in kinds:
        legend = alt.Legend(title=title, orient="bottom", direction="horizontal", format=".0%", tickCount=3)
        cells = base.transform_filter(f"datum.right === {right}")
        layers.append(cells.mark_rect(style="square").encode(color=alt.Color("share:Q", scale=scale, legend=legend)))
        if len(labels) <= COUNTS_UP_TO:
            for style, test in (("count-strong", ">="), ("count-weak", "<")):
                text = cells.transform_filter(f"datum.share {test} {strong}").mark_text(style=style)
                layers.append(text.encode(text=alt.Text("count:Q", format=",d")))
    sized: dict[str, Any] = {"width": alt.Step(CELL_PX), "height": alt.Step(CELL_PX)}
    if wide:
        sized = {"width": "container", "height": 34 * len(labels)}
    chart = (
        alt.layer(*layers).resolve_scale(color="independent").add_params(alt.param(name="names", value=list(labels)))
    )
    return finish(chart.properties(**sized), description)
