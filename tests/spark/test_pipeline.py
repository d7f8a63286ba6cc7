"""Whole runs on small pictures: what must hold of every run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sklearn.decomposition import PCA

from conftest import REPOSITORY, SMALL, break_some, draw, read_manifest
from mirabelle.config import load
from mirabelle.console import Console
from mirabelle.errors import BarNotMet, ConfigError, OutputError, RunFailed, TrainingError
from mirabelle.network import backbones, preparing
from mirabelle.pipeline import Job
from mirabelle.pipeline.certify import certify
from mirabelle.reduction import Projection
from mirabelle.spark.embed import spec_of
from mirabelle.spark.read import read_features
from mirabelle.table.features import FeatureTable
from mirabelle.verification import verify
from mirabelle.worker.embedder import Embedder, Tally

Run = Callable[..., Job]


def test_every_image_ends_in_features_or_rejects_once(pipeline: Run, pictures: Path) -> None:
    codes = break_some(pictures)
    with pytest.raises(
        BarNotMet, match=r"3 of 57 images \(5\.3%\) were rejected, more than limits\.max_reject_share 1\.0%"
    ) as raised:
        pipeline("extract.chunk_images=20", "extract.task_images=5")
    told = dict(raised.value.summary)
    assert set(told["rejects"].split(", ")) == {"1 truncated", "1 empty", "1 not_an_image"}
    output = pictures.parent / "output"
    manifest = read_manifest(output)
    counts = manifest["counts"]
    assert counts["listed"] == 57 == counts["embedded"] + counts["rejected"] + counts["unchanged"]
    assert (counts["embedded"], counts["rejected"], counts["model_rows"], counts["chunks"]) == (54, 3, 54, 3)
    assert manifest["status"] == "failed"
    assert manifest["config"]["extract"]["chunk_images"] == 20
    features, rejects = pd.read_parquet(output / "features"), pd.read_parquet(output / "rejects")
    assert sorted([*features["path"], *rejects["path"]]) == sorted(str(p) for p in pictures.rglob("*.*"))
    assert dict(zip(rejects["path"], rejects["code"], strict=True)) == codes
    # A bar that was not met loses nothing, and every later part was done all the same.
    for part in ("pca", "classifier", "predictions", "report"):
        assert (output / part / manifest["run_id"]).is_dir()
    page = (output / "report" / manifest["run_id"] / "index.html").read_text()
    assert "max_reject_share" in page
    assert "not_an_image" in page


def test_a_second_run_embeds_nothing_and_a_third_only_what_is_new(pipeline: Run, pictures: Path) -> None:
    first = pipeline(stages=["extract"]).runlog.manifest
    assert first["counts"]["model_rows"] == 54
    second = pipeline(stages=["extract"]).runlog.manifest
    assert second["counts"]["unchanged"] == 54
    assert second["counts"]["model_rows"] == 0
    draw(pictures / "Test/amber/new.png", 100)
    draw(pictures / "Test/amber/12.png", 101, size=(30, 30))
    (pictures / "Test/amber/13.png").unlink()
    third = pipeline(stages=["extract"]).runlog.manifest["counts"]
    assert (third["new"], third["changed"], third["unchanged"], third["gone"], third["model_rows"]) == (1, 1, 52, 1, 2)


def test_with_nothing_to_do_here_no_jvm_is_started(pictures: Path, tmp_path: Path, cache: Path) -> None:
    output = tmp_path / "output"
    given = [f"images.root={pictures}", f"output={output}", f"cache={cache}", *SMALL, "spark.master=local[2]"]
    flags = [flag for setting in given for flag in ("--set", setting)]

    def extract(**environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if name != "PYSPARK_SUBMIT_ARGS"}
        return subprocess.run(
            [sys.executable, "-m", "mirabelle", "extract", "--quiet", *flags],
            env={**own, "PYSPARK_PYTHON": sys.executable, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    assert (done := extract()).returncode == 0, done.stderr
    assert {"imports", "list", "model", "jvm", "context", "preflight", "plan", "embed", "stop"} <= set(
        read_manifest(output)["seconds"]
    )
    assert (done := extract(JAVA_HOME=str(tmp_path / "none"))).returncode == 0, done.stderr
    assert "54 listed = 0 embedded + 0 rejected + 54 unchanged" in done.stdout
    last = read_manifest(output)
    assert last["status"] == "done"
    assert set(last["seconds"]) == {"imports", "list", "model", "plan"}
    # With something to do there must be one.
    draw(pictures / "Test/amber/new.png", 100)
    failed = extract(JAVA_HOME=str(tmp_path / "none"))
    assert failed.returncode == 2
    assert "holds no java" in failed.stderr


def test_the_current_view_has_the_newest_row_of_each_path(pipeline: Run, pictures: Path, spark: SparkSession) -> None:
    pipeline(stages=["extract"])
    draw(pictures / "Test/amber/12.png", 101, size=(30, 20))
    job = pipeline(stages=["extract"])
    view = read_features(spark, job.table(), job.output)
    assert view.columns == [
        "path",
        "label",
        "split",
        "width_px",
        "height_px",
        "size_bytes",
        "etag",
        "modified",
        "features",
    ]
    assert view.schema["features"].dataType.simpleString() == "array<float>"
    lineage = json.loads(view.schema["features"].metadata["mirabelle.embedding"])
    assert lineage["fingerprint"] == job.embedding().fingerprint
    rows = {row.path: row.width_px for row in view.collect()}
    assert len(rows) == 54
    assert rows[str(pictures / "Test/amber/12.png")] == 30


def test_lineage_is_in_every_footer_and_spark_finds_it_itself(pipeline: Run, spark: SparkSession) -> None:
    job = pipeline(stages=["extract"])
    files = sorted(Path(job.output).glob("features/**/*.parquet"))
    for file in files:
        lineage = json.loads(pq.read_metadata(file).metadata[b"mirabelle.embedding"])
        assert lineage == job.embedding().to_json()
        assert lineage["weights"] == "random:1"
    plain = spark.read.parquet(str(files[0]))
    assert json.loads(plain.schema["features"].metadata["mirabelle.embedding"]) == lineage
    assert dict(plain.dtypes)["modified"] == "timestamp"


def test_random_weights_are_loudly_so(pipeline: Run) -> None:
    job = pipeline()
    assert job.runlog.manifest["random_weights"] is True
    page = next(Path(job.output).glob("report/*/index.html")).read_text()
    assert "The weights are random, not learnt" in page


def test_training_and_serving_agree(pipeline: Run, spark: SparkSession) -> None:
    """A picture embedded, reduced and classified by itself, without Spark where it can be, equals its row."""
    job = pipeline("reduce.components=5")
    run = job.runlog.run_id
    network = preparing.prepare_network(job.config, job.embedding().precision)
    embedder = Embedder(spec_of(network), network.files)
    features = pd.read_parquet(job.table().folder("features")).set_index("path")["features"]
    reduced = pd.read_parquet(f"{job.output}/pca/{run}/reduced").set_index("path")["reduced"]
    predictions = pd.read_parquet(f"{job.output}/predictions/{run}").set_index("path")
    projection = Projection.from_bytes(Path(f"{job.output}/pca/{run}/pca.npz").read_bytes())
    model = PipelineModel.load(f"{job.output}/classifier/{run}/model")
    for path, row in list(predictions.iterrows())[::5]:
        (outcome,) = embedder.embed([Path(path).read_bytes()], Tally())
        np.testing.assert_allclose(
            outcome.features, features[path], rtol=1e-5, atol=1e-5 * np.abs(features[path]).max()
        )
        alone = projection.apply(outcome.features[None])[0]
        np.testing.assert_allclose(alone, reduced[path], rtol=1e-5, atol=1e-5 * np.abs(alone).max())
        frame = spark.createDataFrame([(alone.tolist(),)], "x array<float>").select(
            array_to_vector("x").alias("classifier_input")
        )
        answer = model.transform(frame).first()
        assert answer.predicted == row["predicted"]
        np.testing.assert_allclose(answer.probability.toArray(), row["probabilities"], rtol=1e-4, atol=1e-5)


def test_pca_is_scikit_learns_and_a_spark_model_that_anyone_can_load(pipeline: Run, spark: SparkSession) -> None:
    job = pipeline(stages=["extract", "reduce"])
    folder = Path(job.output) / "pca" / job.runlog.run_id
    table = pd.read_parquet(job.table().folder("features"))
    rows = np.stack(table["features"]).astype(np.float64)
    theirs = PCA(0.80, svd_solver="full").fit(rows)
    facts = json.loads((folder / "pca.json").read_text())
    assert facts["components"] == theirs.n_components_
    assert facts["fingerprint"] == job.embedding().fingerprint
    with np.load(folder / "pca.npz") as arrays:
        np.testing.assert_allclose(arrays["mean"], rows.mean(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            arrays["explained_variance_ratio"][: len(theirs.components_)], theirs.explained_variance_ratio_, atol=1e-6
        )
        components = arrays["components"]
    np.testing.assert_allclose(np.abs((components * theirs.components_).sum(axis=1)), 1, atol=1e-5)
    expected = pd.DataFrame({"path": table["path"], "r": list((rows - rows.mean(axis=0)) @ components.T)}).set_index(
        "path"
    )["r"]
    reduced = pd.read_parquet(folder / "reduced").set_index("path")
    assert set(reduced.columns) == {"label", "split", "reduced"}
    scale = np.abs(np.stack(expected)).max()
    for path, row in reduced.iterrows():
        np.testing.assert_allclose(row["reduced"], expected[path], atol=1e-5 * scale)
        assert row["reduced"].dtype == np.float32
    for metadata in folder.glob("pipeline/**/metadata/part-*"):
        assert json.loads(metadata.read_text())["class"].removeprefix("org.apache.spark.ml.") in (
            "PipelineModel",
            "feature.StandardScalerModel",
            "feature.PCAModel",
        )
    loaded = PipelineModel.load(str(folder / "pipeline"))
    vectors = spark.createDataFrame([(rows[0].tolist(),)], "x array<double>").select(
        array_to_vector("x").alias("features_vector")
    )
    np.testing.assert_allclose(
        loaded.transform(vectors).first().reduced_vector.toArray(), expected[table["path"][0]], atol=1e-6 * scale
    )


def test_pca_can_be_fitted_on_the_training_split_alone(pipeline: Run) -> None:
    job = pipeline("reduce.fit_split=Training", "reduce.components=3", stages=["extract", "reduce"])
    assert job.runlog.manifest["pca"]["rows"] == 36
    with pytest.raises(TrainingError, match=r"no rows of features to fit PCA on; check reduce\.fit_split"):
        pipeline("reduce.fit_split=Trainig", stages=["reduce"])


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        ("LogisticRegression", "{maxIter: 30}"),
        ("RandomForestClassifier", "{numTrees: 8}"),
        pytest.param("LinearSVC", "{maxIter: 20}", marks=pytest.mark.long),
        ("MultilayerPerceptronClassifier", "{layers: [8], maxIter: 40}"),
        ("NaiveBayes", "{modelType: gaussian}"),
    ],
)
def test_classifiers_by_name(pipeline: Run, spark: SparkSession, estimator: str, params: str) -> None:
    job = pipeline(f"classify.estimator={estimator}", f"classify.params={params}")
    facts = json.loads(Path(job.folder("classifier"), "classifier.json").read_text())
    assert facts["labels"] == ["amber", "beryl", "coral"]
    assert (facts["train_rows"], facts["test_rows"]) == (36, 18)
    predictions = pd.read_parquet(job.folder("predictions"))
    assert len(predictions) == 18
    assert set(predictions["split"]) == {"Test"}
    probabilities = np.stack(predictions["probabilities"])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    labels = np.array(facts["labels"])
    # Two that are the same in float32 may have differed in the model's own float64.
    chosen = probabilities[np.arange(18), np.searchsorted(labels, predictions["predicted"])]
    np.testing.assert_allclose(chosen, probabilities.max(axis=1), atol=1e-6)
    accuracy = (predictions["label"] == predictions["predicted"]).mean()
    assert facts["metrics"]["accuracy"] == pytest.approx(accuracy)
    if estimator in ("LogisticRegression", "RandomForestClassifier"):
        # The three tints are plain to see, even for a random network.
        assert accuracy > 0.6


def test_a_grid_is_searched_and_groups_stay_together(pipeline: Run, pictures: Path) -> None:
    for path in sorted(pictures.rglob("*.png")):
        number = int(path.stem)
        path.rename(path.with_name(f"object{number // 3}_{number}.png"))
    job = pipeline(
        "classify.grid={regParam: [0.001, 10.0]}", "classify.group_by=([^/]+/object\\d+)_", "classify.test_share=0.25"
    )
    facts = json.loads(Path(job.folder("classifier"), "classifier.json").read_text())
    assert facts["chosen"]["regParam"] in (0.001, 10.0)
    assert 0 <= facts["chosen"]["cross_validated_f1"] <= 1

    def group(path: str) -> str:
        return re.search(r"([^/]+/object\d+)_", path)[1]

    held = {group(p) for p in pd.read_parquet(job.folder("predictions"))["path"]}
    learnt = {group(str(p)) for p in pictures.rglob("*.png")} - held
    assert len(held) + len(learnt) == 18
    assert facts["test_rows"] == 3 * len(held)
    assert "Whole groups" in facts["split"]


def test_full_features_need_no_pca(pipeline: Run) -> None:
    job = pipeline("classify.features=full", stages=["extract", "train"])
    facts = json.loads(Path(job.folder("classifier"), "classifier.json").read_text())
    assert facts["pca"] is None
    assert facts["features"] == "all 1024 features"


def test_stages_that_lack_what_they_need_say_so(pipeline: Run) -> None:
    with pytest.raises(OutputError, match="holds no features yet; run `mirabelle extract`"):
        pipeline(stages=["reduce"])
    pipeline(stages=["extract"])
    with pytest.raises(OutputError, match="has no PCA of mobilenet"):
        pipeline(stages=["train"])
    with pytest.raises(OutputError, match="and none of the network that the configuration asks"):
        pipeline("backbone.input_px=64", stages=["reduce"])
    with pytest.raises(TrainingError, match=r"no picture is in the split 'Validation'.*\['Test', 'Training'\]"):
        pipeline("classify.test_split=Validation", "classify.features=full", stages=["train"])


def test_unlabelled_pictures_are_embedded_and_reported_on_but_nothing_is_trained(pipeline: Run) -> None:
    job = pipeline("images.layout=null")
    assert Path(job.runlog.manifest["report"]).is_file()
    assert "classifier" not in job.runlog.manifest
    with pytest.raises(TrainingError, match="needs two labels or more, and the features have 0"):
        pipeline("images.layout=null", stages=["train"])


def test_no_secret_is_written_anywhere(pipeline: Run, capfd: pytest.CaptureFixture) -> None:
    secret = "correct-horse-battery-staple"
    job = pipeline(f"spark.hadoop.fs.s3a.secret.key={secret}")
    for path in Path(job.output).rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    captured = capfd.readouterr()
    assert secret not in captured.out + captured.err
    assert (
        '"spark.hadoop.fs.s3a.secret.key": "***"' in Path(job.output, "runs", f"{job.runlog.run_id}.json").read_text()
    )


def test_a_chunk_that_does_not_add_up_stops_the_run(pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mirabelle.spark import embed

    whole = embed.embed_chunk
    monkeypatch.setattr(embed, "embed_chunk", lambda *arguments: whole(*arguments)[1:])
    with pytest.raises(RunFailed, match="images went in"):
        pipeline(stages=["extract"])


def test_a_failed_run_leaves_a_manifest_that_says_so(pipeline: Run, pictures: Path) -> None:
    with pytest.raises(OutputError):
        pipeline(stages=["reduce"])
    manifest = read_manifest(pictures.parent / "output")
    assert manifest["status"] == "failed"
    assert "holds no features yet" in manifest["error"]


def test_two_embeddings_live_side_by_side_and_do_not_mix(pipeline: Run, spark: SparkSession) -> None:
    one = pipeline(stages=["extract", "reduce"])
    two = pipeline("backbone.weights=random:2", stages=["extract", "reduce"])
    assert two.runlog.manifest["counts"]["model_rows"] == 54
    folders = sorted(p.name for p in Path(one.output, "features").iterdir())
    assert folders == sorted(f"embedding={job.embedding().folder}" for job in (one, two))
    for job in (one, two):
        table = FeatureTable(job.store, job.output, job.embedding())
        assert read_features(spark, table, job.output).agg(F.count("*")).first()[0] == 54
    # With the first configuration, the first table and its PCA are found again.
    again = pipeline(stages=["train"])
    assert again.embedding() == one.embedding()


def test_what_is_gone_or_was_spoilt_is_in_no_result(pipeline: Run, pictures: Path) -> None:
    pipeline()
    (pictures / "Training/amber/0.png").write_text("<html>")
    for path in (pictures / "Test/coral").glob("*.png"):
        path.unlink()
    job = pipeline("limits.max_reject_share=1")
    counts = job.runlog.manifest["counts"]
    assert (counts["listed"], counts["rejected"], counts["unchanged"], counts["gone"]) == (48, 1, 47, 6)
    assert job.runlog.manifest["pca"]["rows"] == 47
    reduced = set(pd.read_parquet(f"{job.folder('pca')}/reduced")["path"])
    assert reduced == {str(p) for p in pictures.rglob("*.png")} - {str(pictures / "Training/amber/0.png")}


def test_each_configuration_finds_its_own_features_again(pipeline: Run) -> None:
    one = pipeline(stages=["extract"]).embedding()
    other = pipeline("decode.orient=false", stages=["extract"]).embedding()
    assert one != other
    assert pipeline(stages=["reduce"]).embedding() == one
    assert pipeline("decode.orient=false", stages=["reduce"]).embedding() == other


def test_a_run_with_little_data_still_reports(pipeline: Run, pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(BarNotMet, match="54 of 54 images"):
        pipeline()
    draw(pictures / "Training/amber/0.png", 0)
    with pytest.raises(TrainingError, match="PCA needs at least 2 rows of features, and there is 1"):
        pipeline("limits.max_reject_share=1")
    output = pictures.parent / "output"
    pages = sorted(output.glob("report/*/index.html"))
    assert len(pages) == 2
    assert "PCA needs at least 2 rows" in pages[-1].read_text()


def test_mistakes_that_can_be_known_are_told_before_spark(pipeline: Run) -> None:
    settings = [
        "classify.group_by=(",
        "classify.estimator=LogisticRegression",
        "classify.grid={regParam: [abc]}",
        "backbone.name=vgg",
    ]
    with pytest.raises(ConfigError) as raised:
        pipeline(*settings)
    assert len(raised.value.problems) == 3
    for setting in ("classify.params={maxIter: abc}", "classify.estimator=OneVsRest", "classify.params={layers: 8}"):
        with pytest.raises(ConfigError, match="classify"):
            pipeline(setting)
    with pytest.raises(ConfigError, match=r"Spark takes \[ \] in a path for a pattern"):
        pipeline("output=/tmp/out[1]")


def test_an_estimator_that_the_data_do_not_suit_is_one_sentence(pipeline: Run) -> None:
    with pytest.raises(TrainingError, match="NaiveBayes cannot be fitted"):
        pipeline("classify.estimator=NaiveBayes")


def test_the_readmes_own_lines_run(pipeline: Run, spark: SparkSession) -> None:
    """What the README shows of reading the results, on the results of a real run."""
    job = pipeline()
    readme = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 6
    told = {
        "OUT/pca/<id>": job.folder("pca"),
        "<network>-<fingerprint>": job.embedding().folder,
        "OUT": job.output,
        '"backbone.name=vgg16"': '"backbone.name=mobilenet", "backbone.weights=random:1", "backbone.input_px=32"',
        "rejects = pd.read_parquet": "# ",
        "conf/fruits.yaml": str(REPOSITORY / "conf/fruits.yaml"),
    }
    paths = spark.createDataFrame([(str(p),) for p in sorted(Path(job.root).rglob("*.png"))], "path string")
    names: dict = {"spark": spark, "paths": paths}
    for block in blocks:
        code = block
        for old, new in told.items():
            code = code.replace(old, new)
        exec(code, names)
    assert len(names["features"]) == names["view"].count() == 54
    assert names["embedded"].where("outcome.code is null").count() == 54


def test_weights_of_one_file_name_are_told_apart(pipeline: Run, tmp_path: Path) -> None:
    row = backbones.find("mobilenet")
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        backbones.random_network(row, 32, seed).save_weights(tmp_path / folder / "model.weights.h5")
    first, second = (f"backbone.weights={tmp_path / folder / 'model.weights.h5'}" for folder in ("a", "b"))
    pipeline(first, stages=["extract"])
    with pytest.raises(OutputError, match="none of the network that the configuration asks for"):
        pipeline(second, stages=["reduce"])
    assert pipeline(first, "reduce.components=2", stages=["reduce"]).runlog.manifest["pca"]["rows"] == 54


@pytest.mark.slow
def test_auto_runs_in_int8_as_certified_on_the_network_that_the_output_keeps(
    pipeline: Run, pictures: Path, tmp_path: Path, cache: Path
) -> None:
    pytest.importorskip("nncf")
    settings = ["backbone.name=small", "engine.calibration_images=12", "engine.certify.min_cosine=0.9"]
    places = [f"images.root={pictures}", f"output={tmp_path / 'output'}", f"cache={cache}"]
    certificate, path = certify(load(None, [*places, *SMALL, *settings], {}), Console(quiet=True))
    # As of a machine on which int8 is much the fastest.
    rows = [{**row, "images_per_second": 1e6} if row["precision"] == "int8" else row for row in certificate["rows"]]
    Path(path).write_text(json.dumps({**certificate, "rows": rows}))
    first = pipeline(*settings, stages=["extract", "report"])
    embedding = first.embedding()
    (fast,) = (row for row in rows if (row["precision"], row["decoding"]) == ("int8", "fast"))
    assert embedding.to_json() == fast["embedding"]
    assert first.runlog.manifest["counts"]["embedded"] == 54
    page = Path(first.runlog.manifest["report"]).read_text()
    assert "What speed cost" in page
    assert "int8, fast (these features)" in page
    draw(pictures / "Test/amber/new.png", 100)
    # Another machine, with none of this one's networks.
    again = pipeline(*settings, f"cache={tmp_path / 'another'}", stages=["extract"])
    assert again.embedding() == embedding
    assert again.runlog.manifest["counts"]["model_rows"] == 1
    assert verify(first.store, first.output, deep=True).findings == ()
