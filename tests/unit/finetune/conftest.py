"""A backbone's weights in a file, as those of ImageNet would be."""

from pathlib import Path

import pytest

from mirabelle.network import backbones


@pytest.fixture(scope="session")
def mobilenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    backbones.random_network(backbones.find("mobilenet"), 32, 0).save_weights(path)
    return path
