"""Features to principal components. Driver only."""

from __future__ import annotations

from mirabelle import schema
from mirabelle.chunks import STAGING
from mirabelle.errors import TrainingError
from mirabelle.pipeline.job import Job
from mirabelle.reduction import fit
from mirabelle.session import slots
from mirabelle.storage import join, spark_uri


def reduce(job: Job) -> None:
    """Fit PCA on the feature table and write the model and the reduced rows to ``pca/<id>/``.

    ``pca.json`` is written last: a folder without it is of a run that was killed, and is passed over.

    Raises:
        TrainingError: the rows don't do for what was asked.
    """
    from mirabelle.stages.pca import gather_moments, reduce_features, to_pipeline
    from mirabelle.stages.read import read_features

    settings, embedding, folder = job.config.reduce, job.embedding(), job.folder("pca")
    with job.runlog.time("reduce"):
        features = read_features(job.session, job.table(), job.output, job.listing_path())
        rows = features.where(features[schema.SPLIT] == settings.fit_split) if settings.fit_split else features
        staging = join(job.output, STAGING, f"{schema.RUN}={job.runlog.run_id}")
        moments = gather_moments(rows, staging, slots(job.session), job.s3)
        if len(moments.mean) != embedding.width:
            raise TrainingError(
                f"features have {len(moments.mean)} entries where {embedding.folder} has {embedding.width}"
            )
        projection = fit(moments, settings.variance, settings.components)
        pipeline = to_pipeline(projection)
        pipeline.write().overwrite().save(spark_uri(join(folder, "pipeline")))
        reduce_features(features, pipeline).write.mode("overwrite").parquet(spark_uri(join(folder, "reduced")))
        job.store.write(join(folder, "pca.npz"), projection.to_bytes())
        kept = len(projection.components)
        reached = float(projection.explained_variance_ratio[:kept].sum())
        job.write_json(
            join(folder, "pca.json"),
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
            },
        )
    job.runlog.update(pca={"components": kept, "variance_reached": reached, "rows": projection.rows})
    text = f"{kept} components hold {reached:.1%} of the variance of {projection.rows:,} rows"
    job.console.say(f"PCA: {text}")
    job.summary.append(("PCA", text))
