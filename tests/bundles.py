"""Bundles small enough to make often: a network of mean colours, and a classifier of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from conftest import mean_colour_network
from mirabelle.bundle.chaining import Chain
from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.bundle.opened import CARD
from mirabelle.bundle.sealing import Files, seal, to_tar
from mirabelle.pipeline.bundle_parts import Parts
from mirabelle.pipeline.bundling import facts_of, files_of
from mirabelle.reduction import Projection

LABELS = ("red", "green", "blue")
INPUT_PX = 8


def colours(projection: Projection | None = None) -> Parts:
    """What tells red, green and blue apart: the largest mean wins, by a softmax of a tenth of them."""
    facts = {
        "id": "by-hand",
        "estimator": "LogisticRegression",
        "features": "3 colours",
        "labels": LABELS,
        "pca": "none",
    }
    weights = np.eye(3) / 10 if projection is None else projection.components.T / 10
    intercepts = np.zeros(3) if projection is None else projection.mean / 10
    classifier = Classifier("linear", "softmax", linear(weights, intercepts))
    return Parts("classifier", facts, mean_colour_network(INPUT_PX), projection, Chain(classifier, LABELS, {}))


def made(parts: Parts | None = None, files: Files | None = None, **facts: Any) -> Files:
    """All files of a bundle; ``files`` and ``facts`` are added to its own, or take their place."""
    parts = parts or colours()
    told = facts_of(parts, "20260101T000000.000000Z-0000", "colours", {"mirabelle": "0"})
    return seal({**told, **facts}, {**files_of(parts), CARD: b"# colours\n", **(files or {})})


def put(folder: Path, files: Files) -> Path:
    """A bundle as a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def put_tar(path: Path, files: Files) -> Path:
    """A bundle as a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_tar(files))
    return path
