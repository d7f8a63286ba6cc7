"""The parts of a page that say what was found: components, the map, neighbours, the classifier.

Pure; runs on the driver. Each function turns contents into a dict of words, rows and Vega-Lite specifications for the
template of the same name; a part that is not there says why, and which command makes it, in ``absent``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mirabelle.report import charts, scatter
from mirabelle.report.assets import data_uri
from mirabelle.report.contents import Neighbours, ReportContents
from mirabelle.report.judged import Compared, Evaluation
from mirabelle.report.pictures import Picture
from mirabelle.report.wording import decimal, is_number, percent, plural, seconds, size, whole

View = dict[str, Any]

QUERIES_SHOWN = 24
NEAREST_SHOWN = 10
PAIRS_SHOWN = 12
PICTURES_A_PAIR = 6
CONFUSIONS_LISTED = 200
# Encoded pictures the map may hold, as data URIs; with Vega and all else the page stays under 8 MB.
MAP_CHARACTERS = 5_000_000
_NO_PCA = {"absent": "No PCA has been fitted in this output yet", "command": "mirabelle reduce"}
_SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)


def _capped(shown: int, total: int) -> str | None:
    return f"The first {whole(shown)} of {whole(total)}." if total > shown else None


def _picture(picture: Picture) -> View:
    return {
        "path": picture.path,
        "name": picture.path.rstrip("/").rsplit("/", 1)[-1],
        "label": picture.label,
        "image": data_uri(picture.thumbnail),
    }


def variance(contents: ReportContents) -> View:
    """The scree curve and how many components each share of the variance takes."""
    scree = contents.scree
    if scree is None:
        return dict(_NO_PCA)
    together = np.cumsum(scree.explained_variance_ratio)
    kept = percent(together[scree.components - 1])
    # A hair's breadth of rounding must not cost a component.
    needed = [
        (share, int(np.searchsorted(together, share - 1e-9)) + 1) for share in _SHARES if together[-1] >= share - 1e-9
    ]
    return {
        "absent": None,
        "components": plural(scree.components, "component"),
        "kept": kept,
        "dimension": whole(scree.dimension),
        "known": whole(len(together)) if len(together) < scree.dimension else None,
        "rows": plural(scree.rows, "image"),
        "target": None if scree.variance_target is None else percent(scree.variance_target, 0),
        "needed": [(percent(share, 0), whole(count)) for share, count in needed],
        "spec": charts.scree(
            scree.explained_variance_ratio,
            scree.components,
            scree.variance_target,
            description=f"Share of variance explained by the first components together: {scree.components} of them"
            f" explain {kept}.",
        ),
    }


def _thin(images: list[str | None]) -> tuple[list[str | None], int]:
    """Drop every so many pictures until the rest fit :data:`MAP_CHARACTERS`; say how many were dropped."""
    held = [i for i, image in enumerate(images) if image]
    weight = sum(len(images[i] or "") for i in held)
    if weight <= MAP_CHARACTERS:
        return images, 0
    keep = set(np.linspace(0, len(held) - 1, int(len(held) * MAP_CHARACTERS / weight)).astype(int).tolist())
    kept = {held[i] for i in keep}
    return [image if i in kept else None for i, image in enumerate(images)], len(held) - len(kept)


def map_(contents: ReportContents) -> View:
    """The map of images on the first two components."""
    sample = contents.scatter
    if sample is None or not len(sample.pictures):
        if contents.scree is None:
            return dict(_NO_PCA)
        return {"absent": "The PCA of this output has no second component to draw a map on", "command": None}
    ratios = contents.scree.explained_variance_ratio[:2].tolist() if contents.scree else []
    prefer = [label for pair in contents.confused for label in (pair.true, pair.predicted)]
    plot = scatter.plot(sample, ratios, prefer)
    images, dropped = _thin([data_uri(picture.thumbnail) for picture in plot.shown])
    sampled = len(sample.pictures) < sample.total
    plot.spec["description"] = (
        f"{plural(len(plot.shown), 'image')} on the first two principal components, coloured by label."
    )
    return {
        "absent": None,
        "plot": plot,
        "spec": plot.spec,
        "pictures": {
            "images": images,
            "paths": [picture.path for picture in plot.shown],
            "labels": [picture.label for picture in plot.shown],
        },
        "state": {"few": plot.few, "lit": list(plot.lit), "labels": len(plot.key), "slots": scatter.SLOTS},
        "any_images": any(images),
        "shown": plural(len(plot.shown), "image"),
        "total": f"A sample of {whole(len(sample.pictures))} of {whole(sample.total)} images" if sampled else None,
        "dropped": plural(plot.dropped, "image") if plot.dropped else None,
        "thinned": whole(dropped) if dropped else None,
    }


def _row_of_neighbours(entry: Neighbours) -> View:
    label = entry.query.label
    nearest = [
        _picture(picture)
        | {"similarity": decimal(similarity), "other": None not in (label, picture.label) and picture.label != label}
        for picture, similarity in entry.nearest[:NEAREST_SHOWN]
    ]
    return {"query": _picture(entry.query), "nearest": nearest}


def neighbours(contents: ReportContents) -> View:
    """A few images, each with those nearest to it."""
    if not contents.neighbours:
        if contents.scree is None:
            return dict(_NO_PCA)
        return {"absent": "No neighbours were looked up for this report", "command": None}
    rows = [_row_of_neighbours(entry) for entry in contents.neighbours[:QUERIES_SHOWN]]
    labelled = [p for row in rows for p in row["nearest"] if None not in (p["label"], row["query"]["label"])]
    same = sum(not picture["other"] for picture in labelled)
    return {
        "absent": None,
        "rows": rows,
        "same": f"{whole(same)} of {whole(len(labelled))}" if labelled else None,
        "capped": _capped(QUERIES_SHOWN, len(contents.neighbours)),
    }


def _per_class(judged: Evaluation) -> list[View]:
    rows = []
    for i, label in enumerate(judged.labels):
        scores = {"precision": judged.precision[i], "recall": judged.recall[i], "F1": judged.f1[i]}
        rows.append(
            {
                "label": label,
                "scores": [
                    {"value": float(s) if is_number(s) else -1.0, "text": decimal(s), "width": _width(s)}
                    for s in scores.values()
                ],
                "support": int(judged.support[i]),
                "support_text": whole(judged.support[i]),
            }
        )
    return sorted(rows, key=lambda row: (row["scores"][2]["value"], row["scores"][1]["value"], row["label"].casefold()))


def _width(score: object) -> str:
    return f"{100 * min(max(float(score), 0.0), 1.0):.1f}%" if is_number(score) else "0%"  # type: ignore[arg-type]


def _wrong(judged: Evaluation) -> list[tuple[str, str, str, str]]:
    """Every pair of labels that was confused: true, predicted, count and share of the row; most frequent first."""
    counts, totals = judged.confusion, judged.confusion.sum(axis=1)
    off = [(int(counts[i, j]), i, j) for i, j in np.argwhere(counts > 0).tolist() if i != j]
    return [
        (judged.labels[i], judged.labels[j], whole(count), percent(count / totals[i]))
        for count, i, j in sorted(off, key=lambda cell: (-cell[0], cell[1:]))
    ]


def _pairs(contents: ReportContents, support: dict[str, int]) -> Iterable[View]:
    for pair in contents.confused[:PAIRS_SHOWN]:
        total = support.get(pair.true)
        yield {
            "true": pair.true,
            "predicted": pair.predicted,
            "count": whole(pair.count),
            "times": "time" if pair.count == 1 else "times",
            "share": f"{percent(pair.count / total)} of its {whole(total)}" if total else None,
            "pictures": [_picture(picture) for picture in pair.pictures[:PICTURES_A_PAIR]],
            "examples": [_picture(picture) for picture in pair.examples[:PICTURES_A_PAIR]],
        }


def classifier(contents: ReportContents) -> View:
    """How the classifier did: confusion matrix, most confused pairs, scores by label."""
    judged = contents.evaluation
    if judged is None:
        return {"absent": "No classifier has been trained in this output yet", "command": "mirabelle train"}
    counts, wrong = judged.confusion, _wrong(judged)
    right, all_ = int(np.trace(counts)), int(counts.sum())
    return {
        "absent": None,
        "judged": judged,
        "right": whole(right),
        "wrong": whole(all_ - right),
        "all": whole(all_),
        "accuracy": percent(judged.accuracy),
        "top3": percent(judged.top3) if is_number(judged.top3) else None,
        "macro_f1": decimal(judged.macro_f1),
        "flattered": [
            {
                "sentence": one.sentence,
                "accuracy": None if one.accuracy is None else percent(one.accuracy),
                "macro_f1": decimal(one.macro_f1),
            }
            for one in judged.flattered
        ],
        "train_rows": whole(judged.train_rows),
        "test_rows": whole(judged.test_rows),
        "wide": len(judged.labels) <= charts.WIDE_CELLS_UP_TO,
        "width": f"{max(360, 190 + 46 * len(judged.labels))}px",
        "spec": charts.confusion(
            judged.labels,
            counts,
            description=f"Confusion matrix of {len(judged.labels)} labels: {right} of {all_} images on the diagonal.",
        ),
        "cells": wrong[:CONFUSIONS_LISTED],
        "cells_capped": _capped(CONFUSIONS_LISTED, len(wrong)),
        "pairs": list(_pairs(contents, dict(zip(judged.labels, judged.support.tolist(), strict=True)))),
        "per_class": _per_class(judged),
    }


def compared(told: Compared | None) -> View:
    """Classifiers beside each other: accuracy with its interval as a chart, all figures as a table."""
    if told is None:
        return {"absent": "There is one classifier at most in this output", "command": "mirabelle compare"}
    words = [f"{row['name']} {percent(row['accuracy'])}" for row in told.rows]
    return {
        "absent": None,
        "pictures": whole(told.pictures),
        "groups": whole(told.groups),
        "spec": charts.intervals(told.rows, description=f"Accuracy with its interval: {', '.join(words)}."),
        "rows": [
            {
                "name": row["name"],
                "figures": [
                    percent(row["accuracy"]),
                    decimal(row["macro_f1"]),
                    decimal(row["log_loss"]),
                    decimal(row["calibration_error"]),
                ],
                "p": "" if row["p_next"] is None else _p(row["p_next"]),
                "taught": "" if row["training_seconds"] is None else seconds(row["training_seconds"]),
                "image": _milliseconds(row["predicting_seconds"]),
                "size": size(row["size_bytes"]),
            }
            for row in told.rows
        ],
    }


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{decimal(1000 * value, 1)} ms"


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else decimal(value)
