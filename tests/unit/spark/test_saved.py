"""Classifiers as Spark ML saves them, written by hand: sparse coefficients, and what cannot be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirabelle.errors import BundleError, OutputError
from mirabelle.spark.saved import read_classifier
from mirabelle.storage import DiskStore

# The same matrix three times: by columns, by rows, and dense by rows.
MATRIX = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, -3.0]])
SPARSE = {"numRows": 2, "numCols": 3, "type": 0}
FORMS = {
    "by columns": {**SPARSE, "colPtrs": [0, 1, 2, 3], "rowIndices": [1, 0, 1], "values": [2.0, 1.5, -3.0]},
    "by rows": {**SPARSE, "colPtrs": [0, 1, 3], "rowIndices": [1, 0, 2], "values": [1.5, 2.0, -3.0]},
    "dense": {"numRows": 2, "numCols": 3, "type": 1, "values": [0, 1.5, 0, 2, 0, -3]},
}


def save(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    """A pipeline of one classifier."""
    stage = folder / "stages" / "0_stage"
    facts = {"paramMap": {"stageUids": ["stage", "labels"]}, "class": "pyspark.ml.pipeline.PipelineModel"}
    told = {"class": f"org.apache.spark.ml.classification.{kind}", "paramMap": {}, "defaultParamMap": {}}
    for place, content in ((folder, facts), (stage, told)):
        (place / "metadata").mkdir(parents=True)
        (place / "metadata" / "part-00000").write_text(json.dumps(content))
    (stage / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), stage / "data" / "part-0.parquet")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_coefficients_of_any_form_are_one(tmp_path: Path, form: str) -> None:
    matrix = {"colPtrs": None, "rowIndices": None, **FORMS[form], "isTransposed": form != "by columns"}
    intercepts = {"type": 0, "size": 2, "indices": [1], "values": [0.25]}
    row = {"coefficientMatrix": matrix, "interceptVector": intercepts, "isMultinomial": True}
    found = read_classifier(DiskStore(), str(save(tmp_path / "model", "LogisticRegressionModel", [row])))
    np.testing.assert_array_equal(found.arrays["weights"], MATRIX)
    np.testing.assert_array_equal(found.arrays["intercepts"], [0, 0.25])


def test_a_kind_that_is_not_known_names_those_that_are(tmp_path: Path) -> None:
    model = save(tmp_path / "model", "SomethingNewModel", [{"a": 1}])
    with pytest.raises(BundleError, match=r"SomethingNewModel of .* cannot be bundled; train one of .*LinearSVCModel"):
        read_classifier(DiskStore(), str(model))


def test_a_tree_of_categories_is_refused(tmp_path: Path) -> None:
    split = {"featureIndex": 0, "leftCategoriesOrThreshold": [0.0], "numCategories": 3}
    leaf = {"featureIndex": -1, "leftCategoriesOrThreshold": [], "numCategories": -1}
    nodes = [
        {"id": i, "impurityStats": [1.0, 2.0], "leftChild": left, "rightChild": right, "split": how}
        for i, left, right, how in ((0, 1, 2, split), (1, -1, -1, leaf), (2, -1, -1, leaf))
    ]
    model = save(tmp_path / "model", "DecisionTreeClassificationModel", nodes)
    with pytest.raises(BundleError, match="splits by categories"):
        read_classifier(DiskStore(), str(model))


@pytest.mark.parametrize("damage", ["metadata/part-00000", "stages/0_stage/metadata/part-00000", "data"])
def test_what_is_damaged_is_one_sentence(tmp_path: Path, damage: str) -> None:
    model = save(tmp_path / "model", "LinearSVCModel", [{"a": 1}])
    if damage == "data":
        next(model.glob("stages/*/data/*.parquet")).write_bytes(b"junk")
    else:
        (model / damage).write_text("{")
    with pytest.raises(OutputError, match="run `mirabelle train` again"):
        read_classifier(DiskStore(), str(model))
