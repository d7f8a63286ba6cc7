"""PCA over the feature table: one pass on the executors, a genuine Spark ML model at the end. [Spark]

The functions that ``make_moments`` returns run on executors; the rest on the driver.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mirabelle import schema
from mirabelle.errors import TrainingError
from mirabelle.reduction import Moments, Projection
from mirabelle.storage import S3Options, open_store
from mirabelle.storage.opening import AS_AWS_SAYS
from mirabelle.worker import as_matrix

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

VECTOR = "features_vector"
CENTRED = "features_centred"
REDUCED_VECTOR = "reduced_vector"
MAX_MOMENTS_BYTES = 2**34


def gather_moments(features: DataFrame, staging: str, partitions: int, s3: S3Options = AS_AWS_SAYS) -> Moments:
    """Mean and scatter of the ``features`` column.

    Each task leaves its moments in the store and sends back their name, so that matrices of thousands of columns pass
    neither through the JVM nor through Spark's limit on results.

    Args:
        features: with a column ``features`` array<float>, all of one length.
        staging: folder for the tasks' partial results; removed again.
        partitions: tasks to make; each holds one matrix in memory.
        s3: how buckets are reached.

    Raises:
        TrainingError: there are no rows.
    """
    store = open_store(staging, s3)
    try:
        plan = features.select(schema.FEATURES).coalesce(partitions)
        names = [row.name for row in plan.mapInArrow(make_moments(staging, s3), "name string").collect()]
        total: Moments | None = None
        for name in sorted(names):
            part = Moments.from_bytes(store.read(f"{staging}/{name}", MAX_MOMENTS_BYTES))
            total = total.merge(part) if total else part
    finally:
        store.remove(staging)
    if total is None:
        raise TrainingError("there are no rows of features to fit PCA on; check reduce.fit_split")
    return total


def make_moments(staging: str, s3: S3Options) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """The function that executors run: Arrow batches of features in, the name of one file of moments out."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        total: Moments | None = None
        for batch in batches:
            if batch.num_rows:
                part = Moments.of(as_matrix(batch.column(0)))
                total = total.merge(part) if total else part
        if total:
            name = f"moments-{uuid.uuid4().hex}.npz"
            open_store(staging, s3).write(f"{staging}/{name}", total.to_bytes())
            yield pa.RecordBatch.from_pydict({"name": [name]})

    return run


def to_pipeline(projection: Projection) -> PipelineModel:
    """The projection as a Spark ML pipeline of a centring StandardScalerModel and a PCAModel.

    Spark's PCAModel alone multiplies rows that were never centred, so its output is off by a constant; the scaler in
    front takes the mean away. It reads a vector column ``features_vector`` (``array_to_vector("features")``) and adds
    ``reduced_vector``. Both models are made by their JVM constructors, as Spark's own estimators make them.
    """
    from pyspark import SparkContext
    from pyspark.ml import PipelineModel
    from pyspark.ml.common import _py2java
    from pyspark.ml.feature import PCAModel, StandardScalerModel
    from pyspark.ml.linalg import DenseMatrix, Vectors

    context = SparkContext.getOrCreate()
    jvm = context._jvm
    assert jvm is not None
    width, k = len(projection.mean), len(projection.components)
    ones, mean = Vectors.dense(np.ones(width)), Vectors.dense(projection.mean)
    feature = jvm.org.apache.spark.ml.feature
    scaler = StandardScalerModel(
        feature.StandardScalerModel(
            f"StandardScaler_{uuid.uuid4().hex[:12]}", _py2java(context, ones), _py2java(context, mean)
        )
    )
    scaler._set(withMean=True, withStd=False, inputCol=VECTOR, outputCol=CENTRED)
    # A DenseMatrix is column-major, so its columns are our rows.
    axes = DenseMatrix(width, k, projection.components.reshape(-1))
    shares = Vectors.dense(projection.explained_variance_ratio[:k])
    pca = PCAModel(feature.PCAModel(f"PCA_{uuid.uuid4().hex[:12]}", _py2java(context, axes), _py2java(context, shares)))
    pca._set(k=k, inputCol=CENTRED, outputCol=REDUCED_VECTOR)
    return PipelineModel([scaler, pca])


def reduce_features(features: DataFrame, pipeline: PipelineModel) -> DataFrame:
    """Rows with ``reduced`` array<float> in the place of ``features``; every label column is kept."""
    from pyspark.ml.functions import array_to_vector, vector_to_array
    from pyspark.sql import functions as F

    known = {schema.WIDTH_PX, schema.HEIGHT_PX, schema.SIZE_BYTES, schema.ETAG, schema.MODIFIED, schema.FEATURES}
    kept = [name for name in features.columns if name not in known]
    vectors = features.select(*kept, array_to_vector(F.col(schema.FEATURES)).alias(VECTOR))
    reduced = pipeline.transform(vectors)
    return reduced.select(*kept, vector_to_array(F.col(REDUCED_VECTOR), "float32").alias(schema.REDUCED))
