"""What can be asked of outputs that a run made, of the cache, and of this machine."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pyspark.sql import SparkSession

from conftest import break_some
from mirabelle import inspection
from mirabelle.cli import main
from mirabelle.config import Config, load
from mirabelle.console import Console
from mirabelle.errors import UserError
from mirabelle.network import backbones, preparing, weights
from mirabelle.pipeline import Job
from mirabelle.pipeline.preview import dry_run

Run = Callable[..., Job]


def run_rows(text: str) -> dict[str, list[str]]:
    """The table of runs, as cells by run; two spaces or more part them."""
    table = text[: text.index("\n\n")] if "\n\n" in text else text
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows if re.match(r"\d{8}T\d{6}", row[0])}


# Outputs


def test_an_output_is_shown_with_its_runs_counts_columns_lineage_and_rows(pipeline: Run, pictures: Path) -> None:
    break_some(pictures)
    job = pipeline("limits.max_reject_share=0.1", "extract.chunk_images=30", stages=["extract"])
    text = inspection.show_output(job.output)
    manifest = job.runlog.manifest
    speed, seconds = str(manifest["images_per_second"]), str(manifest["seconds_total"])
    assert run_rows(text) == {job.runlog.run_id: ["run", "done", "54", "3", "0", speed, seconds]}
    # 57 pictures in chunks of 30 at most.
    assert f"{job.embedding().folder}: 54 rows of features and 3 of rejects in 2 chunks" in text
    lineage = yaml.safe_load(text.split("\n\n")[1])
    assert lineage == job.embedding().to_json()
    assert lineage["fingerprint"] == job.embedding().fingerprint
    columns = dict(re.findall(r"^  (\w+): (.+)$", text.split("\ncolumns\n")[1].split("\n\n")[0], re.MULTILINE))
    assert list(columns) == [
        "path", "label", "split", "width_px", "height_px", "size_bytes", "etag", "modified", "features",
    ]  # fmt: skip
    assert columns["features"].startswith("list<element: float")
    table = pd.read_parquet(Path(job.output) / "features").set_index("path")
    shown = [line.split("  ") for line in text.split("\nsome rows\n")[1].splitlines()]
    assert len(shown) == 5
    for _, path, label, values in shown:
        assert label == Path(path).parent.name == table.loc[path, "label"]
        first = [float(value) for value in re.findall(r"[-\d.e]+(?=, )", values)]
        np.testing.assert_allclose(first, table.loc[path, "features"][:4], rtol=1e-3, atol=1e-12)
        assert values.endswith("... 1024 in all]")


def test_every_run_and_every_embedding_is_shown(pipeline: Run, capsys: pytest.CaptureFixture[str]) -> None:
    one = pipeline(stages=["extract"])
    again = pipeline(stages=["extract"])
    two = pipeline("backbone.weights=random:2", stages=["extract"])
    with pytest.raises(UserError):
        pipeline("backbone.input_px=64", stages=["reduce"])
    capsys.readouterr()
    # Through the command, as a person would.
    assert main(["inspect", one.output]) == 0
    text = capsys.readouterr().out
    rows = run_rows(text)
    counts = {run: row[:5] for run, row in rows.items() if len(row) > 3}
    assert counts[one.runlog.run_id] == ["run", "done", "54", "0", "0"]
    assert counts[again.runlog.run_id] == ["run", "done", "0", "0", "54"]
    assert counts[two.runlog.run_id] == ["run", "done", "54", "0", "0"]
    assert re.search(r"^seconds of the newest run \d\.\d+ reduce$", text, re.MULTILINE)
    (failed,) = set(rows) - set(counts)
    assert rows[failed][:2] == ["run", "failed"]
    for job in (one, two):
        assert text.count(f"\n{job.embedding().folder}: 54 rows of features and 0 of rejects in 1 chunk") == 1
        assert job.embedding().fingerprint in text


def test_an_output_of_rejects_alone_is_shown(pipeline: Run, pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"not a picture")
    job = pipeline("limits.max_reject_share=1", stages=["extract"])
    text = inspection.show_output(job.output)
    assert ": 0 rows of features and 54 of rejects in 1 chunk" in text
    assert "some rows" not in text


# A dry run after a run


def test_a_dry_run_knows_what_is_done(pipeline: Run, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = pipeline(stages=["extract"])
    before = sorted(Path(job.output).rglob("*"))
    (pictures / "Test" / "amber" / "12.png").unlink()
    (pictures / "Test" / "amber" / "13.png").write_bytes(b"changed")
    (pictures / "Test" / "amber" / "new.png").write_bytes(b"new")
    capsys.readouterr()
    dry_run(job.config, ["extract"], Console())
    told = capsys.readouterr().err
    # Of 54 one is gone and one is changed.
    folder = f"{job.embedding().folder}, if the workers' CPUs are like this one"
    assert f"{folder}: 1 new, 1 changed, 52 unchanged, 1 gone from the source\n" in told
    assert f"would embed 2 images into chunks below {job.output}\n" in told
    assert sorted(Path(job.output).rglob("*")) == before


# Weights


def configured(cache: Path, *settings: str) -> Config:
    given = ["images.root=.", "output=out", f"cache={cache}", "backbone.name=mobilenet", "backbone.input_px=32"]
    return load(None, [*given, *settings], {})


def test_random_weights_are_made_ready_in_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"cache={tmp_path}", "backbone.weights=random:0", "backbone.input_px=32"]
    assert main(["weights", "mobilenet", *(part for setting in settings for part in ("--set", setting))]) == 0
    captured = capsys.readouterr()
    digest = backbones.weights_digest(backbones.random_network(backbones.find("mobilenet"), 32, 0))
    assert captured.out.splitlines() == [
        f"mobilenet: weights random:0, ready in {tmp_path}",
        f"sha256 of the tensors down to conv_pw_13_relu: {digest}",
    ]
    assert preparing.is_cached(configured(tmp_path, "backbone.weights=random:0"), "float32")


def test_imagenet_weights_are_told_with_their_licence_and_place(tmp_path: Path) -> None:
    row = backbones.find("mobilenet")
    kept = weights.cached_imagenet(row, tmp_path)
    kept.parent.mkdir()
    # Tensors of our own stand in for ImageNet's: what is in the cache is taken from there.
    backbones.random_network(row, 32, 5).save_weights(kept)
    lines = inspection.fetch_weights(configured(tmp_path)).splitlines()
    assert lines[0] == f"mobilenet: weights imagenet, ready in {tmp_path}"
    assert re.fullmatch(rf"licence.*: {re.escape(row.licence)}", lines[2])
    assert lines[3:] == [f"kept as {kept}"]


# The doctor


def test_the_doctor_uses_the_session_that_is_there_and_tells_the_cache(
    spark: SparkSession, pipeline: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    job = pipeline(stages=["extract"])
    told = inspection.diagnose(job.config)
    assert f"Spark {spark.version} at local[2]" in told
    assert f"2 tasks at once, 1 engine thread each, precision {job.embedding().precision}" in told
    assert "mobilenet (random:1): converted and in the cache" in told
    assert told.endswith("all that a run needs is there")
    assert spark.range(2).count() == 2
    assert main(["doctor", "--set", f"cache={job.config.cache}", "--set", "backbone.weights=random:9"]) == 0
    assert "resnet50 (random:9): to be built at the first run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("backbone.name=resnet51", "resnet51"),
        ("backbone.weights=nowhere.weights.h5", "nowhere.weights.h5"),
        ("backbone.input_px=8", "too small"),
    ],
)
def test_the_doctor_does_not_say_that_all_is_there_when_a_run_would_refuse(
    spark: SparkSession, setting: str, named: str, cache: Path
) -> None:
    try:
        told = inspection.diagnose(configured(cache, setting))
    except UserError as error:
        told = str(error)
    assert named in told
    assert "all that a run needs is there" not in told
