"""Reduced features to a classifier and its judgement. Driver only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mirabelle import schema
from mirabelle.config import Classify
from mirabelle.errors import ConfigError, OutputError, TrainingError
from mirabelle.evaluation import Metrics, evaluate, fold_numbers, hold_out
from mirabelle.pipeline.job import Job
from mirabelle.spark.cluster import slots
from mirabelle.storage import join, spark_uri
from mirabelle.worker.embedder import as_matrix

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

# With an underscore in front, as no label column can have it.
SIDE = "_side"
FOLD = "_fold"
# Classes in a sentence.
NAMED = 10


@dataclass(frozen=True)
class Sides:
    """Which rows are learnt from and which are judged on.

    Attributes:
        frame: ``path, _side, _fold``.
        description: how it was chosen.
        labels: the classes that are learnt, in order; two or more.
        unseen: those that the judged rows have besides, and that no row to learn from has.
        warnings: sentences for the user.
    """

    frame: pd.DataFrame
    description: str
    labels: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def train(job: Job) -> None:
    """Fit the classifier, predict the held-out rows, and write ``classifier/<id>/`` and ``predictions/<id>/``.

    Raises:
        OutputError: no PCA to work on.
        TrainingError: too few labels or rows.
    """
    from mirabelle.spark.classify import VECTOR, fit_classifier, predict

    settings, embedding, folder = job.config.classify, job.embedding(), job.folder("classifier")
    with job.runlog.time("train"):
        rows, column, pca = _read_rows(job)
        about = rows.drop(column).toPandas()
        sides = choose_sides(about, settings)
        for warning in sides.warnings:
            job.console.warn(warning)
        if sides.warnings:
            # The report tells them too.
            job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), *sides.warnings])
        vectors = _with_vectors(job, rows, column, sides)
        training = vectors.where(f"{SIDE} = 'train'")
        width = pca["components"] if pca else embedding.width
        fitted = fit_classifier(training, settings, sides.labels, width, slots(job.session))
        fitted.model.write().overwrite().save(spark_uri(join(folder, "model")))
        predictions = predict(fitted, vectors.where(f"{SIDE} = 'test'").drop(SIDE))
        predictions.write.mode("overwrite").parquet(spark_uri(job.folder("predictions")))
        metrics = _judge(job, sides)
        features = f"{width} principal components" if pca else f"all {width} features"
        job.write_json(
            join(folder, "classifier.json"),
            {
                "id": job.runlog.run_id,
                "fingerprint": embedding.fingerprint,
                "embedding": embedding.to_json(),
                "pca": pca["id"] if pca else None,
                "estimator": settings.estimator,
                "params": settings.params,
                "chosen": fitted.chosen,
                "features": features,
                "input_column": VECTOR,
                "scores": fitted.scores,
                "labels": sides.labels,
                "split": sides.description,
                "train_rows": int((sides.frame[SIDE] == "train").sum()),
                "test_rows": int((sides.frame[SIDE] == "test").sum()),
                "metrics": metrics.to_json(),
            },
        )
    figures = {"accuracy": metrics.accuracy, "top3": metrics.top3, "macro_f1": metrics.macro_f1}
    job.runlog.update(
        classifier={"estimator": settings.estimator, "features": features, "split": sides.description, **figures}
    )
    told = f"accuracy {metrics.accuracy:.4f}, top-3 {metrics.top3:.4f}, macro-F1 {metrics.macro_f1:.4f}"
    text = f"{settings.estimator} on {features}: {told}"
    job.console.say(f"{text}. {sides.description}")
    job.summary.append(("classifier", text))


def choose_sides(about: pd.DataFrame, settings: Classify) -> Sides:
    """Decide which labelled rows are learnt from and which are judged on.

    In this order: by group, where ``group_by`` is set; by the path's own split; else by share.

    Args:
        about: ``path, label, split`` and further label columns.
        settings: the ``classify`` part.

    Raises:
        TrainingError: fewer than two classes, or a side with no rows.
    """
    labelled = about[about[schema.LABEL].notna()].sort_values(schema.PATH)
    warnings: list[str] = []
    if labelled[schema.LABEL].nunique() < 2:
        raise TrainingError(
            f"a classifier needs two labels or more, and the features have {labelled[schema.LABEL].nunique()}; set"
            " images.layout or labels.table so that labels are read, and run extract again"
        )
    by_split = not settings.group_by and labelled[schema.SPLIT].notna().any()
    if not settings.group_by and not by_split:
        labelled = _without_singles(labelled, settings.test_share, warnings)
    labels = labelled[schema.LABEL].tolist()
    groups = _groups(labelled, settings.group_by, warnings) if settings.group_by else None
    if by_split:
        frame, description = _by_split(labelled, settings)
    else:
        held = hold_out(labels, groups, settings.test_share, settings.seed)
        frame = labelled.assign(**{SIDE: np.where(held, "test", "train")})
        apart = f"Whole groups by {settings.group_by!r} kept together, " if groups else "At random, "
        description = f"{apart}{held.mean():.0%} held out, seed {settings.seed}."
    sides = frame[SIDE].value_counts()
    if {"train", "test"} - set(sides.index):
        raise TrainingError(
            f"{description} That leaves nothing to {'learn from' if 'train' not in sides else 'judge on'}"
        )
    learnt, unseen = _classes(frame, description, warnings)
    fold = np.full(len(frame), -1)
    if settings.grid:
        learning = (frame[SIDE] == "train").to_numpy()
        own = [g for g, keep in zip(groups, learning, strict=True) if keep] if groups else None
        fold[learning] = fold_numbers(frame.loc[learning, schema.LABEL].tolist(), own, settings.folds, settings.seed)
    chosen = frame.assign(**{FOLD: fold})[[schema.PATH, SIDE, FOLD]]
    return Sides(chosen, description, learnt, unseen, tuple(warnings))


def _without_singles(labelled: pd.DataFrame, share: float, warnings: list[str]) -> pd.DataFrame:
    """Without the classes of a single picture, which cannot be both learnt from and judged on; they are warned of.

    Raises:
        TrainingError: fewer than two classes are left.
    """
    numbers = labelled[schema.LABEL].value_counts()
    single = sorted(numbers[numbers < 2].index)
    if not single:
        return labelled
    told = f"with one picture alone, {_named(single)} cannot be learnt from and judged on"
    if len(numbers) - len(single) < 2:
        raise TrainingError(
            f"cannot hold out {share:.0%} of {len(labelled)} labelled pictures in {len(numbers)} classes: {told}, and"
            " fewer than two classes are left; add pictures, or splits by images.layout"
        )
    warnings.append(f"{told}, and the classifier is trained without; splits by images.layout would keep such classes")
    return labelled[~labelled[schema.LABEL].isin(single)]


def _classes(frame: pd.DataFrame, description: str, warnings: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that are learnt, and those that are judged on alone, which are warned of.

    Raises:
        TrainingError: fewer than two are learnt.
    """
    sides = {side: set(rows) for side, rows in frame.groupby(SIDE)[schema.LABEL]}
    learnt, unseen = sorted(sides["train"]), sorted(sides["test"] - sides["train"])
    if len(learnt) < 2:
        raise TrainingError(
            f"{description} That leaves one class to learn from, {learnt[0]!r}, and a classifier needs two; look at"
            " classify.train_split and classify.group_by"
        )
    if unseen:
        warnings.append(f"no picture to learn from is of {_named(unseen)}: those that are judged on count as wrong")
    return tuple(learnt), tuple(unseen)


def _named(labels: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(repr(label) for label in labels[:NAMED])
    return shown + (f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else "")


def _by_split(labelled: pd.DataFrame, settings: Classify) -> tuple[pd.DataFrame, str]:
    names = {settings.train_split: "train", settings.test_split: "test"}
    missing = [name for name in names if name not in set(labelled[schema.SPLIT])]
    if missing:
        found = sorted(set(labelled[schema.SPLIT].dropna()))
        raise TrainingError(
            f"no picture is in the split {missing[0]!r}; the splits are {found}: set classify.train_split and"
            " classify.test_split"
        )
    sides = labelled[schema.SPLIT].map(names)
    return labelled.assign(**{SIDE: sides})[
        sides.notna()
    ], f"As the source splits them: {settings.train_split} and {settings.test_split}."


def _groups(frame: pd.DataFrame, group_by: str | None, warnings: list[str]) -> list[str]:
    """The group of each row, by a label column or by a pattern on the path."""
    assert group_by is not None
    if group_by in frame.columns:
        groups = frame[group_by]
        alone = groups.isna()
        if alone.any():
            warnings.append(f"{int(alone.sum()):,} labelled pictures have no {group_by}: each is a group of its own")
        # No value has a NUL in it, so a path after one is none.
        return groups.astype(str).where(~alone, "\0" + frame[schema.PATH]).tolist()
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        columns = [c for c in frame.columns if c not in (SIDE, schema.PATH)]
        raise ConfigError(
            f"classify.group_by {group_by!r} is no column ({columns}) and no regular expression: {error}"
        ) from error
    found = []
    for path in frame[schema.PATH]:
        match = pattern.search(path)
        if match is None or (pattern.groups and match[1] is None):
            raise TrainingError(f"classify.group_by {group_by!r} does not match {path}; widen the pattern")
        found.append(match[1] if pattern.groups else match[0])
    return found


def _read_rows(job: Job) -> tuple[DataFrame, str, dict[str, Any] | None]:
    """The rows to learn from, the array column, and the PCA they went through."""
    from mirabelle.spark.read import read_features

    if job.config.classify.features == "full":
        columns = (schema.WIDTH_PX, schema.HEIGHT_PX, schema.SIZE_BYTES, schema.ETAG, schema.MODIFIED)
        return (
            read_features(job.session, job.table(), job.output, job.listing_path()).drop(*columns),
            schema.FEATURES,
            None,
        )
    pca = job.newest("pca", job.embedding().fingerprint)
    if pca is not None and (changed := job.changed_since(pca["id"])):
        raise OutputError(
            f"the PCA {pca['id']} is older than the features, which run {changed} changed; run `mirabelle reduce`"
            " first, or set classify.features=full"
        )
    if pca is None:
        raise OutputError(
            f"{job.output} has no PCA of {job.embedding().folder}; run `mirabelle reduce` first, or set"
            " classify.features=full"
        )
    return job.session.read.parquet(spark_uri(join(job.folder("pca", pca["id"]), "reduced"))), schema.REDUCED, pca


def _with_vectors(job: Job, rows: DataFrame, column: str, sides: Sides) -> DataFrame:
    """Rows of either side with their vector, ``side`` and ``fold``."""
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions as F

    from mirabelle.spark.classify import VECTOR

    chosen = job.session.createDataFrame(sides.frame)
    vectors = rows.withColumn(VECTOR, array_to_vector(F.col(column))).drop(column)
    # Paths are unique on both sides: the current view has one row a path.
    return vectors.join(F.broadcast(chosen), on=schema.PATH, how="inner")


def _judge(job: Job, sides: Sides) -> Metrics:
    """Metrics from the predictions as they were written; a class that no model saw has probability 0."""
    table = job.read_parquet(job.folder("predictions"), [schema.LABEL, schema.PREDICTED, schema.PROBABILITIES])
    labels = [*sides.labels, *sides.unseen]
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label in table[schema.LABEL].to_pylist()], dtype=np.int64)
    predicted = np.array([number[label] for label in table[schema.PREDICTED].to_pylist()], dtype=np.int64)
    probabilities = np.pad(as_matrix(table[schema.PROBABILITIES]), ((0, 0), (0, len(sides.unseen))))
    return evaluate(truth, predicted, probabilities, labels)
