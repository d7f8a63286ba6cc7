"""The feature table as a DataFrame: its current view. [Spark; driver only]"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.network.embedding import Embedding
from mirabelle.storage import absolute, join, open_store, spark_uri
from mirabelle.table.chunks import label_columns
from mirabelle.table.current_view import newest_listing
from mirabelle.table.features import FeatureTable
from mirabelle.table.runlog import read_manifests

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_features(spark: SparkSession, table: FeatureTable, output: str, listing: str | None = None) -> DataFrame:
    """The current view: the newest row of every path that is still listed as it was embedded.

    Args:
        spark: the session.
        table: one embedding's.
        output: its root.
        listing: Parquet file of the ``path`` and ``etag`` that a run listed, as its manifest names it. Rows of images
            that are gone or changed since, and were not embedded again, are left out. None: every embedded path.

    Columns: ``path, label, split, width_px, height_px, size_bytes, etag, modified, features``, then any further label
    columns. The embedding's parts are in the metadata of ``features``.

    Raises:
        OutputError: nothing is committed.
    """
    from pyspark.sql import functions as F

    chunks = table.chunks()
    files = [spark_uri(path) for chunk in chunks for path in table.files("features", chunk)]
    if not files:
        raise OutputError(f"{output} holds no features of {table.embedding.folder} yet; run `mirabelle extract` first")
    labels = label_columns(chunks)
    frame = spark.read.schema(schema.features_ddl(labels)).option("basePath", spark_uri(join(output, "features")))
    rows = frame.parquet(*files)
    if listing is not None:
        current = spark.read.schema(f"{schema.PATH} string, {schema.ETAG} string").parquet(spark_uri(listing))
        rows = rows.join(current, on=[schema.PATH, schema.ETAG], how="left_semi")
    if any(chunk.changed for chunk in chunks):
        newest = rows.groupBy(schema.PATH).agg(F.max(schema.RUN).alias("_newest"), F.count("*").alias("_rows"))
        # Few paths have several rows, so this side is small; only they need telling apart.
        several = newest.where(F.col("_rows") > 1).select(schema.PATH, "_newest")
        rows = rows.join(F.broadcast(several), on=schema.PATH, how="left")
        rows = rows.where(F.col("_newest").isNull() | (F.col("_newest") == F.col(schema.RUN)))
    lineage = {schema.EMBEDDING_METADATA_KEY: json.dumps(table.embedding.to_json())}
    return rows.select(
        schema.PATH,
        schema.LABEL,
        schema.SPLIT,
        schema.WIDTH_PX,
        schema.HEIGHT_PX,
        schema.SIZE_BYTES,
        schema.ETAG,
        schema.MODIFIED,
        F.col(schema.FEATURES).alias(schema.FEATURES, metadata=lineage),
        *(f"`{label}`" for label in labels),
    )


def current_features(spark: SparkSession, output: str, embedding: str | None = None) -> DataFrame:
    """The current view of an output, for anyone's own job.

    Args:
        spark: the session.
        output: folder or ``s3://bucket/prefix`` that a run wrote to.
        embedding: name of the embedding's folder, ``resnet50-1a2b3c4d``; None: the newest run's.

    Columns: as in ``read_features``.

    Raises:
        OutputError: there is nothing of that embedding.
    """
    root = absolute(output)
    store = open_store(root)
    manifests = read_manifests(store, root)
    made = [Embedding.from_json(m["embedding"]) for m in manifests if m.get("embedding") and m.get("listing")]
    fitting = [found for found in made if embedding in (None, found.folder)]
    if not fitting:
        raise OutputError(
            f"{output} holds no features{f' of {embedding}' if embedding else ''}; run `mirabelle extract`"
        )
    table = FeatureTable(store, root, fitting[-1])
    return read_features(spark, table, root, newest_listing(manifests, root, fitting[-1].fingerprint))
