"""The feature table as a DataFrame: its current view. [Spark; driver only]"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mirabelle import schema
from mirabelle.errors import OutputError
from mirabelle.features import FeatureTable
from mirabelle.storage import join

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_features(spark: SparkSession, table: FeatureTable, output: str) -> DataFrame:
    """The newest row of every embedded path, in committed chunks of one embedding.

    Columns: ``path, label, split, width_px, height_px, size_bytes, etag, modified, features``, then any further label
    columns. The embedding's parts are in the metadata of ``features``.

    Raises:
        OutputError: nothing is committed.
    """
    from pyspark.sql import functions as F

    chunks = table.chunks()
    folders = [table.chunk_folder("features", c.run, c.number) for c in chunks if c.embedded]
    if not folders:
        raise OutputError(f"{output} holds no features of {table.embedding.folder} yet; run `mirabelle extract` first")
    labels = sorted({label for chunk in chunks for label in chunk.labels})
    rows = spark.read.schema(schema.features_ddl(labels)).option("basePath", join(output, "features")).parquet(*folders)
    if any(chunk.changed for chunk in chunks):
        newest = rows.groupBy(schema.PATH).agg(F.max(schema.RUN).alias("newest"), F.count("*").alias("rows"))
        # Few paths have several rows, so this side is small; only they need telling apart.
        several = newest.where("rows > 1").select(schema.PATH, "newest")
        rows = rows.join(F.broadcast(several), on=schema.PATH, how="left")
        rows = rows.where(F.col("newest").isNull() | (F.col("newest") == F.col(schema.RUN)))
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
        *labels,
    )
