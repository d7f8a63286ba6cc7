"""Fruits-360 and the awkward files, whole runs: skipped where they are not on this machine."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from conftest import SHARED
from mirabelle.errors import BarNotMet, RejectCode
from mirabelle.pipeline import Job

Run = Callable[..., Job]
VGG16 = ["backbone.name=vgg16", "backbone.input_px=null", "classify.params={maxIter: 100, regParam: 0.001}"]


def check(job: Job, pictures: int) -> dict[str, float]:
    """What must hold of any run on the real pictures; returns the figures."""
    assert job.runlog.manifest["counts"]["embedded"] == pictures
    assert job.runlog.manifest["counts"]["rejected"] == 0
    table = pd.read_parquet(job.table().folder("features"))
    assert table["path"].nunique() == len(table) == pictures
    rows = np.stack(table["features"]).astype(np.float64)
    facts = json.loads(Path(job.folder("pca"), "pca.json").read_text())
    assert facts["components"] == PCA(0.80, svd_solver="full").fit(rows).n_components_
    return {"components": facts["components"], **job.runlog.manifest["classifier"]}


@pytest.mark.long
def test_a_part_of_fruits_360(pipeline: Run, fruits: Path, vgg16_weights: Path) -> None:
    kinds = ["Avocado", "Banana", "Blueberry", "Cocos", "Kaki", "Lemon", "Pineapple Mini", "Strawberry", "Walnut"]
    numbers = ["0_100.jpg", *(f"{n}?_100.jpg" for n in range(1, 10))]
    include = [f"*/{kind}/{number}" for kind in kinds for number in numbers]
    listed = [p for pattern in include for p in fruits.glob(pattern)]
    figures = check(
        pipeline(
            f"images.root={fruits}",
            f"images.include={json.dumps(include)}",
            f"backbone.weights={vgg16_weights}",
            *VGG16,
        ),
        len(set(listed)),
    )
    assert figures["accuracy"] >= 0.95


@pytest.mark.full
def test_all_of_fruits_360(pipeline: Run, fruits: Path, vgg16_weights: Path) -> None:
    figures = check(pipeline(f"images.root={fruits}", f"backbone.weights={vgg16_weights}", *VGG16), 5100)
    assert figures["accuracy"] >= 0.95


def test_every_awkward_file_ends_as_a_row_or_a_reject(pipeline: Run) -> None:
    root = SHARED / "data" / "awkward"
    if not root.is_dir():
        pytest.skip("the awkward pictures (shared/data/awkward) are not on this machine")
    with pytest.raises(BarNotMet):
        pipeline(f"images.root={root}", "images.layout=null", stages=["extract"])
    output = Path(
        pipeline(f"images.root={root}", "images.layout=null", "limits.max_reject_share=1", stages=["extract"]).output
    )
    features, rejects = pd.read_parquet(output / "features"), pd.read_parquet(output / "rejects")
    assert sorted([*features["path"], *rejects["path"]]) == sorted(str(p) for p in root.iterdir())
    codes = Counter(rejects["code"])
    assert set(codes) <= {str(code) for code in RejectCode}
    names = {Path(path).name: code for path, code in zip(rejects["path"], rejects["code"], strict=True)}
    assert names["zero_byte_fruit.jpg"] == "empty"
    assert names["truncated_sharp.png"] == "truncated"
    assert names["png_65536_limit.png"] == "too_many_pixels"
    assert names["hopper.ppm"] == "format_not_allowed"
    assert len(features) >= 30
