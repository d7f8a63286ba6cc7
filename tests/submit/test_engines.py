"""The job by either engine: the rows are the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from submit.conftest import run_extract


@pytest.mark.long
def test_keras_gives_what_openvino_gives(pictures: Path, cache: Path, tmp_path: Path) -> None:
    features = []
    for engine in ("openvino", "keras"):
        output = tmp_path / engine
        settings = ["backbone.name=vgg16", f"images.root={pictures}", f"output={output}", f"cache={cache}"]
        done = run_extract(*settings, f"engine.name={engine}", "engine.precision=float32")
        assert done.returncode == 0, done.stderr
        rows = pd.read_parquet(output / "features").sort_values("path")
        assert len(rows) == 54
        features.append(np.stack(rows["features"]))
    assert np.abs(features[1] - features[0]).max() / np.abs(features[0]).max() < 1e-4
