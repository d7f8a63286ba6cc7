"""A chain: a classifier of a coarse label, then one of a fine label for each of its labels. Driver only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from mirabelle.pipeline.chain_report import tell
from mirabelle.pipeline.job import MAX_FACTS_BYTES, Job
from mirabelle.pipeline.taught import ASIDE
from mirabelle.spark.cluster import slots
from mirabelle.storage import join, spark_uri

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from mirabelle.spark.classify import Fitted


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
        answers: by id the facts of each network in the chain, and what it says of pictures that it did not learn from.
    """

    job: Job
    vectors: DataFrame
    width: int
    answers: Mapping[str, tuple[dict[str, Any], pd.DataFrame]] = field(default_factory=dict)

    def fit(self, rows: Column, target: Column, labels: Sequence[str], settings: Classify) -> Fitted:
        """A classifier of a target on the rows for which a condition holds."""
        from mirabelle.spark.classify import fit_classifier

        training = self.vectors.where(rows).withColumn(schema.LABEL, target)
        return fit_classifier(training, settings, labels, self.width, slots(self.job.context))

    def rows(self, which: Column) -> pd.DataFrame:
        """The rows for which a condition holds, by path, without their vectors."""
        from mirabelle.spark.classify import VECTOR

        found: pd.DataFrame = self.vectors.where(which).drop(VECTOR, SIDE, FOLD).toPandas()
        return found.sort_values(schema.PATH, ignore_index=True)

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
        ConfigError: ``classify.networks`` names a step that is none.
        TrainingError: nothing to learn in the second step.
        OutputError: ``classify.networks`` names one that was not taught on this split.
    """
    from pyspark.sql import functions as F

    settings, folder = job.config.classify, job.folder("classifier")
    learner = Learner(job, vectors.cache(), width)
    train, test = F.col(SIDE) == "train", F.col(SIDE) == "test"
    label, fine = F.col(schema.LABEL), F.col(schema.CHAIN_LABEL)
    about = learner.vectors.where(train).select(schema.LABEL, schema.CHAIN_LABEL).toPandas()
    classes = _fine_labels(job, about)
    for name in set(settings.networks) - {settings.chain[0], *classes}:
        raise ConfigError(f"classify.networks: {name!r} is neither {settings.chain[0]!r} nor one of {list(classes)}")
    learner = replace(learner, answers={one: _answers_of(job, one) for one in settings.networks.values()})
    if network := settings.networks.get(settings.chain[0]):
        rows = _by_network(learner, network, sides.labels, learner.rows(test))
        said = said_of(rows, sides.labels)
        facts: dict[str, Any] = {"first": network}
    else:
        first = learner.fit(train, label, sides.labels, settings)
        first.model.write().overwrite().save(spark_uri(join(folder, "model")))
        said, rows = learner.ask(first, sides.labels, test)
        facts = {"chosen": first.chosen, "scores": first.scores}
    steps, fitted = _second(learner, classes, train, test, rows, settings)
    told = []
    for number, (name, labels) in enumerate(classes.items()):
        known = int((about.loc[about[schema.LABEL] == name, schema.CHAIN_LABEL]).notna().sum())
        entry: dict[str, Any] = {"of": name, "labels": list(labels), "model": None, "train_rows": known}
        entry |= {"network": settings.networks.get(name)}
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
    tell(job, metrics, thresholds)
    chained = {"columns": list(settings.chain), "steps": told, "min_rows": settings.min_rows, "metrics": metrics}
    return facts | {"chain": {**chained, "precision": settings.precision, "thresholds": asdict(thresholds)}}


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
    """By coarse label what the second step says of some rows, and its classifier where it needs one."""
    from pyspark.sql import functions as F

    label, fine = F.col(schema.LABEL), F.col(schema.CHAIN_LABEL)
    said, fitted = {}, {}
    for name, labels in classes.items():
        if len(labels) == 1:
            said[name] = Said(labels, np.full(len(rows), labels[0], object), np.ones((len(rows), 1)))
            continue
        if network := settings.networks.get(name):
            kept = rows.drop(columns=[schema.PREDICTED, schema.PROBABILITIES])
            said[name] = said_of(_by_network(learner, network, labels, kept), labels)
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
        if network := settings.networks.get(settings.chain[0]):
            rows = _by_network(learner, network, sides.labels, _unlearnt(learner, learner.rows(own)))
        else:
            _, rows = learner.ask(learner.fit(others, label, sides.labels, settings), sides.labels, own)
            rows = _unlearnt(learner, rows)
        if not len(rows):
            continue
        said = said_of(rows, sides.labels)
        steps, _ = _second(learner, classes, others, own, rows, settings)
        found.append(rows.join(chain(said, steps)))
    if not found:
        raise OutputError(
            "classify.precision: the networks of the chain have set no pictures aside to choose thresholds by; teach"
            " them with finetune.validation_share above 0"
        )
    return pd.concat(found, ignore_index=True)


def _unlearnt(learner: Learner, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without those that a network of the chain has learnt: it is asked of the others alone."""
    for _, said in learner.answers.values():
        rows = rows[rows[schema.PATH].isin(said[schema.PATH])]
    return rows.reset_index(drop=True)


def _answers_of(job: Job, network: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """The facts of a network that was taught, and what it says of all pictures that it did not learn from.

    Raises:
        OutputError: there is no such network.
    """
    where = join(job.output, "finetuned", network, "finetuned.json")
    try:
        facts = json.loads(job.store.read(where, MAX_FACTS_BYTES))
    except (FetchError, ValueError) as error:
        raise OutputError(
            f"classify.networks: {where} cannot be read ({error}); see {job.output}/finetuned for those there are"
        ) from error
    parts = [join("predictions", network), join("finetuned", network, ASIDE)]
    folders = [path for part in parts if job.store.exists(path := join(job.output, part))]
    columns = [schema.PATH, schema.PREDICTED, schema.PROBABILITIES]
    return facts, pd.concat([job.read_parquet(folder, columns).to_pandas() for folder in folders])


def _by_network(learner: Learner, network: str, labels: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with what a network says of them.

    Raises:
        OutputError: it knows other labels, or has learnt from some of them.
    """
    facts, said = learner.answers[network]
    if list(facts["labels"]) != list(labels):
        raise OutputError(f"classify.networks: {network} knows {facts['labels']}, and its step {list(labels)}")
    found = rows.merge(said, on=schema.PATH).sort_values(schema.PATH, ignore_index=True)
    if len(found) < len(rows):
        raise OutputError(
            f"classify.networks: {network} was asked of {len(found):,} of {len(rows):,} pictures that are judged on;"
            " teach it with the same classify part, a step of the chain by finetune.step"
        )
    return found


def _as_table(rows: pd.DataFrame) -> pa.Table:
    """As predictions are written: probabilities in float32."""
    kept = rows.drop(columns=[name for name in (SIDE, FOLD) if name in rows.columns])
    table = pa.Table.from_pandas(kept.drop(columns=schema.PROBABILITIES), preserve_index=False)
    lists = [np.asarray(row, np.float32) for row in rows[schema.PROBABILITIES]]
    return table.append_column(schema.PROBABILITIES, pa.array(lists, pa.list_(pa.float32())))
