"""Weights in a bucket: fetched to the driver's cache, and told apart by their content."""

from pathlib import Path
from typing import Any

import pytest

from mirabelle.config import Config, load
from mirabelle.config.stores import with_local_weights
from mirabelle.errors import WeightsError
from mirabelle.network.weights import parse
from object_store import Server, put


def configured(weights: str) -> Config:
    return load(None, ["images.root=.", "output=out", f"backbone.weights={weights}"], {})


def test_weights_in_a_bucket_are_fetched(aws: Server, client: Any, bucket: str, tmp_path: Path) -> None:
    uri = f"s3://{bucket}/models/mine.weights.h5"
    put(client, bucket, "models/mine.weights.h5", b"first")
    identities = []
    for content in (b"first", b"first", b"other"):
        put(client, bucket, "models/mine.weights.h5", content)
        source = parse(with_local_weights(configured(uri), tmp_path).backbone.weights)
        assert source.path is not None
        assert source.path.read_bytes() == content
        assert source.name == "mine.weights.h5"
        identities.append(source.identity())
    # The network that was made of them is found again while they are the same.
    assert identities[0] == identities[1] != identities[2]


def test_weights_that_are_not_there_are_one_sentence(aws: Server, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"cannot read backbone.weights s3://{bucket}/none.h5: missing"):
        with_local_weights(configured(f"s3://{bucket}/none.h5"), tmp_path)
    assert with_local_weights(configured("random:3"), tmp_path).backbone.weights == "random:3"
