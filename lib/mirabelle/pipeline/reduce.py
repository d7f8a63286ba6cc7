"""Features to principal components. Driver only."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mirabelle import schema
from mirabelle.errors import ImageError, TrainingError
from mirabelle.pipeline.job import Job
from mirabelle.reduction import Moments, MomentsSum, Projection, fit
from mirabelle.spark.cluster import slots
from mirabelle.storage import join, spark_uri
from mirabelle.table.chunks import STAGING
from mirabelle.table.selection import Coverage, FeatureFile, Selection, select_rows
from mirabelle.worker.reduce import MAX_SUM_BYTES, Reading

MODEL = "pca.npz"
MOMENTS = "moments.npz"
# Wider features go through a sketch. At 8,192 columns a scatter matrix is 512 MiB, in each task and twice in the
# driver, and its eigenvectors a minute; at 25,088 it would be 4.7 GiB (docs/decisions/0009).
WIDEST_EXACT = 8192


@dataclass(frozen=True)
class Fitted:
    """A projection, and how it was come by.

    Attributes:
        projection: of all rows that count.
        method: ``moments`` (exact) or ``sketch`` (of its leading components).
        rows_read: for it, each as often as there were passes.
        passes: over those rows.
        extended_from: id of the PCA whose saved moments the rows read were added to.
    """

    projection: Projection
    method: str
    rows_read: int
    passes: int
    extended_from: str | None = None


def reduce(job: Job) -> None:
    """Fit PCA on the feature table and write the model and the reduced rows to ``pca/<id>/``.

    ``pca.json`` is written last: a folder without it is of a run that was killed, and is passed over.

    Raises:
        TrainingError: the rows don't do for what was asked.
        OutputError: there are no features.
    """
    from mirabelle.spark.pca_model import to_pipeline

    folder = job.folder("pca")
    staging = join(job.output, STAGING, f"{schema.RUN}={job.runlog.run_id}")
    with job.runlog.time("reduce"):
        try:
            selection = select_rows(job.store, job.table(), job.listing_path(), job.scratch)
            reading = _prepare(job, selection, staging)
            fitted = _fit(job, selection, reading)
            job.store.write(join(folder, MODEL), fitted.projection.to_bytes())
            to_pipeline(fitted.projection).write().overwrite().save(spark_uri(join(folder, "pipeline")))
            _write_reduced(job, selection, reading)
        finally:
            job.store.remove(staging)
        _tell(job, fitted)


def _prepare(job: Job, selection: Selection, staging: str) -> Reading:
    """Put the list of rows that do not count where tasks find it."""
    stale = join(staging, "stale.parquet") if selection.stale else ""
    if stale:
        job.store.upload(selection.stale, stale)
    return Reading(job.embedding().width, staging, stale, job.config.reduce.fit_split)


def _fit(job: Job, selection: Selection, reading: Reading) -> Fitted:
    from mirabelle.spark.reduce import approximate

    settings = job.config.reduce
    if reading.width <= WIDEST_EXACT:
        return _fit_exactly(job, selection, reading)
    rows = sum(file.kept for file in selection.files)
    tasks = selection.tasks(selection.files, slots(job.context))
    found = approximate(job.context, tasks, reading, rows, settings.variance, settings.components, job.s3)
    reached = _reached(found.projection)
    if settings.components is None and reached < settings.variance:
        warning = (
            f"{len(found.projection.components):,} components of {reading.width:,} features hold {reached:.1%} of the"
            f" variance, not {settings.variance:.0%}, and more are not sought; all of these are kept. Set"
            " reduce.components, a lower reduce.variance, or backbone.pooling=avg"
        )
        job.console.warn(warning)
        # The report tells it too.
        job.runlog.update(warnings=[*job.runlog.manifest.get("warnings", []), warning])
    return Fitted(found.projection, "sketch", found.projection.rows * found.passes, found.passes)


def _fit_exactly(job: Job, selection: Selection, reading: Reading) -> Fitted:
    """From moments: saved ones and those of the files that they lack, or of all files."""
    from mirabelle.spark.reduce import gather_moments

    settings, fingerprint = job.config.reduce, job.embedding().fingerprint
    saved = _saved(job, selection)
    files: Collection[FeatureFile] = saved[1] if saved else selection.files
    moments = gather_moments(job.context, selection.tasks(files, slots(job.context)), reading, job.s3)
    rows_read = moments.count if moments else 0
    if saved:
        known = Moments.from_bytes(job.store.read(_moments_file(job, saved[0]), MAX_SUM_BYTES))
        job.console.say(
            f"PCA: {rows_read:,} new rows join the moments saved by {saved[0]}, whose {known.count:,} are not reread"
        )
        moments = _together(known, moments)
    if moments is None:
        raise TrainingError("there are no rows of features to fit PCA on; check reduce.fit_split")
    about = Coverage(fingerprint, settings.fit_split, selection.files)
    job.store.write(_moments_file(job, None), moments.to_bytes(about.to_json()))
    projection = fit(moments, settings.variance, settings.components)
    return Fitted(projection, "moments", rows_read, 1, saved[0] if saved else None)


def _together(known: Moments, new: Moments | None) -> Moments:
    if new is None:
        return known
    total = MomentsSum.continuing(known)
    total.merge(new)
    return total.result()


def _moments_file(job: Job, run_id: str | None) -> str:
    return join(job.folder("pca", run_id), MOMENTS)


def _saved(job: Job, selection: Selection) -> tuple[str, Sequence[FeatureFile]] | None:
    """The newest PCA whose saved moments are all of rows that count now, and the files that they lack."""
    parent = join(job.output, "pca")
    if not job.store.exists(parent):
        return None
    found = {entry.path for entry in job.store.walk(parent)}
    ids = {path.split("/")[-2] for path in found if path.endswith(f"/{MOMENTS}")}
    for run_id in sorted(ids, reverse=True):
        if join(job.folder("pca", run_id), "pca.json") not in found:
            continue
        try:
            with job.store.open(_moments_file(job, run_id)) as source, np.load(source, allow_pickle=False) as arrays:
                coverage = Coverage.from_json(str(arrays["about"]))
        except (ImageError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            job.console.warn(f"the moments saved by {run_id} cannot be read ({error}); all features are read instead")
            return None
        missing = coverage.missing(selection, job.embedding().fingerprint, job.config.reduce.fit_split)
        if missing is not None:
            return run_id, missing
    return None


def _write_reduced(job: Job, selection: Selection, reading: Reading) -> None:
    """All rows that count, of whatever split, multiplied on the executors."""
    from mirabelle.spark.reduce import project

    folder = job.folder("pca")
    whole = Reading(reading.width, reading.staging, reading.stale, None)
    columns = schema.reduced_schema(selection.labels)
    tasks = selection.tasks(selection.files, slots(job.context))
    reports = project(job.context, tasks, whole, join(folder, MODEL), columns, job.s3)
    names = sorted(report.file for report in reports if report.file)
    job.store.publish(join(reading.staging, "reduced"), join(folder, "reduced"), names)


def _reached(projection: Projection) -> float:
    return float(projection.explained_variance_ratio[: len(projection.components)].sum())


def _tell(job: Job, fitted: Fitted) -> None:
    """Put the facts away, and say them."""
    settings, embedding, projection = job.config.reduce, job.embedding(), fitted.projection
    kept, reached = len(projection.components), _reached(projection)
    job.write_json(
        join(job.folder("pca"), "pca.json"),
        {
            "id": job.runlog.run_id,
            "fingerprint": embedding.fingerprint,
            "embedding": embedding.to_json(),
            "components": kept,
            "variance_target": None if settings.components else settings.variance,
            "variance_reached": reached,
            "explained_variance_ratio": projection.explained_variance_ratio[:kept].tolist(),
            "rows": projection.rows,
            "fit_split": settings.fit_split,
            "method": fitted.method,
            "components_known": len(projection.explained_variance),
            "components_available": projection.available,
            "rows_read": fitted.rows_read,
            "passes": fitted.passes,
            "extended_from": fitted.extended_from,
        },
    )
    job.runlog.update(
        pca={
            "components": kept,
            "variance_reached": reached,
            "rows": projection.rows,
            "method": fitted.method,
            "rows_read": fitted.rows_read,
            "extended_from": fitted.extended_from,
        }
    )
    about = f"{kept} components hold {reached:.1%} of the variance of {projection.rows:,} rows"
    text = f"{about}, by a sketch of {fitted.passes} passes" if fitted.method == "sketch" else about
    job.console.say(f"PCA: {text}")
    job.summary.append(("PCA", text))
