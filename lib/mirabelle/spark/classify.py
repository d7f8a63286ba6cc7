"""A classifier on the features: any of Spark ML's, by name. [Spark; driver only]"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mirabelle import schema
from mirabelle.config import Classify
from mirabelle.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.ml.base import Estimator
    from pyspark.sql import DataFrame

VECTOR = "classifier_input"
INDEX = "label_index"
PREDICTED_INDEX = "predicted_index"
PROBABILITY = "probability"
RAW = "rawPrediction"
FOLD = "_fold"
# Set by us from the data; a user who sets them would break the wiring.
OURS = {"featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "classifier"}


@dataclass(frozen=True)
class Fitted:
    """A fitted classifier.

    Attributes:
        model: from the vector column ``classifier_input`` to ``predicted_index``, ``predicted`` and its scores.
        chosen: parameters that cross-validation chose, empty without a grid.
        scores: ``probability`` where the classifier has it, else ``rawPrediction`` (margins).
    """

    model: PipelineModel
    chosen: dict[str, Any]
    scores: str


def check_estimator(classify: Classify) -> type[Estimator[Any]]:
    """The class that ``classify.estimator`` names, its parameters' names checked; needs no JVM.

    Raises:
        ConfigError: no such classifier or no such parameter.
    """
    from pyspark.ml import classification
    from pyspark.ml.base import Estimator

    known = {
        name: found
        for name, found in vars(classification).items()
        if inspect.isclass(found)
        and issubclass(found, Estimator)
        and name in classification.__all__
        # Put round the classifiers that know two classes only, by ourselves.
        and name != "OneVsRest"
    }
    chosen = known.get(classify.estimator)
    if chosen is None:
        raise ConfigError(
            f"classify.estimator {classify.estimator!r} is not in Spark ML; take one of {', '.join(sorted(known))}"
        )
    names = set(inspect.signature(chosen).parameters) - OURS
    for key in [*classify.params, *classify.grid]:
        if key not in names:
            raise ConfigError(
                f"classify: {classify.estimator} has no parameter {key!r} to set; it has {', '.join(sorted(names))}"
            )
    for key, values in [*((k, [v]) for k, v in classify.params.items()), *classify.grid.items()]:
        for value in values:
            try:
                getattr(chosen, key).typeConverter(value)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"classify: {classify.estimator} refuses {key} = {value!r}: {error}") from error
    return chosen


def fit_classifier(
    training: DataFrame, classify: Classify, labels: Sequence[str], width: int, parallelism: int
) -> Fitted:
    """Fit the configured classifier.

    Args:
        training: with ``label`` (all among ``labels``), the array column to learn from as ``classifier_input``
            (a vector), and ``_fold`` where there is a grid.
        classify: what to fit.
        labels: class names, in the order of their numbers.
        width: entries of the vector.
        parallelism: fits at once, in cross-validation.

    Raises:
        ConfigError: a parameter that Spark refuses.
        TrainingError: Spark cannot fit these rows.
    """
    from pyspark.ml import PipelineModel
    from pyspark.ml.feature import IndexToString, StringIndexerModel

    indexer = StringIndexerModel.from_labels(list(labels), inputCol=schema.LABEL, outputCol=INDEX)
    indexed = indexer.transform(training).cache()
    try:
        kind = check_estimator(classify)
        classify = _with_outer_layers(classify, len(labels), width)
        estimator = _make(kind, classify, len(labels))
        model, chosen = _fit(estimator, indexed, classify, parallelism)
    finally:
        indexed.unpersist()
    back = IndexToString(inputCol=PREDICTED_INDEX, outputCol=schema.PREDICTED, labels=list(labels))
    scores = PROBABILITY if model.hasParam("probabilityCol") else RAW
    return Fitted(PipelineModel([model, back]), chosen, scores)


def predict(fitted: Fitted, rows: DataFrame) -> DataFrame:
    """``rows`` with ``predicted`` and ``probabilities`` array<float>, in the order of the labels.

    A classifier that gives margins alone has them turned into shares by softmax: they rank the classes, and are not
    calibrated probabilities.
    """
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    scores = vector_to_array(F.col(fitted.scores))
    if fitted.scores == RAW:
        powers = F.transform(scores, lambda score: F.exp(score - F.array_max(scores)))
        total = F.aggregate(powers, F.lit(0.0), lambda sum_, power: sum_ + power)
        scores = F.transform(powers, lambda power: power / total)
    kept = [name for name in rows.columns if name not in (VECTOR, schema.REDUCED, schema.FEATURES, FOLD)]
    found = fitted.model.transform(rows)
    return found.select(*kept, F.col(schema.PREDICTED), scores.cast("array<float>").alias(schema.PROBABILITIES))


def _with_outer_layers(classify: Classify, classes: int, width: int) -> Classify:
    """The user gives a perceptron's hidden layers, in a grid too; the outer ones follow from the data."""
    if classify.estimator != "MultilayerPerceptronClassifier":
        return classify
    grid = dict(classify.grid)
    if "layers" in grid:
        grid["layers"] = [[width, *hidden, classes] for hidden in grid["layers"]]
    params = {**classify.params, "layers": [width, *classify.params.get("layers", []), classes]}
    return classify.model_copy(update={"params": params, "grid": grid})


def _make(kind: type[Estimator[Any]], classify: Classify, classes: int) -> Estimator[Any]:
    """The estimator, wired to our columns, and wrapped where it knows two classes only."""
    from pyspark.ml.classification import OneVsRest

    names = set(inspect.signature(kind).parameters)
    params = dict(classify.params)
    if "seed" in names:
        params.setdefault("seed", classify.seed)
    columns = {"featuresCol": VECTOR, "labelCol": INDEX, "predictionCol": PREDICTED_INDEX}
    try:
        estimator = kind(**params, **{key: value for key, value in columns.items() if key in names})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"classify.params: {classify.estimator} refuses them: {error}") from error
    knows_two_only = classify.estimator in ("LinearSVC", "GBTClassifier", "FMClassifier")
    if knows_two_only and classes > 2:
        one_against_rest: Any = OneVsRest
        wrapped: Estimator[Any] = one_against_rest(classifier=estimator, rawPredictionCol=RAW, **columns)
        return wrapped
    return estimator


def _fit(estimator: Any, indexed: DataFrame, classify: Classify, parallelism: int) -> tuple[Any, dict[str, Any]]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        if not classify.grid:
            return estimator.fit(indexed), {}
        return _fit_grid(estimator, indexed, classify, parallelism)
    except (PySparkException, Py4JError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise TrainingError(f"{classify.estimator} cannot be fitted: {reason}; look at classify.params") from error


def _fit_grid(estimator: Any, indexed: DataFrame, classify: Classify, parallelism: int) -> tuple[Any, dict[str, Any]]:
    """The best of a grid by F1, weighted by the classes' sizes, over the folds in column ``_fold``."""
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    inner = estimator.getClassifier() if estimator.hasParam("classifier") else estimator
    grid = ParamGridBuilder()
    for name, values in classify.grid.items():
        grid.addGrid(inner.getParam(name), values)
    maps = grid.build()
    judge = MulticlassClassificationEvaluator(labelCol=INDEX, predictionCol=PREDICTED_INDEX, metricName="f1")
    search = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=maps,
        evaluator=judge,
        numFolds=classify.folds,
        foldCol=FOLD,
        parallelism=parallelism,
    ).fit(indexed)
    best = max(range(len(maps)), key=lambda i: search.avgMetrics[i])
    chosen = {param.name: value for param, value in maps[best].items()}
    return search.bestModel, {**chosen, "cross_validated_f1": round(search.avgMetrics[best], 4)}
