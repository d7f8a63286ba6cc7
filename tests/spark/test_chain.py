"""Chains of classifiers in whole runs: what is learnt, what is said of each picture, and how good it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirabelle.errors import ConfigError, TrainingError
from mirabelle.pipeline import Job
from mirabelle.report.wording import percent

Run = Callable[..., Job]
CHAIN = ["images.layout={split}/{kind}/{label}/{name}", "classify.chain=[kind, label]", "classify.min_rows=12"]


@pytest.fixture
def kinds(pictures: Path) -> Path:
    """The three tints, of two kinds: warm are amber and coral, cool is beryl alone."""
    for folder in sorted(pictures.glob("*/*")):
        target = folder.parent / ("cool" if folder.name == "beryl" else "warm") / folder.name
        target.parent.mkdir(exist_ok=True)
        shutil.move(folder, target)
    return pictures


@pytest.mark.usefixtures("kinds")
def test_both_levels_their_product_and_how_sure(pipeline: Run) -> None:
    job = pipeline(*CHAIN, "classify.precision=0.9", "classify.params={maxIter: 30}")
    folder = Path(job.folder("classifier"))
    facts = json.loads((folder / "classifier.json").read_text())
    told = facts["chain"]
    assert facts["labels"] == ["cool", "warm"]
    # The cool ones are one alone, which needs no classifier.
    cool, warm = told["steps"]
    assert (cool["of"], cool["labels"], cool["train_rows"], cool["model"]) == ("cool", ["beryl"], 12, None)
    assert (warm["of"], warm["labels"], warm["train_rows"]) == ("warm", ["amber", "coral"], 24)
    assert (folder / "model/metadata").is_dir()
    assert (folder / warm["model"] / "metadata").is_dir()
    rows = pd.read_parquet(job.folder("predictions"))
    assert len(rows) == facts["test_rows"] == 18
    # All of it once more, from the table alone.
    coarse = np.stack(rows["probabilities"])[np.arange(18), (rows["predicted"] == "warm").astype(int)]
    np.testing.assert_allclose(rows["chain_coarse_probability"], coarse, atol=1e-6)
    assert (rows["chain_predicted"] == "beryl").equals(rows["predicted"] == "cool")
    step = rows["chain_step_probability"]
    assert step.between(0.5, 1).all()
    np.testing.assert_allclose(rows["chain_probability"], rows["chain_coarse_probability"] * step)
    right = (rows["label"] == rows["predicted"]) & (rows["chain_label"] == rows["chain_predicted"])
    metrics = told["metrics"]
    assert metrics["end_to_end"] == {**metrics["end_to_end"], "rows": 18, "accuracy": pytest.approx(right.mean())}
    flat = (rows["chain_flat"] == rows["label"] + " / " + rows["chain_label"]).mean()
    assert metrics["flat"]["accuracy"] == pytest.approx(flat)
    sure = rows["chain_level"] == "fine"
    assert sure.equals(rows["chain_probability"] >= told["thresholds"]["fine"])
    assert (rows["chain_answer"] == rows["predicted"] + " / " + rows["chain_predicted"])[sure].all()
    assert sum(one["given"] for one in metrics["answers"]) == 18
    assert "kind, then label: first" in dict(job.summary)["chain"]
    page = Path(dict(job.summary)["report"]).read_text()
    assert "label, given kind" in page
    assert percent(sure.mean()) in page


@pytest.mark.usefixtures("kinds")
def test_a_chain_that_cannot_be(pipeline: Run) -> None:
    pipeline(*CHAIN[:1], stages=["extract", "reduce"])
    with pytest.raises(ConfigError, match="'model' is none of the label columns"):
        pipeline(*CHAIN, "classify.chain=[kind, model]", stages=["train"])
    with pytest.raises(TrainingError, match="no label has 25 pictures with one, of two kinds or more"):
        pipeline(*CHAIN, "classify.min_rows=25", stages=["train"])
    with pytest.raises(ConfigError, match="two label columns"):
        pipeline(*CHAIN, "classify.chain=[kind]", stages=["train"])
