"""Reduced features to a classifier and its judgement. Driver only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.evaluation import SIDE, Metrics, Sides, choose_sides, evaluate
from mirabelle.pipeline.chain import train_chain, with_fine_label
from mirabelle.pipeline.job import Job
from mirabelle.spark.cluster import slots
from mirabelle.storage import join, spark_uri
from mirabelle.worker.embedder import as_matrix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


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
        rows = with_fine_label(job.config, rows) if settings.chain else rows
        about = rows.drop(column).toPandas()
        sides = choose_sides(about, settings.split_by())
        for warning in sides.warnings:
            job.console.warn(warning)
        if sides.warnings:
            # The report tells them too.
            job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), *sides.warnings])
        vectors = _with_vectors(job, rows, column, sides)
        width = pca["components"] if pca else embedding.width
        if settings.chain:
            more = train_chain(job, vectors, sides, width)
        else:
            training = vectors.where(f"{SIDE} = 'train'")
            fitted = fit_classifier(training, settings, sides.labels, width, slots(job.context))
            fitted.model.write().overwrite().save(spark_uri(join(folder, "model")))
            predictions = predict(fitted, vectors.where(f"{SIDE} = 'test'").drop(SIDE))
            predictions.write.mode("overwrite").parquet(spark_uri(job.folder("predictions")))
            more = {"chosen": fitted.chosen, "scores": fitted.scores}
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
                "features": features,
                "input_column": VECTOR,
                "labels": sides.labels,
                "split": sides.description,
                "split_by": asdict(settings.split_by()),
                "train_rows": int((sides.frame[SIDE] == "train").sum()),
                "test_rows": int((sides.frame[SIDE] == "test").sum()),
                "metrics": metrics.to_json(),
                **more,
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
