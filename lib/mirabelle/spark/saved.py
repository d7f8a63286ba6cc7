"""A classifier as Spark ML saved it, read without Spark: its Parquet and JSON into arrays. [Store; driver only]

The layout is that of ``ml/util/ReadWrite.scala`` and of each model's own writer in Spark's source, from 3.5 to 4.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.errors import BundleError, FetchError, ListingError, OutputError
from mirabelle.spark.saved_trees import boosted, forest
from mirabelle.storage import Store, join

Rows = npt.NDArray[np.float64]

MAX_METADATA_BYTES = 2**24


@dataclass(frozen=True)
class Saved:
    """One stage as it was saved.

    Attributes:
        store, folder: where.
        kind: its class's name, without the package.
        facts: its metadata.
    """

    store: Store
    folder: str
    kind: str
    facts: Mapping[str, Any]

    def parameter(self, name: str) -> Any:
        """A parameter as it was set, or by default; None: it has none of that name."""
        return self.facts["paramMap"].get(name, self.facts["defaultParamMap"].get(name))

    def table(self, part: str = "data") -> pa.Table:
        """All rows of one of its tables.

        Raises:
            OutputError: it is gone or damaged.
        """
        folder = join(self.folder, part)
        try:
            paths = sorted(entry.path for entry in self.store.walk(folder) if entry.path.endswith(".parquet"))
            parts = []
            for path in paths:
                with self.store.open(path) as file:
                    parts.append(pq.ParquetFile(file).read())
            return pa.concat_tables(parts)
        except (pa.ArrowException, OSError, FetchError, ListingError) as error:
            raise OutputError(f"{folder} is damaged ({error}); run `mirabelle train` again") from error

    def row(self) -> dict[str, Any]:
        """The only row of its data."""
        found: dict[str, Any] = self.table().to_pylist()[0]
        return found

    def inner(self, number: int) -> Saved:
        """One of the classifiers inside a one-against-rest."""
        return open_saved(self.store, join(self.folder, f"model_{number}"))


def open_saved(store: Store, folder: str) -> Saved:
    """A stage that Spark ML saved.

    Raises:
        OutputError: its metadata are gone or damaged.
    """
    facts = _metadata(store, folder)
    return Saved(store, folder, str(facts["class"]).rpartition(".")[2], facts)


def read_classifier(store: Store, folder: str) -> Classifier:
    """The classifier of a pipeline that ``mirabelle train`` saved.

    Args:
        store: where.
        folder: ``classifier/<id>/model``.

    Raises:
        OutputError: it is damaged.
        BundleError: it is of a kind that cannot leave Spark.
    """
    stages = _metadata(store, folder)["paramMap"]["stageUids"]
    return to_classifier(open_saved(store, join(folder, "stages", f"0_{stages[0]}")))


def to_classifier(saved: Saved) -> Classifier:
    """A saved classifier as arrays; raises as ``read_classifier``."""
    make = _MAKERS.get(saved.kind)
    if make is None:
        raise BundleError(
            f"{saved.kind} of {saved.folder} cannot be bundled; train one of {', '.join(sorted(_MAKERS))} instead"
        )
    return make(saved)


def _metadata(store: Store, folder: str) -> dict[str, Any]:
    try:
        paths = sorted(entry.path for entry in store.walk(join(folder, "metadata")) if "/part-" in entry.path)
        facts: dict[str, Any] = json.loads(store.read(paths[0], MAX_METADATA_BYTES))
        return {**facts, "class": facts["class"], "defaultParamMap": facts.get("defaultParamMap", {})}
    except (ValueError, KeyError, TypeError, IndexError, FetchError, ListingError) as error:
        raise OutputError(f"{folder} is damaged ({error}); run `mirabelle train` again") from error


def _vector(value: Mapping[str, Any]) -> Rows:
    """A vector as Spark writes it: type 0 sparse, 1 dense (``VectorUDT``)."""
    if value["type"] == 1:
        return np.array(value["values"], np.float64)
    found = np.zeros(value["size"])
    found[value["indices"]] = value["values"]
    return found


def _matrix(value: Mapping[str, Any]) -> Rows:
    """A matrix as Spark writes it (``MatrixUDT``): by columns, or by rows where it is transposed."""
    shape = value["numRows"], value["numCols"]
    if value["type"] == 1:
        order: Any = "C" if value["isTransposed"] else "F"
        return np.array(value["values"], np.float64).reshape(shape, order=order)
    found = np.zeros(shape)
    pointers, others = value["colPtrs"], value["rowIndices"]
    for one, (first, last) in enumerate(pairwise(pointers)):
        at = (one, others[first:last]) if value["isTransposed"] else (others[first:last], one)
        found[at] = value["values"][first:last]
    return found


def _thresholds(saved: Saved) -> tuple[float, ...]:
    """``thresholds``, or the two that one ``threshold`` on a probability comes to; none where it changes nothing."""
    told = saved.parameter("thresholds")
    one = saved.parameter("threshold") if told is None else None
    if one is None:
        return tuple(float(value) for value in told or ())
    return () if one == 0.5 else (1 - one, one)


def _logistic_regression(saved: Saved) -> Classifier:
    row = saved.row()
    arrays = linear(_matrix(row["coefficientMatrix"]), _vector(row["interceptVector"]))
    if row["isMultinomial"]:
        return Classifier("linear", "softmax", arrays, tuple(saved.parameter("thresholds") or ()))
    return Classifier("linear", "logistic", arrays, _thresholds(saved))


def _svc(saved: Saved) -> Classifier:
    row = saved.row()
    arrays = linear([_vector(row["coefficients"])], [row["intercept"]])
    # Its threshold is on the margin, of which two shares are made by a softmax of it and its opposite.
    bar = 1 / (1 + np.exp(-2 * float(saved.parameter("threshold") or 0)))
    return Classifier("linear", "margins", arrays, () if bar == 0.5 else (1 - bar, bar))


def _factorisation(saved: Saved) -> Classifier:
    row = saved.row()
    arrays = {**linear([_vector(row["linear"])], [row["intercept"]]), "factors": _matrix(row["factors"])[None]}
    return Classifier("factors", "logistic", arrays, _thresholds(saved))


def _bayes(saved: Saved) -> Classifier:
    row = saved.row()
    priors, theta = _vector(row["pi"]), _matrix(row["theta"])
    kind = saved.parameter("modelType")
    if kind == "gaussian":
        arrays = {"priors": priors, "means": theta, "variances": _matrix(row["sigma"])}
        return Classifier("gaussian", "softmax", arrays, _thresholds(saved))
    if kind == "complement":
        arrays = linear(theta, np.zeros(len(theta)))
    elif kind == "bernoulli":
        absent = np.log(1 - np.exp(theta))
        arrays = linear(theta - absent, priors + absent.sum(axis=1))
    else:
        arrays = linear(theta, priors)
    return Classifier("linear", "softmax", arrays, _thresholds(saved))


def _perceptron(saved: Saved) -> Classifier:
    flat, layers = _vector(saved.row()["weights"]), saved.parameter("layers")
    arrays, at = {}, 0
    for i, (width, units) in enumerate(pairwise(layers)):
        # Each layer's matrix by columns, then its intercepts (``AffineLayerModel``).
        arrays[f"weights_{i}"] = flat[at : at + width * units].reshape((units, width), order="F")
        at += width * units
        arrays[f"intercepts_{i}"] = flat[at : at + units]
        at += units
    return Classifier("perceptron", "softmax", arrays, _thresholds(saved))


def _forest(saved: Saved) -> Classifier:
    return Classifier("trees", "shares", forest(saved.table()), _thresholds(saved))


def _boosted(saved: Saved) -> Classifier:
    return Classifier("trees", "boosted", boosted([(saved.table(), saved.table("treesMetadata"))]), _thresholds(saved))


def _one_against_rest(saved: Saved) -> Classifier:
    """The margins that the inner classifiers give for their class, side by side."""
    inner = [saved.inner(number) for number in range(int(saved.facts["numClasses"]))]
    if inner[0].kind == "GBTClassificationModel":
        return Classifier("trees", "softmax", boosted([(one.table(), one.table("treesMetadata")) for one in inner]))
    found = [to_classifier(one) for one in inner]
    names = found[0].arrays
    arrays = {name: np.concatenate([one.arrays[name] for one in found]) for name in names}
    return Classifier(found[0].kind, "softmax", arrays)


_MAKERS: dict[str, Callable[[Saved], Classifier]] = {
    "LogisticRegressionModel": _logistic_regression,
    "LinearSVCModel": _svc,
    "FMClassificationModel": _factorisation,
    "NaiveBayesModel": _bayes,
    "MultilayerPerceptronClassificationModel": _perceptron,
    "DecisionTreeClassificationModel": _forest,
    "RandomForestClassificationModel": _forest,
    "GBTClassificationModel": _boosted,
    "OneVsRestModel": _one_against_rest,
}
