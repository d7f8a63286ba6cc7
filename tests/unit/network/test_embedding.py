from dataclasses import replace

import numpy as np
import pytest

from mirabelle.network.embedding import NORMALISATIONS, Embedding
from mirabelle.network.engines import normalise

EMBEDDING = Embedding("vgg16", "imagenet", "ab" * 32, 224, "block5_pool", "avg", "v1 bilinear", "bf16", 512)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "vgg19"},
        {"weights_digest": "cd" * 32},
        {"input_px": 150},
        {"layer": "block4_pool"},
        {"pooling": "max"},
        {"preprocessing": "v2 bilinear"},
        {"precision": "float32"},
    ],
)
def test_each_part_changes_the_fingerprint(change: dict) -> None:
    assert replace(EMBEDDING, **change).fingerprint != EMBEDDING.fingerprint


def test_the_name_of_the_weights_does_not() -> None:
    assert replace(EMBEDDING, weights="my.weights.h5").fingerprint == EMBEDDING.fingerprint
    assert EMBEDDING.folder == f"vgg16-{EMBEDDING.fingerprint[:8]}"
    assert len(EMBEDDING.fingerprint) == 64


def test_round_trip_and_tampering() -> None:
    parts = EMBEDDING.to_json()
    assert Embedding.from_json(parts) == EMBEDDING
    with pytest.raises(ValueError, match="does not fit its parts"):
        Embedding.from_json({**parts, "precision": "float32"})


def test_random_weights_are_known_as_such() -> None:
    assert replace(EMBEDDING, weights="random:0").is_random
    assert not EMBEDDING.is_random


def test_normalisations_by_their_published_formulas() -> None:
    pixel = np.array([[[[255, 128, 0]]]], dtype=np.uint8)
    # Red, green, blue -> blue, green, red minus ImageNet's means.
    assert normalise(pixel, NORMALISATIONS["caffe"])[0, 0, 0].tolist() == pytest.approx(
        [0 - 103.939, 128 - 116.779, 255 - 123.68]
    )
    assert normalise(pixel, NORMALISATIONS["tf"])[0, 0, 0].tolist() == pytest.approx([1, 128 / 127.5 - 1, -1], abs=1e-6)
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert normalise(pixel, NORMALISATIONS["torch"])[0, 0, 0].tolist() == pytest.approx(expected)
    assert normalise(pixel, NORMALISATIONS["none"])[0, 0, 0].tolist() == [255, 128, 0]
