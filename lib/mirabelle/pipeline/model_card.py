"""What a bundle's model card says, out of what the stages wrote. Driver only; needs no Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mirabelle import schema
from mirabelle.bundle.chaining import Chain
from mirabelle.evaluation import Metrics, Standing, confused_pairs
from mirabelle.network import backbones
from mirabelle.network.preparing import Network
from mirabelle.pipeline.bundle_parts import Parts
from mirabelle.pipeline.compare import standing_of
from mirabelle.pipeline.flattery import flattered_by_features
from mirabelle.pipeline.job import Job
from mirabelle.storage import join

PAIRS_SHOWN = 8
# Of so few pictures an interval over draws says little.
FEW_PICTURES = 100
FEW_OF_A_LABEL = 20


def model_card(job: Job, parts: Parts, told: dict[str, Any]) -> str:
    """The card, Markdown.

    Args:
        job: of the run.
        parts: what is bundled.
        told: the bundle's manifest but for the card's own hash.
    """
    facts = parts.facts
    metrics = Metrics.from_json(facts["metrics"])
    standing, pictures, groups = standing_of(job, facts)
    sections = [
        f"# {told['name']}\n\n{_intention(parts)}",
        f"## Data\n\n{_data(parts, metrics)}",
        f"## Figures\n\n{_figures(standing, metrics, pictures, groups)}",
        *([f"## The chain\n\n{_chain(facts['chain'])}"] if facts.get("chain") else []),
        f"## Each label\n\n{_labels(metrics)}",
        f"## Limits\n\n{_lines(_limits(job, parts, metrics, standing))}",
        f"## What it is made of\n\n{_made_of(parts, told)}",
        f"## How it was checked\n\n{_lines(_checked(told['checks']))}",
    ]
    return "\n\n".join(sections) + "\n"


def _intention(parts: Parts) -> str:
    labels = parts.chain.labels
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return (
        f"Tells photographs of {len(labels):,} labels apart: {shown}. It is {parts.facts['estimator']} on"
        f" {parts.facts['features']}."
    )


def _data(parts: Parts, metrics: Metrics) -> str:
    facts = parts.facts
    aside = f", {facts['validation_rows']:,} set aside to choose the round by" if facts.get("validation_rows") else ""
    unseen = [label for label in metrics.labels if label not in facts["labels"]]
    lines = [
        f"Learnt from {facts['train_rows']:,} pictures{aside}; judged on {facts['test_rows']:,} others."
        f" {facts['split']}",
    ]
    if unseen:
        lines.append(f"Judged on labels that it never learnt, too, and always wrong there: {', '.join(unseen)}.")
    return "\n\n".join(lines)


def _figures(standing: Standing, metrics: Metrics, pictures: int, groups: int) -> str:
    def row(name: str, figure: float, interval: Sequence[float]) -> str:
        return f"| {name} | {figure:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |"

    rows = [
        "| figure | on pictures held out | 95 % interval |",
        "|---|---|---|",
        row("accuracy", standing.accuracy, standing.accuracy_interval),
        row("macro-F1", standing.macro_f1, standing.macro_f1_interval),
        row("log-loss", standing.log_loss, standing.log_loss_interval),
        row("calibration error", standing.calibration_error, standing.calibration_error_interval),
    ]
    told = f"{pictures:,} pictures of {groups:,} groups; the intervals hold 95 of 100 draws of groups."
    pairs = confused_pairs(metrics.confusion, PAIRS_SHOWN)
    named = [f"{metrics.labels[i]} taken for {metrics.labels[j]} ({count:,})" for i, j, count in pairs]
    mistakes = f"\n\nMost frequent mistakes: {'; '.join(named)}." if named else ""
    return "\n".join(rows) + f"\n\n{told}{mistakes}"


def _labels(metrics: Metrics) -> str:
    rows = ["| label | precision | recall | F1 | pictures |", "|---|---|---|---|---|"]
    columns = zip(metrics.labels, metrics.precision, metrics.recall, metrics.f1, metrics.support, strict=True)
    rows += [f"| {label} | {p:.3f} | {r:.3f} | {f1:.3f} | {many:,} |" for label, p, r, f1, many in columns]
    return "\n".join(rows)


def _chain(told: dict[str, Any]) -> str:
    """The steps' figures, and how finely is answered."""
    coarse, fine = told["columns"]
    metrics = told["metrics"]
    names = {
        "first": f"{coarse} (the figures above)",
        "second": f"{fine}, where {coarse} is right",
        "end_to_end": "both",
        "flat": f"one classifier of {fine}, which is not in here",
    }
    rows = [(name, metrics[key]) for key, name in names.items()]
    rows += [(f"{fine} of {step['of']}", step) for step in metrics["steps"]]
    table = ["| step | pictures | accuracy | 95 % interval |", "|---|---|---|---|"]
    for name, one in rows:
        if one["accuracy"] is not None:
            low, high = one["interval"]
            table.append(f"| {name} | {one['rows']:,} | {one['accuracy']:.3f} | {low:.3f} to {high:.3f} |")
    levels = {"fine": fine, "coarse": f"{coarse} alone", "not sure": "nothing"}
    given = [
        f"{levels[one['level']]} in {one['share']:.1%}"
        + ("" if one["accuracy"] is None else f" ({one['accuracy']:.1%} of them right)")
        for one in metrics["answers"]
    ]
    aim = f", where {told['precision']:.0%} right was asked for" if told["precision"] is not None else ""
    return "\n".join(table) + f"\n\nIt answers {', '.join(given)}{aim}."


def _limits(job: Job, parts: Parts, metrics: Metrics, standing: Standing) -> list[str]:
    facts, embedding = parts.facts, parts.network.embedding
    limits = [
        "It knows its labels alone, and takes every picture for one of them, whatever it shows.",
        f"It was judged on pictures like those it learnt from; of others nothing is known. {facts['split']}",
    ]
    if facts.get("scores") == "rawPrediction":
        limits.append(
            "Its probabilities are shares of margins: they rank the labels, and say little of how sure it is."
        )
    elif standing.calibration_error > 0.05:
        limits.append(
            f"Its probabilities are off by {standing.calibration_error:.2f} on average: too sure, or not enough."
        )
    few = [label for label, many in zip(metrics.labels, metrics.support, strict=True) if many < FEW_OF_A_LABEL]
    if metrics.support.sum() < FEW_PICTURES:
        limits.append(f"It was judged on {int(metrics.support.sum()):,} pictures alone.")
    elif few:
        limits.append(f"Fewer than {FEW_OF_A_LABEL} pictures were held out of {', '.join(few[:20])}.")
    if embedding.is_random:
        limits.append("The network's weights were drawn, not learnt: good for tests alone.")
    return [*limits, *_doubts(job, parts)]


def _doubts(job: Job, parts: Parts) -> list[str]:
    """Why the figures may flatter."""
    if parts.kind != "classifier" or parts.projection is None:
        return [
            "Whether its figures flatter, by pictures that both sides share, was not looked for here: see its report."
        ]
    reduced = job.read_parquet(join(job.folder("pca", parts.facts["pca"]), "reduced"))
    found = flattered_by_features(job, parts.facts, reduced.sort_by(schema.PATH))
    return [
        f"{one.sentence}" + ("" if one.accuracy is None else f" Accuracy without them: {one.accuracy:.3f}.")
        for one in found
    ]


def _made_of(parts: Parts, told: dict[str, Any]) -> str:
    embedding, row = parts.network.embedding, backbones.find(parts.network.embedding.backbone)
    reduction = "none"
    if parts.projection:
        shares = parts.projection.explained_variance_ratio[: len(parts.projection.components)]
        reduction = f"{len(shares):,} components that hold {float(np.sum(shares)):.1%} of the variance"
    lines = [
        ("bundle", told["id"]),
        ("classifier", f"{parts.facts['id']}: {_described(parts.chain)}"),
        (
            "network",
            f"{embedding.backbone}, weights {embedding.weights}, down to {embedding.layer} ({embedding.pooling})",
        ),
        *((f"further network {number}", _further(one)) for number, one in enumerate(parts.others, 1)),
        ("licence of published weights", row.licence if embedding.weights == "imagenet" else "that of your weights"),
        ("pictures", f"{embedding.input_px} px square; {embedding.preprocessing}"),
        ("arithmetic", f"network {embedding.precision} by OpenVINO; PCA and classifier float64 by NumPy"),
        ("PCA", reduction),
        ("fingerprint", embedding.fingerprint),
        ("made by", ", ".join(f"{name} {version}" for name, version in told["versions"].items())),
    ]
    index = told["index"]
    if index:
        lines.append(
            ("index", f"{index['pictures']:,} pictures of the training set, by {index['of']}, with thumbnails")
        )
    return _lines(f"{name}: {text}" for name, text in lines)


def _further(network: Network) -> str:
    """Another network of a chain."""
    embedding = network.embedding
    return f"{embedding.backbone}, weights {embedding.weights}, down to {embedding.layer}, of {embedding.input_px} px"


def _described(chain: Chain) -> str:
    classifiers = [chain.first, *(step.classifier for step in chain.steps.values())]
    numbers = sum(array.size for one in classifiers for array in one.arrays.values())
    bars = ", with thresholds of its own" if any(one.thresholds for one in classifiers) else ""
    steps = f", a chain of {len(classifiers)} classifiers" if chain.steps else ""
    return f"{numbers:,} numbers{bars}{steps}"


def _checked(checks: dict[str, Any]) -> list[str]:
    lines = []
    if "rows" in checks:
        lines.append(
            f"On all {checks['rows']:,} rows held out its probabilities differ from Spark's own by"
            f" {checks['rows_off']:.1g} at most ({checks['tolerance']:g} is allowed)."
        )
    features = "" if checks["features_off"] is None else f", features by {checks['features_off']:.1g} of the largest"
    lines.append(
        f"{checks['pictures']:,} pictures held out were read again: probabilities differ from the stored ones by"
        f" {checks['probabilities_off']:.1g} at most{features}; {checks['answers_changed']:,} got another answer."
    )
    return lines


def _lines(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)
