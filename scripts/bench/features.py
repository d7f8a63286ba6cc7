"""The features that a side has written, whoever it is, and how near they are to others of the same pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sides import CannotRun


def read_features(output: Path, pictures: Path) -> dict[str, NDArray[np.float32]]:
    """Features by path below the pictures' folder, whoever wrote them. Raises CannotRun where a path comes twice."""
    found: dict[str, NDArray[np.float32]] = {}
    folder = output / "features" if (output / "features").is_dir() else output
    for file in sorted(folder.rglob("*.parquet")):
        table = pq.ParquetFile(file).read(columns=["path", "features"])
        if not len(table):
            # Spark leaves such files of partitions that had no rows.
            continue
        values = table["features"].combine_chunks()
        flat = values.flatten().to_numpy(zero_copy_only=False)
        matrix = np.asarray(flat, np.float32).reshape(len(table), -1)
        for path, row in zip(table["path"].to_pylist(), matrix, strict=True):
            where = relative(path, pictures)
            if where in found:
                raise CannotRun(f"its output has {where} twice")
            found[where] = row
    return found


def relative(path: str, pictures: Path) -> str:
    """A picture's path below its folder, out of a path or a file: address."""
    plain = unquote(urlparse(path).path) if path.startswith("file:") else path
    return plain.removeprefix(f"{pictures}/")


@dataclass(frozen=True)
class Agreement:
    """How near some features are to the reference's: the lowest over all pictures.

    Attributes:
        cosine: of the features as they are.
        centred: of what is left of them without the reference's mean; stricter, as all pictures share most of that.
    """

    cosine: float
    centred: float


def agreement(features: dict[str, NDArray[np.float32]], reference: dict[str, NDArray[np.float32]]) -> Agreement:
    """Of the features of those pictures that both have, which some must be. Raises CannotRun for another width."""
    both = [path for path in reference if path in features]
    ours = np.stack([reference[path] for path in both]).astype(np.float64)
    theirs = np.stack([features[path] for path in both]).astype(np.float64)
    if ours.shape != theirs.shape:
        raise CannotRun(f"its features have {theirs.shape[1]} numbers where Mirabelle's have {ours.shape[1]}")
    mean = ours.mean(axis=0)
    return Agreement(lowest_cosine(ours, theirs), lowest_cosine(ours - mean, theirs - mean))


def lowest_cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Over the rows of two float64 (n, width)."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(norms, 1e-30)).min())
