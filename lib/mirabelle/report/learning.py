"""The part of a page that says how a network was taught. Pure; runs on the driver."""

from __future__ import annotations

from typing import Any

from mirabelle.report import charts
from mirabelle.report.assets import data_uri
from mirabelle.report.contents import Learning, Looked
from mirabelle.report.wording import decimal, percent, plural, seconds, whole

View = dict[str, Any]


def tiles(told: Learning) -> list[tuple[str, str, str]]:
    """The figures worth knowing first: a name, a value and a few words each."""
    waited, took = (sum(one[name] for one in told.rounds) for name in ("waiting_seconds", "seconds"))
    return [
        ("epochs", whole(len(told.rounds)), f"the best was the {_ordinal(told.best)}"),
        ("parameters", whole(told.parameters), f"{whole(told.trainable)} of them learnt"),
        ("teaching", seconds(took), f"{percent(waited / took)} of it waiting for images" if took else ""),
    ]


def learning(told: Learning | None) -> View:
    """Curves of loss and accuracy, the rounds as a table, views, and where the network looked."""
    if told is None:
        return {"absent": "No network was taught in this run", "command": "mirabelle finetune"}
    best = told.rounds[told.best - 1]
    aside = best["val_loss"] is not None
    specs = {
        "loss": charts.rounds(told.rounds, "loss", told.best, percents=False, description=_words(told, "loss", aside)),
        "accuracy": charts.rounds(
            told.rounds, "accuracy", told.best, percents=True, description=_words(told, "accuracy", aside)
        ),
    }
    return {
        "absent": None,
        "specs": specs,
        "epochs": plural(len(told.rounds), "epoch"),
        "best": whole(told.best),
        "aside": aside,
        "parameters": whole(told.parameters),
        "trainable": whole(told.trainable),
        "took": seconds(sum(one["seconds"] for one in told.rounds)),
        "rows": [_row(one, one["epoch"] == told.best) for one in told.rounds],
        "views": [data_uri(version) for version in told.views.versions] if told.views else [],
        "view_of": {"image": data_uri(told.views.picture.thumbnail), "path": told.views.picture.path}
        if told.views
        else None,
        "looked": [_looked(one) for one in told.looked],
    }


def _row(one: Any, is_best: bool) -> View:
    figures = [decimal(one["loss"], 4), percent(one["accuracy"])]
    aside = ["" if one["val_loss"] is None else decimal(one["val_loss"], 4)]
    aside.append("" if one["val_accuracy"] is None else percent(one["val_accuracy"]))
    return {
        "epoch": whole(one["epoch"]),
        "figures": [*figures, *aside],
        "took": seconds(one["seconds"]),
        "best": is_best,
    }


def _words(told: Learning, name: str, aside: bool) -> str:
    last, best = told.rounds[-1], told.rounds[told.best - 1]
    words = f"{name} by epoch: on the images learnt from {decimal(told.rounds[0][name], 3)} at first and"
    words += f" {decimal(last[name], 3)} at last"
    return words + (f"; set aside {decimal(best[f'val_{name}'], 3)} in the best, epoch {told.best}." if aside else ".")


def _looked(one: Looked) -> View:
    return {
        "path": one.picture.path,
        "label": one.picture.label,
        "predicted": one.predicted,
        "probability": percent(one.probability),
        "wrong": one.picture.label != one.predicted,
        "image": data_uri(one.picture.thumbnail),
        "overlay": data_uri(one.overlay),
    }


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
