"""Reduced features to a classifier and its judgement. Driver only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mirabelle import schema
from mirabelle.config import Classify
from mirabelle.errors import ConfigError, OutputError, TrainingError
from mirabelle.evaluation import Metrics, evaluate, fold_numbers, hold_out
from mirabelle.pipeline.job import Job
from mirabelle.spark.session import slots
from mirabelle.storage import join, spark_uri
from mirabelle.worker.embedder import as_matrix

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

# With an underscore in front, as no label column can have it.
SIDE = "_side"
FOLD = "_fold"


@dataclass(frozen=True)
class Sides:
    """Which rows are learnt from and which are judged on: a frame of ``path, _side, _fold``, and how it was chosen."""

    frame: pd.DataFrame
    description: str


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
        labels = sorted(set(about[schema.LABEL].dropna()))
        vectors = _with_vectors(job, rows, column, sides)
        training = vectors.where(f"{SIDE} = 'train'")
        width = pca["components"] if pca else embedding.width
        fitted = fit_classifier(training, settings, labels, width, slots(job.session))
        fitted.model.write().overwrite().save(spark_uri(join(folder, "model")))
        predictions = predict(fitted, vectors.where(f"{SIDE} = 'test'").drop(SIDE))
        predictions.write.mode("overwrite").parquet(spark_uri(job.folder("predictions")))
        metrics = _judge(job, labels)
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
                "labels": labels,
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
    if labelled[schema.LABEL].nunique() < 2:
        raise TrainingError(
            f"a classifier needs two labels or more, and the features have {labelled[schema.LABEL].nunique()}; set"
            " images.layout or labels.table so that labels are read, and run extract again"
        )
    labels = labelled[schema.LABEL].tolist()
    groups = _groups(labelled, settings.group_by) if settings.group_by else None
    if groups is None and labelled[schema.SPLIT].notna().any():
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
    fold = np.full(len(frame), -1)
    if settings.grid:
        learning = (frame[SIDE] == "train").to_numpy()
        own = [g for g, keep in zip(groups, learning, strict=True) if keep] if groups else None
        fold[learning] = fold_numbers(frame.loc[learning, schema.LABEL].tolist(), own, settings.folds, settings.seed)
    return Sides(frame.assign(**{FOLD: fold})[[schema.PATH, SIDE, FOLD]], description)


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


def _groups(frame: pd.DataFrame, group_by: str | None) -> list[str]:
    """The group of each row, by a label column or by a pattern on the path."""
    assert group_by is not None
    if group_by in frame.columns:
        groups = frame[group_by]
        if groups.isna().any():
            raise TrainingError(
                f"classify.group_by {group_by!r}: {int(groups.isna().sum())} labelled pictures have none"
            )
        return groups.astype(str).tolist()
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


def _judge(job: Job, labels: list[str]) -> Metrics:
    """Metrics from the predictions as they were written."""
    import pyarrow.dataset as ds

    table = ds.dataset(job.folder("predictions"), format="parquet").to_table(
        columns=[schema.LABEL, schema.PREDICTED, schema.PROBABILITIES]
    )
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label in table[schema.LABEL].to_pylist()], dtype=np.int64)
    predicted = np.array([number[label] for label in table[schema.PREDICTED].to_pylist()], dtype=np.int64)
    probabilities = as_matrix(table[schema.PROBABILITIES])
    return evaluate(truth, predicted, probabilities, labels)
