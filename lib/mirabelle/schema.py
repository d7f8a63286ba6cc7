"""The shapes of what Mirabelle writes and reads: the one place that spells column names.

Plain values and pyarrow types; used on the driver and on executors; touches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

PATH: Final = "path"
SIZE_BYTES: Final = "size_bytes"
MODIFIED: Final = "modified"
ETAG: Final = "etag"
LABEL: Final = "label"
SPLIT: Final = "split"
WIDTH_PX: Final = "width_px"
HEIGHT_PX: Final = "height_px"
FEATURES: Final = "features"
STAGE: Final = "stage"
CODE: Final = "code"
DETAIL: Final = "detail"

# Hive partitions of the features and rejects folders.
EMBEDDING: Final = "embedding"
RUN: Final = "run"
CHUNK: Final = "chunk"

# Beside a listing's columns in the work of a run: rows whose features need not be computed.
TWIN: Final = "_twin"
"""Whether a row is the same picture as the one before it."""
CARRY_FILE: Final = "_carry_file"
"""The table's own file that has features of the same content, or null."""
CARRY_PATH: Final = "_carry_path"
"""The path they stand under there."""
FILE: Final = "_file"
"""The table's own file that a row is in, wherever DuckDB or a task is told of rows by file."""
REUSE_COLUMNS: Final = (TWIN, CARRY_FILE, CARRY_PATH)

# Parts of a worker's time in the run manifest.
STORE: Final = "waiting_for_store"
DECODING: Final = "waiting_for_decoding"
INFERENCE: Final = "inference"
OPENING: Final = "opening_network"
WRITING: Final = "writing"
WORKER_SECONDS: Final = (OPENING, STORE, DECODING, INFERENCE, WRITING)

# The reduced features and the predictions.
REDUCED: Final = "reduced"
PREDICTED: Final = "predicted"
PROBABILITIES: Final = "probabilities"

# What a chain of two classifiers adds to the predictions, whose label and answer are the first one's.
CHAIN_LABEL: Final = "chain_label"
"""The fine label, or null where nobody knows it."""
CHAIN_PREDICTED: Final = "chain_predicted"
CHAIN_COARSE_PROBABILITY: Final = "chain_coarse_probability"
CHAIN_STEP_PROBABILITY: Final = "chain_step_probability"
CHAIN_PROBABILITY: Final = "chain_probability"
CHAIN_FLAT: Final = "chain_flat"
"""What one classifier over all fine labels says, as ``coarse / fine``."""
CHAIN_ANSWER: Final = "chain_answer"
CHAIN_LEVEL: Final = "chain_level"
_CHAIN: Final = frozenset(
    {CHAIN_LABEL, CHAIN_PREDICTED, CHAIN_COARSE_PROBABILITY, CHAIN_STEP_PROBABILITY, CHAIN_PROBABILITY}
    | {CHAIN_FLAT, CHAIN_ANSWER, CHAIN_LEVEL}
)

# Between the stages of the Spark ML models, and so in what they were saved with.
ML_COLUMNS: Final = frozenset(
    {"features_vector", "features_centred", "reduced_vector"}
    | {"classifier_input", "label_index", "predicted_index", "probability", "rawPrediction"}
)

RESERVED: Final = frozenset(
    {PATH, SIZE_BYTES, MODIFIED, ETAG, WIDTH_PX, HEIGHT_PX, FEATURES, STAGE, CODE, DETAIL, EMBEDDING, RUN, CHUNK}
    | {REDUCED, PREDICTED, PROBABILITIES}
    | _CHAIN
    | ML_COLUMNS
)
"""Names that a label column may not take; nor may it begin with an underscore."""

EMBEDDING_METADATA_KEY: Final = "mirabelle.embedding"
"""Key, in a file's footer and in the features column's metadata, of the embedding's parts and fingerprint as JSON."""

SPARK_ROW_METADATA_KEY: Final = "org.apache.spark.sql.parquet.row.metadata"
"""Where Spark keeps its own schema in a Parquet footer (ParquetReadSupport.SPARK_METADATA_KEY in Spark's source)."""

# What a user's own query gets back from the pandas UDF.
OUTCOME_DDL: Final = (
    f"{FEATURES} array<float>, {WIDTH_PX} int, {HEIGHT_PX} int, {STAGE} string, {CODE} string, {DETAIL} string"
)

# When a picture was taken: a day, or a moment that begins with its day.
TAKEN: Final = "taken"

# A crawl's photographs: what a site's description finds, then what is found out of each picture itself.
PHOTO_FIELDS: Final = (
    *("page_url", "image_url", "constructor", "model_type", "airline", "registration"),
    *("photographer", TAKEN, "licence", "licence_url"),
)
PHOTO_FACTS: Final = (*(WIDTH_PX, HEIGHT_PX, SIZE_BYTES, ETAG, "sha256", "fetched_at", "site", "layout"),)


def photos_schema(extra: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of a crawl's photographs; ``extra`` are fields that the description has beside the usual ones."""
    import pyarrow as pa

    types = {
        WIDTH_PX: pa.int32(),
        HEIGHT_PX: pa.int32(),
        SIZE_BYTES: pa.int64(),
        "fetched_at": pa.timestamp("us", tz="UTC"),
    }
    found = [pa.field(name, pa.string()) for name in PHOTO_FIELDS]
    facts = [pa.field(name, types.get(name, pa.string())) for name in PHOTO_FACTS]
    more = [pa.field(name, pa.string()) for name in extra if name not in PHOTO_FIELDS]
    return pa.schema([pa.field(PATH, pa.string(), nullable=False), *found, *facts, *more])


def failures_schema() -> pa.Schema:
    """Arrow schema of what a crawl did not get: a page or a picture, at which stage, and why."""
    import pyarrow as pa

    columns = ("url", "kind", STAGE, CODE, DETAIL, "page_url")
    moment = pa.field("failed_at", pa.timestamp("us", "UTC"))
    return pa.schema([*(pa.field(name, pa.string()) for name in columns), moment])


def listing_schema(extra_labels: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of a listing: one row an image; all but path and etag may be null, where nothing tells them."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(PATH, pa.string(), nullable=False),
            pa.field(SIZE_BYTES, pa.int64()),
            pa.field(MODIFIED, pa.timestamp("us", tz="UTC")),
            pa.field(ETAG, pa.string(), nullable=False),
            pa.field(LABEL, pa.string()),
            pa.field(SPLIT, pa.string()),
            *(pa.field(name, pa.string()) for name in extra_labels),
        ]
    )


def features_schema(extra_labels: Sequence[str], embedding: dict[str, Any] | None) -> pa.Schema:
    """Arrow schema of the feature table.

    The embedding's parts are put where both kinds of reader find them: in the file's key-value metadata, and in the
    ``features`` column's metadata as Spark reads it.
    """
    import pyarrow as pa

    fields = [
        pa.field(PATH, pa.string(), nullable=False),
        pa.field(LABEL, pa.string()),
        pa.field(SPLIT, pa.string()),
        pa.field(WIDTH_PX, pa.int32()),
        pa.field(HEIGHT_PX, pa.int32()),
        pa.field(SIZE_BYTES, pa.int64()),
        pa.field(ETAG, pa.string()),
        pa.field(MODIFIED, pa.timestamp("us", tz="UTC")),
        pa.field(FEATURES, pa.list_(pa.field("element", pa.float32(), nullable=False))),
        *(pa.field(name, pa.string()) for name in extra_labels),
    ]
    if embedding is None:
        return pa.schema(fields)
    spark_schema = json.dumps(
        {"type": "struct", "fields": [_spark_field(f, embedding) for f in fields]}, separators=(",", ":")
    )
    return pa.schema(
        fields, metadata={EMBEDDING_METADATA_KEY: json.dumps(embedding), SPARK_ROW_METADATA_KEY: spark_schema}
    )


def reduced_schema(extra_labels: Sequence[str]) -> pa.Schema:
    """Arrow schema of the reduced rows; the reduced features come last."""
    import pyarrow as pa

    kept = [listing_schema(extra_labels).field(name) for name in (PATH, LABEL, SPLIT, *extra_labels)]
    return pa.schema([*kept, pa.field(REDUCED, pa.list_(pa.field("element", pa.float32(), nullable=False)))])


def rejects_schema(embedding: dict[str, Any]) -> pa.Schema:
    """Arrow schema of the rejects table."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(PATH, pa.string(), nullable=False),
            pa.field(STAGE, pa.string(), nullable=False),
            pa.field(CODE, pa.string(), nullable=False),
            pa.field(DETAIL, pa.string()),
            pa.field(SIZE_BYTES, pa.int64()),
            pa.field(ETAG, pa.string()),
        ],
        metadata={EMBEDDING_METADATA_KEY: json.dumps(embedding)},
    )


def features_ddl(extra_labels: Sequence[str]) -> str:
    """The feature table's schema as Spark DDL, with the folder's Hive partitions at the end."""
    columns = [
        f"{PATH} string, {LABEL} string, {SPLIT} string, {WIDTH_PX} int, {HEIGHT_PX} int, {SIZE_BYTES} bigint",
        f"{ETAG} string, {MODIFIED} timestamp, {FEATURES} array<float>",
        *(f"`{name}` string" for name in extra_labels),
        f"{EMBEDDING} string, {RUN} string, {CHUNK} int",
    ]
    return ", ".join(columns)


def _spark_field(field: pa.Field, embedding: dict[str, Any]) -> dict[str, Any]:
    """One field as Spark's own JSON schema has it."""
    spark_types: dict[str, Any] = {
        "string": "string",
        "int32": "integer",
        "int64": "long",
        "timestamp[us, tz=UTC]": "timestamp",
    }
    is_features = field.name == FEATURES
    array = {"type": "array", "elementType": "float", "containsNull": False}
    return {
        "name": field.name,
        "type": array if is_features else spark_types[str(field.type)],
        "nullable": True,
        "metadata": {EMBEDDING_METADATA_KEY: json.dumps(embedding)} if is_features else {},
    }
