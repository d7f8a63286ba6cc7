"""200 real pictures, awkward ones included: the batch job's tables, a bundle and its server say the same of each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from conftest import SHARED
from mirabelle import open_bundle
from mirabelle.bundle import Answer, Bundle, Prediction, Rejected
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.network.engines import native_precisions
from mirabelle.pipeline import execute
from mirabelle.pipeline.bundling import bundle
from unit.serve.conftest import serving

CLASSIFIERS: dict[str, dict[str, Any]] = {
    "LogisticRegression": {"maxIter": 20, "regParam": 0.01},
    "LinearSVC": {"maxIter": 5},
    "RandomForestClassifier": {"numTrees": 20},
    "GBTClassifier": {"maxIter": 2, "maxDepth": 3},
    "DecisionTreeClassifier": {},
    "NaiveBayes": {"modelType": "gaussian"},
    "MultilayerPerceptronClassifier": {"layers": [8], "maxIter": 20},
}
KINDS = ("Banana", "Lemon", "Walnut")


def list_pictures(to: Path) -> list[str]:
    """A manifest of 60 fruits and 82 aeroplanes to learn from and be judged on, and of the 58 awkward files."""
    data = SHARED / "data"
    if not (data / "awkward").is_dir() or not (data / "planes").is_dir() or not (data / "fruits").is_dir():
        pytest.skip("the real pictures (shared/data) are not on this machine")
    fruits = [path for kind in KINDS for path in sorted((data / "fruits" / "Training" / kind).iterdir())[:20]]
    planes = sorted((data / "planes" / "photos").iterdir())[::32][:82]
    awkward = sorted((data / "awkward").iterdir())
    labels = [*(path.parent.name for path in fruits), *["plane"] * len(planes), *[None] * len(awkward)]
    rows = pd.DataFrame({"path": [str(path) for path in [*fruits, *planes, *awkward]], "label": labels})
    rows["kind"] = [label if label in (None, "plane") else "fruit" for label in labels]
    rows["split"] = np.where(np.arange(len(rows)) % 3 == 0, "Test", "Training")
    rows.to_parquet(to)
    assert len(rows) == 200
    return rows["path"].tolist()


def same_pictures(whole: Bundle, paths: list[str], output: Path) -> dict[str, Prediction]:
    """Features to the bit, and rejects to the word."""
    found = dict(zip(paths, whole.predictions(paths), strict=True))
    features, rejects = (pd.read_parquet(output / name).set_index("path") for name in ("features", "rejects"))
    assert {*features.index, *rejects.index} == set(paths) and len(rejects) > 15
    for path, row in features.iterrows():
        one = found[str(path)]
        np.testing.assert_array_equal(one.features, row["features"])
        assert (one.width_px, one.height_px) == (row["width_px"], row["height_px"])
    for path, row in rejects.iterrows():
        assert found[str(path)].answer == Rejected(row["code"], row["detail"], row["stage"])
    return found


def same_from_a_server(address: str, found: dict[str, Prediction], folder: Path) -> None:
    """What ``/v1/predict`` says of each picture is what ``predict`` said: features, probabilities, rejects."""
    # A request whose pictures are all bad is answered with a problem document, so each has a good one first.
    good = next(path for path, one in found.items() if isinstance(one.answer, Answer))
    paths = list(found)
    with serving(folder, "deadline_seconds=300", address=address, opens=open_bundle) as one:
        labels = one.bundles[0].info.labels
        for first in range(0, len(paths), 20):
            some = [good, *paths[first : first + 20]]
            files = [("pictures", (Path(path).name, Path(path).read_bytes())) for path in some]
            answer = one.client.post("/v1/predict?top=100&features=true", files=files, timeout=300)
            assert answer.status_code == 200, answer.text
            for path, told in zip(some, answer.json()["pictures"], strict=True):
                wanted = found[path]
                if isinstance(wanted.answer, Rejected):
                    assert told["rejected"]["code"] == wanted.answer.code
                    assert told["rejected"]["stage"] == wanted.answer.stage
                    continue
                np.testing.assert_allclose(told["features"], wanted.features, rtol=1e-5, atol=1e-5)
                said = {row["label"]: row["probability"] for row in told["probabilities"]}
                shares = [said[label] for label in labels]
                np.testing.assert_allclose(shares, wanted.probabilities, rtol=0, atol=1e-5)
                assert told["label"] == wanted.answer.label


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.full)])
def test_no_skew(spark: SparkSession, tmp_path: Path, cache: Path, vgg16_weights: Path, precision: str) -> None:
    if precision not in native_precisions():
        pytest.skip(f"this machine's CPU has no {precision}")
    paths = list_pictures(tmp_path / "pictures.parquet")
    output = tmp_path / "output"
    given = [
        f"images.manifest={tmp_path / 'pictures.parquet'}",
        f"output={output}",
        f"cache={cache}",
        f"engine.precision={precision}",
        "backbone.name=vgg16",
        f"backbone.weights={vgg16_weights}",
        "backbone.input_px=64",
        "limits.max_reject_share=1",
    ]
    console = Console(quiet=True)
    execute(load(None, given, {}), ["extract", "reduce"], "extract", console)
    # What comes behind the network computes alike whatever the network's precision.
    names = CLASSIFIERS if precision == "float32" else ("LogisticRegression", "DecisionTreeClassifier")
    for name in names:
        params = CLASSIFIERS[name]
        told = [*given, f"classify.estimator={name}", f"classify.params={json.dumps(params)}"]
        address, said = learnt(told, console)
        whole = open_bundle(address)
        assert whole.info.estimator.startswith(name)
        found = same_pictures(whole, paths, output)
        same_from_a_server(address, found, tmp_path)
        for row in said.to_dict("records"):
            one = found[row["path"]]
            assert isinstance(one.answer, Answer) and one.answer.label == row["predicted"]
            np.testing.assert_allclose(one.probabilities, row["probabilities"], rtol=0, atol=1e-5)
    if precision == "float32":
        chain = ["classify.chain=[kind, label]", "classify.min_rows=10", "classify.precision=0.9", "classify.folds=2"]
        address, said = learnt([*given, *chain, "classify.params={maxIter: 20, regParam: 0.01}"], console)
        whole = open_bundle(address)
        assert whole.info.labels == ("fruit / Banana", "fruit / Lemon", "fruit / Walnut", "plane / plane")
        found = same_pictures(whole, paths, output)
        same_from_a_server(address, found, tmp_path)
        for row in said.to_dict("records"):
            answer = found[row["path"]].answer
            assert isinstance(answer, Answer) and answer.coarse is not None
            assert (answer.given, answer.coarse.label) == (row["chain_answer"], row["predicted"])
            assert answer.probability == pytest.approx(row["chain_probability"], abs=1e-5)
            assert answer.coarse.probability == pytest.approx(row["chain_coarse_probability"], abs=1e-5)


def learnt(told: list[str], console: Console) -> tuple[str, pd.DataFrame]:
    """Train and bundle: where the bundle is, and what Spark said of the pictures held out."""
    config = load(None, told, {})
    job = execute(config, ["train"], "train", console)
    said = pd.read_parquet(job.folder("predictions"))
    assert len(said) > 40
    return dict(bundle(config, console))["bundle"].split(",")[0], said
