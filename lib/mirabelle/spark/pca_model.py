"""A fitted PCA as a genuine Spark ML model. [Spark; driver only]"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np

from mirabelle.reduction import Projection

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel

VECTOR = "features_vector"
CENTRED = "features_centred"
REDUCED_VECTOR = "reduced_vector"


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
