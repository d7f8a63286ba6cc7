"""A chain: a classifier of a coarse label, then one of a fine label for each of its labels. Driver only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mirabelle import schema
from mirabelle.config import Classify, Config
from mirabelle.errors import ConfigError, FetchError, OutputError, TrainingError
from mirabelle.evaluation import (
    FOLD,
    SIDE,
    Said,
    Sides,
    Thresholds,
    answer,
    chain,
    choose_thresholds,
    group_rows,
    judge_chain,
    pair,
)
from mirabelle.pipeline.job import MAX_FACTS_BYTES, Job
from mirabelle.pipeline.taught import ASIDE
from mirabelle.report import Chained
from mirabelle.spark.cluster import slots
from mirabelle.storage import join, spark_uri

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from mirabelle.spark.classify import Fitted

WRONG_SHOWN = 20


def with_fine_label(config: Config, rows: DataFrame) -> DataFrame:
    """Rows with the chain's coarse label as ``label`` and its fine one as ``chain_label``.

    Raises:
        ConfigError: there is no such label column.
    """
    from pyspark.sql import functions as F

    coarse, fine = (config.labels.column(name) for name in config.classify.chain)
    for name in (coarse, fine):
        if name not in rows.columns:
            known = [one for one in rows.columns if one not in schema.RESERVED]
            raise ConfigError(f"classify.chain: {name!r} is none of the label columns {known}")
    return rows.withColumn(schema.CHAIN_LABEL, F.col(f"`{fine}`")).withColumn(schema.LABEL, F.col(f"`{coarse}`"))


@dataclass(frozen=True)
class Learner:
    """Fits classifiers on some rows and has them answer for others.

    Attributes:
        job: of the run.
        vectors: ``path, label, chain_label, _side, _fold``, the vector and further label columns.
        width: of the vectors.
    """

    job: Job
    vectors: DataFrame
    width: int

    def fit(self, rows: Column, target: Column, labels: Sequence[str], settings: Classify) -> Fitted:
        """A classifier of a target on the rows for which a condition holds."""
        from mirabelle.spark.classify import fit_classifier

        training = self.vectors.where(rows).withColumn(schema.LABEL, target)
        return fit_classifier(training, settings, labels, self.width, slots(self.job.session))

    def ask(self, fitted: Fitted, labels: Sequence[str], rows: Column) -> tuple[Said, pd.DataFrame]:
        """What it says of the rows for which a condition holds, by path, and the rows."""
        from mirabelle.spark.classify import predict

        frame = predict(fitted, self.vectors.where(rows)).toPandas().sort_values(schema.PATH, ignore_index=True)
        return said_of(frame, labels), frame


def said_of(frame: pd.DataFrame, labels: Sequence[str]) -> Said:
    """Of a table of predictions."""
    shares = np.array(frame[schema.PROBABILITIES].tolist(), np.float64).reshape(len(frame), len(labels))
    return Said(tuple(labels), frame[schema.PREDICTED].to_numpy(object), shares)


def train_chain(job: Job, vectors: DataFrame, sides: Sides, width: int) -> dict[str, Any]:
    """Fit a chain, save its models, and write the predictions of both steps; gives what the facts say of it.

    Args:
        job: of the run; ``classify.chain`` is set.
        vectors: both sides' rows, as ``Learner`` has them.
        sides: of the coarse label.
        width: of the vectors.

    Raises:
        TrainingError: nothing to learn in the second step.
        OutputError: ``classify.first`` is no network that was taught on this split.
    """
    from pyspark.sql import functions as F

    settings, folder = job.config.classify, job.folder("classifier")
    learner = Learner(job, vectors.cache(), width)
    train, test = F.col(SIDE) == "train", F.col(SIDE) == "test"
    label, fine = F.col(schema.LABEL), F.col(schema.CHAIN_LABEL)
    about = learner.vectors.where(train).select(schema.LABEL, schema.CHAIN_LABEL).toPandas()
    classes = _fine_labels(job, about)
    if settings.first is None:
        first = learner.fit(train, label, sides.labels, settings)
        first.model.write().overwrite().save(spark_uri(join(folder, "model")))
        said, rows = learner.ask(first, sides.labels, test)
        facts: dict[str, Any] = {"chosen": first.chosen, "scores": first.scores}
    else:
        rows = _answers_of(job, join("predictions", settings.first), sides, learner, test)
        said, facts = said_of(rows, sides.labels), {"first": settings.first}
    steps, fitted = _second(learner, classes, train, test, rows, settings)
    told = []
    for number, (name, labels) in enumerate(classes.items()):
        known = int((about.loc[about[schema.LABEL] == name, schema.CHAIN_LABEL]).notna().sum())
        entry: dict[str, Any] = {"of": name, "labels": list(labels), "model": None, "train_rows": known}
        if step := fitted.get(name):
            entry |= {"model": f"steps/{number}/model", "chosen": step.chosen, "scores": step.scores}
            step.model.write().overwrite().save(spark_uri(join(folder, entry["model"])))
        told.append(entry)
    pairs = sorted({pair(*both) for both in about.dropna().itertuples(index=False)})
    both = F.concat(label, F.lit(pair("", "")), fine)
    flat = learner.fit(train & fine.isNotNull(), both, pairs, settings)
    thresholds = Thresholds()
    if settings.precision is not None:
        thresholds = choose_thresholds(_aside(job, learner, sides, classes), settings.precision)
    rows = rows.join(chain(said, steps))
    rows[schema.CHAIN_FLAT] = learner.ask(flat, pairs, test)[0].predicted
    rows = rows.join(answer(rows, thresholds))
    learner.vectors.unpersist()
    job.write_table(join(job.folder("predictions"), "part-00000.parquet"), _as_table(rows))
    groups = group_rows(rows, settings.group_by, []) if settings.group_by else rows[schema.PATH].tolist()
    metrics = judge_chain(rows, groups, settings.seed)
    _tell(job, metrics, thresholds)
    chained = {"columns": list(settings.chain), "steps": told, "min_rows": settings.min_rows, "metrics": metrics}
    return facts | {"chain": {**chained, "precision": settings.precision, "thresholds": asdict(thresholds)}}


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


def _fine_labels(job: Job, about: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """By coarse label the fine ones that are learnt; those with too little to learn are told, and have none."""
    least, fine = job.config.classify.min_rows, job.config.classify.chain[1]
    found = {}
    for name, rows in about.groupby(schema.LABEL)[schema.CHAIN_LABEL]:
        known = rows.dropna()
        if len(known) >= least:
            found[str(name)] = tuple(sorted(known.unique()))
            job.console.say(f"{name}: {known.nunique()} of {fine}, {len(known):,} pictures to learn them from")
        else:
            job.console.say(
                f"{name} is the whole answer: {len(known):,} pictures to learn {fine} from, and classify.min_rows is"
                f" {least}"
            )
    if all(len(labels) < 2 for labels in found.values()):
        raise TrainingError(
            f"classify.chain: nothing to learn of {fine}: no label has {least} pictures with one, of two kinds or more;"
            " see classify.min_rows"
        )
    return found


def _second(
    learner: Learner,
    classes: dict[str, tuple[str, ...]],
    learnt: Column,
    asked: Column,
    rows: pd.DataFrame,
    settings: Classify,
) -> tuple[dict[str, Said], dict[str, Fitted]]:
    """By coarse label what the second step says of some rows, and its classifier where there is more to say than one."""
    from pyspark.sql import functions as F

    label, fine = F.col(schema.LABEL), F.col(schema.CHAIN_LABEL)
    said, fitted = {}, {}
    for name, labels in classes.items():
        if len(labels) == 1:
            said[name] = Said(labels, np.full(len(rows), labels[0], object), np.ones((len(rows), 1)))
            continue
        fitted[name] = learner.fit(learnt & (label == name) & fine.isNotNull(), fine, labels, settings)
        everything, frame = learner.ask(fitted[name], labels, asked)
        at = frame[schema.PATH].isin(rows[schema.PATH]).to_numpy()
        said[name] = Said(everything.labels, everything.predicted[at], everything.probabilities[at])
    return said, fitted


def _aside(job: Job, learner: Learner, sides: Sides, classes: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """What the chain says of pictures to learn from when they are left out: by folds, with the settings chosen."""
    from pyspark.sql import functions as F

    settings = job.config.classify.model_copy(update={"grid": {}})
    label = F.col(schema.LABEL)
    found = []
    for fold in range(settings.folds):
        own = (F.col(SIDE) == "train") & (F.col(FOLD) == fold)
        others = (F.col(SIDE) == "train") & (F.col(FOLD) != fold)
        if settings.first is None:
            first = learner.fit(others, label, sides.labels, settings)
            said, rows = learner.ask(first, sides.labels, own)
        else:
            rows = _answers_of(job, join("finetuned", settings.first, ASIDE), sides, learner, own)
            said = said_of(rows, sides.labels)
        steps, _ = _second(learner, classes, others, own, rows, settings)
        found.append(rows.join(chain(said, steps)))
    return pd.concat(found, ignore_index=True)


def _answers_of(job: Job, path: str, sides: Sides, learner: Learner, wanted: Column) -> pd.DataFrame:
    """Rows with what a network that was taught says of them: all of those judged on, and those that it did not learn.

    Raises:
        OutputError: there is no such network, or it was taught on another split.
    """
    first = job.config.classify.first
    where = join(job.output, "finetuned", str(first), "finetuned.json")
    try:
        facts = json.loads(job.store.read(where, MAX_FACTS_BYTES))
    except (FetchError, ValueError) as error:
        raise OutputError(f"classify.first: {where} cannot be read ({error}); see {job.output}/finetuned") from error
    if list(facts["labels"]) != list(sides.labels):
        raise OutputError(f"classify.first: {first} knows {facts['labels']}, and the chain begins with {sides.labels}")
    said = job.read_parquet(join(job.output, path)).select([schema.PATH, schema.PREDICTED, schema.PROBABILITIES])
    rows = learner.vectors.where(wanted).drop("classifier_input", SIDE, FOLD).toPandas()
    found = rows.merge(said.to_pandas(), on=schema.PATH).sort_values(schema.PATH, ignore_index=True)
    if not path.endswith(f"/{ASIDE}") and len(found) < len(rows):
        raise OutputError(
            f"classify.first: {first} was judged on {len(found):,} of the {len(rows):,} pictures that the chain is"
            " judged on; teach it with the same classify part"
        )
    return found


def _as_table(rows: pd.DataFrame) -> pa.Table:
    """As predictions are written: probabilities in float32."""
    kept = rows.drop(columns=[name for name in (SIDE, FOLD) if name in rows.columns])
    table = pa.Table.from_pandas(kept.drop(columns=schema.PROBABILITIES), preserve_index=False)
    lists = [np.asarray(row, np.float32) for row in rows[schema.PROBABILITIES]]
    return table.append_column(schema.PROBABILITIES, pa.array(lists, pa.list_(pa.float32())))


def _tell(job: Job, metrics: dict[str, Any], thresholds: Thresholds) -> None:
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


_STEPS = {"first": "first", "second, given the first": "second", "end to end": "end_to_end", "flat": "flat"}
