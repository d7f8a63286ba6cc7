"""Classifiers that leave Spark, and bundles of whole runs: they say what Spark said."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession

from conftest import SMALL, break_some, draw_kinds
from mirabelle import open_bundle
from mirabelle.bundle import Answer, Rejected
from mirabelle.cli import main
from mirabelle.config import load
from mirabelle.config.models import Classify
from mirabelle.console import Console
from mirabelle.errors import BundleError
from mirabelle.pipeline import Job, execute
from mirabelle.pipeline.bundling import bundle
from mirabelle.spark.classify import fit_classifier, predict
from mirabelle.spark.saved import read_classifier
from mirabelle.storage import open_store

WIDTH = 6
ROWS = 120


def rows_of(spark: SparkSession, classes: int, is_binary: bool) -> tuple[DataFrame, np.ndarray]:
    """Overlapping clouds of points, none negative, float32 as features are; or of 0 and 1 alone."""
    random = np.random.default_rng(classes)
    numbers = np.arange(ROWS) % classes
    centres = random.uniform(0, 4, (classes, WIDTH))
    points = np.abs(centres[numbers] + random.normal(0, 1.5, (ROWS, WIDTH)))
    points = (points > 2).astype(np.float32) if is_binary else points.astype(np.float32)
    table = [
        (i, f"label {number}", point.tolist()) for i, (number, point) in enumerate(zip(numbers, points, strict=True))
    ]
    frame = spark.createDataFrame(table, "path int, label string, features array<float>").repartition(2)
    return frame.withColumn("classifier_input", array_to_vector("features")), points


TREES = {"numTrees": 5, "maxDepth": 4}
KINDS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("LogisticRegression", {"maxIter": 8}, (2, 3)),
    ("LogisticRegression", {"maxIter": 8, "threshold": 0.8}, (2,)),
    ("LogisticRegression", {"maxIter": 8, "family": "multinomial", "fitIntercept": False}, (2,)),
    ("LogisticRegression", {"maxIter": 8, "regParam": 0.2, "elasticNetParam": 1.0}, (3,)),  # sparse
    ("LinearSVC", {"maxIter": 3, "threshold": 0.4}, (2,)),
    ("LinearSVC", {"maxIter": 3}, (2, 3)),
    ("RandomForestClassifier", TREES, (2, 3)),
    ("DecisionTreeClassifier", {}, (2, 3)),
    ("DecisionTreeClassifier", {"maxDepth": 0}, (2,)),
    ("GBTClassifier", {"maxIter": 2, "maxDepth": 3, "stepSize": 0.3}, (2, 3)),
    ("NaiveBayes", {}, (2, 3)),
    ("NaiveBayes", {"modelType": "complement"}, (3,)),
    ("NaiveBayes", {"modelType": "bernoulli"}, (3,)),
    ("NaiveBayes", {"modelType": "gaussian"}, (2,)),
    ("NaiveBayes", {"modelType": "gaussian", "thresholds": [0.9, 0.05, 0.2]}, (3,)),
    ("MultilayerPerceptronClassifier", {"layers": [5, 3], "maxIter": 5}, (2, 3)),
    ("FMClassifier", {"maxIter": 8, "factorSize": 3}, (2, 3)),
]
CASES = [(name, params, classes) for name, params, many in KINDS for classes in many]


@pytest.mark.parametrize(
    ("name", "params", "classes"), CASES, ids=[f"{n}-{'-'.join(map(str, p.values()))}-{c}" for n, p, c in CASES]
)
def test_it_says_what_spark_says(
    spark: SparkSession, tmp_path: Path, name: str, params: dict[str, Any], classes: int
) -> None:
    frame, points = rows_of(spark, classes, params.get("modelType") == "bernoulli")
    labels = [f"label {number}" for number in range(classes)]
    fitted = fit_classifier(frame, Classify(estimator=name, params=params), labels, WIDTH, 2)
    fitted.model.write().overwrite().save(f"file://{tmp_path}/model")
    theirs = predict(fitted, frame).toPandas().sort_values("path")
    ours = read_classifier(open_store(str(tmp_path)), str(tmp_path / "model"))
    ours.check(WIDTH, classes, name)
    found = ours.probabilities(points)
    np.testing.assert_allclose(found, np.stack(theirs["probabilities"]), rtol=0, atol=1e-6)
    assert [labels[i] for i in ours.chosen(found)] == theirs["predicted"].tolist()
    # Not one answer for all, but where a tree has a root alone.
    assert len(set(theirs["predicted"])) > 1 or params == {"maxDepth": 0}
    assert bool(ours.thresholds) == bool({"threshold", "thresholds"} & set(params))


@dataclass(frozen=True)
class Trained:
    """What a run of two classifiers left, one on principal components and a newer one on all features.

    Attributes:
        output: of the run.
        cache: of its network.
        reduced, full: ids of the classifiers.
        broken: the code of each bad picture, by path.
    """

    output: Path
    cache: Path
    reduced: str
    full: str
    broken: dict[str, str]

    def bundle(self, *settings: str, **options: Any) -> Path:
        """The folder of a bundle."""
        given = [f"output={self.output}", "images.root=.", f"cache={self.cache}", *SMALL, *settings]
        summary = dict(bundle(load(None, given, {}), Console(quiet=True), **options))
        return Path(summary["bundle"].split(",")[0])

    def table(self, *parts: str) -> pd.DataFrame:
        """One of its tables, by path."""
        return pd.read_parquet(self.output.joinpath(*parts)).set_index("path").sort_index()


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    broken = break_some(draw_kinds(root / "pictures"))
    given = [f"images.root={root / 'pictures'}", f"output={root / 'output'}", f"cache={cache}", *SMALL]
    given += ["limits.max_reject_share=1", "classify.params={maxIter: 10}"]
    first = execute(load(None, given, {}), ["extract", "reduce", "train"], "run", Console(quiet=True))
    bayes = ["classify.estimator=NaiveBayes", "classify.params={modelType: gaussian}", "classify.features=full"]
    second = execute(load(None, [*given, *bayes], {}), ["train"], "train", Console(quiet=True))
    return Trained(root / "output", cache, first.runlog.run_id, second.runlog.run_id, broken)


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Trained:
    """The same, to be damaged."""
    shutil.copytree(trained.output, tmp_path / "output")
    return replace(trained, output=tmp_path / "output")


def alter(folder: Path, path: str, column: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a picture's row in the file below a folder that has it."""
    for file in folder.rglob("*.parquet"):
        with pq.ParquetFile(file) as parquet:
            table = parquet.read()
        rows = table.to_pylist()
        for row in rows:
            if row["path"] == path:
                row[column] = change(np.array(row[column], np.float32)).tolist()
        pq.write_table(pa.Table.from_pylist(rows, table.schema), file)


@pytest.mark.parametrize("kind", ["reduced", "full"])
def test_a_bundle_answers_as_the_run_did(trained: Trained, kind: str) -> None:
    id_ = getattr(trained, kind)
    # The newest, where none is named.
    folder = trained.bundle(wanted=id_ if kind == "reduced" else None, index=True)
    whole = open_bundle(str(folder))
    stored, rejects, said = trained.table("features"), trained.table("rejects"), trained.table("predictions", id_)
    paths = [*stored.index, *rejects.index]
    found = dict(zip(paths, whole.predictions(paths), strict=True))
    for path, row in stored.iterrows():
        one = found[str(path)]
        np.testing.assert_array_equal(one.features, row["features"])
        assert (one.width_px, one.height_px) == (row["width_px"], row["height_px"])
    assert dict(zip(rejects.index, rejects["code"], strict=True)) == trained.broken
    for path, row in rejects.iterrows():
        answer = found[str(path)].answer
        assert isinstance(answer, Rejected)
        assert (answer.stage, answer.code, answer.detail) == (row["stage"], row["code"], row["detail"])
    assert len(said) == 18
    for path, row in said.iterrows():
        one = found[str(path)]
        assert isinstance(one.answer, Answer) and one.answer.label == row["predicted"]
        np.testing.assert_allclose(one.probabilities, row["probabilities"], rtol=0, atol=1e-6)
    features = found[stored.index[0]].features
    assert features is not None
    near = whole.neighbours(features, 3)
    # The training set's, which the pictures held out are none of.
    assert len(near) == 3 and not {one.path for one in near} & set(said.index)
    assert near[0].thumbnail[8:12] == b"WEBP"
    facts = json.loads((folder / "bundle.json").read_text())
    assert facts["learnt"]["id"] == id_
    assert (facts["checks"]["rows"], facts["checks"]["pictures"]) == (18, 18)
    assert bool(whole.info.components) == (kind == "reduced")
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| accuracy |" in card and whole.info.fingerprint in card and "drawn, not learnt" in card
    assert open_bundle(f"{folder}.tar").info == whole.info
    assert main(["verify", str(trained.output), "--set", f"cache={trained.cache}"]) == 0


def test_a_bundle_that_would_say_something_else_is_refused(copied: Trained) -> None:
    wrong = copied.table("predictions", copied.full).index[7]
    before = list(copied.output.glob("bundle/*"))
    alter(copied.output / "predictions" / copied.full, wrong, "probabilities", lambda row: row + np.float32(3e-5))
    with pytest.raises(BundleError, match=r"else than Spark did: of 18 rows held out, .* off by 3e-05") as told:
        copied.bundle()
    assert wrong in str(told.value)
    assert list(copied.output.glob("bundle/*")) == before


def test_a_network_that_makes_other_features_is_refused(copied: Trained) -> None:
    wrong = copied.table("predictions", copied.reduced).index[3]
    alter(copied.output / "features", wrong, "features", lambda row: row[::-1])
    with pytest.raises(BundleError, match=r"the features of .* are off by") as told:
        copied.bundle(wanted=copied.reduced)
    assert wrong in str(told.value)


def test_a_configuration_of_another_network_is_refused(trained: Trained) -> None:
    with pytest.raises(BundleError, match="input_px 32 and 48"):
        trained.bundle("backbone.input_px=48")


def test_one_of_several_is_chosen_by_its_id(trained: Trained) -> None:
    with pytest.raises(BundleError, match="several have an id that begins with 20"):
        trained.bundle(wanted="20")
    with pytest.raises(BundleError, match=f"none has an id that begins with x; they are {trained.reduced}"):
        trained.bundle(wanted="x")
    with pytest.raises(BundleError, match="another --name"):
        trained.bundle(name="a/b")


def test_a_chain_answers_as_the_run_did(spark: SparkSession, tmp_path: Path, cache: Path) -> None:
    pictures = draw_kinds(tmp_path / "drawn")
    for folder in sorted(pictures.glob("*/*")):
        kind = "cool" if folder.name == "beryl" else "warm"
        shutil.copytree(folder, tmp_path / "pictures" / folder.parent.name / kind / folder.name)
    given = [f"images.root={tmp_path / 'pictures'}", f"output={tmp_path / 'output'}", f"cache={cache}", *SMALL]
    given += ["images.layout={split}/{kind}/{label}/{name}", "classify.chain=[kind, label]"]
    given += ["classify.params={maxIter: 5}"]
    sure = ["classify.precision=0.9", "classify.folds=2", "classify.min_rows=12"]
    first = execute(load(None, [*given, *sure], {}), ["extract", "reduce", "train"], "run", Console(quiet=True))
    same_chain(first, "cool / beryl")
    # With too little to learn from, a label is the whole answer.
    second = execute(load(None, [*given, "classify.min_rows=13"], {}), ["train"], "train", Console(quiet=True))
    same_chain(second, "cool")


def same_chain(job: Job, cool: str) -> None:
    """Both levels, and what is given in the end, are those of the run's predictions."""
    whole = open_bundle(dict(bundle(job.config, Console(quiet=True)))["bundle"].split(",")[0])
    assert whole.info.coarse_labels == ("cool", "warm")
    assert whole.info.labels == (cool, "warm / amber", "warm / coral")
    said = pd.read_parquet(job.folder("predictions"))
    for answer, row in zip(whole.predict(said["path"].tolist()), said.to_dict("records"), strict=True):
        assert isinstance(answer, Answer) and answer.coarse is not None
        assert answer.given == row["chain_answer"]
        assert answer.coarse.label == row["predicted"]
        assert answer.probability == pytest.approx(row["chain_probability"], abs=1e-6)
        assert {one.label: one.probability for one in answer.coarse.probabilities} == pytest.approx(
            dict(zip(("cool", "warm"), row["probabilities"], strict=True)), abs=1e-6
        )
    assert "## The chain" in whole.info.card and "| both |" in whole.info.card
