"""What people are told of a chain: on the console, and on the page. Driver only; needs no Spark."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from mirabelle import schema
from mirabelle.evaluation import Thresholds, pair
from mirabelle.pipeline.job import Job
from mirabelle.report import Chained

WRONG_SHOWN = 20
_STEPS = {"first": "first", "second, given the first": "second", "end to end": "end_to_end", "flat": "flat"}


def tell(job: Job, metrics: dict[str, Any], thresholds: Thresholds) -> None:
    """Say how a chain did, and how finely it answers."""
    coarse, fine = job.config.classify.chain
    figures = {name: metrics[key]["accuracy"] for name, key in _STEPS.items()}
    text = ", ".join(f"{name} {'-' if figure is None else f'{figure:.4f}'}" for name, figure in figures.items())
    job.console.say(f"{coarse}, then {fine}: {text}")
    job.summary.append(("chain", f"{coarse}, then {fine}: {text}"))
    if job.config.classify.precision is None:
        return
    names = dict(zip(("fine", "coarse"), (fine, coarse), strict=True))
    for given in metrics["answers"]:
        right = "" if given["accuracy"] is None else f", {given['accuracy']:.1%} of them right"
        job.console.say(f"  {names.get(given['level'], given['level'])}: {given['share']:.1%} of the answers{right}")
    for level, least in asdict(thresholds).items():
        if least is None:
            job.console.warn(
                f"no answer of {names[level]} is right as often as classify.precision asks, on pictures to learn from;"
                " none is given"
            )


def chained(job: Job, classifier: dict[str, Any]) -> Chained:
    """What the page says of a chain, by its facts and its predictions."""
    told = classifier["chain"]
    metrics, (coarse, fine) = told["metrics"], told["columns"]
    names = {
        "first": coarse,
        "second": f"{fine}, given {coarse}",
        "end_to_end": "both",
        "flat": f"one classifier of {fine}",
    }
    figures = [{"name": name, **metrics[key]} for key, name in names.items()]
    figures += [{**step, "name": f"{fine} of {step['of']}"} for step in metrics["steps"]]
    columns = [schema.LABEL, schema.PREDICTED, schema.CHAIN_LABEL, schema.CHAIN_PREDICTED]
    rows = job.read_parquet(job.folder("predictions", classifier["id"]), columns).to_pandas()
    rows = rows[rows[schema.CHAIN_LABEL].notna()].fillna({schema.CHAIN_PREDICTED: "?"})
    meant, said = (
        [pair(*both) for both in zip(rows[one], rows[other], strict=True)]
        for one, other in ((schema.LABEL, schema.CHAIN_LABEL), (schema.PREDICTED, schema.CHAIN_PREDICTED))
    )
    wrong = Counter(both for both in zip(meant, said, strict=True) if both[0] != both[1])
    worst = sorted(wrong.items(), key=lambda one: (-one[1], one[0]))[:WRONG_SHOWN]
    shown = [(true, predicted, count) for (true, predicted), count in worst]
    return Chained(coarse, fine, figures, metrics["answers"], told["precision"], shown)
