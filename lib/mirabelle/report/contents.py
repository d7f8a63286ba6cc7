"""What a report is made of: small frozen records of arrays and plain values.

Pure; runs on the driver. Text in these records (labels, paths, details, configuration) may hold anything at all: the
page escapes it. Thumbnails are encoded pictures (WebP, PNG or JPEG), at most 96 px on the longer side, so that a page
with 2,000 of them stays under 8 MB. Nothing here is changed by rendering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.report.judged import Certified, Chained, Compared, ConfusedPair, Evaluation
from mirabelle.report.pictures import Picture


@dataclass(frozen=True)
class Reject:
    """One image that got no features, and why.

    Attributes:
        path: the image's URI.
        stage: ``fetch``, ``decode`` or ``embed``.
        code: the reason, from the closed enumeration.
        detail: one line for a person; may be empty.
        size_bytes: the size as listed, or ``None`` when unknown.
        thumbnail: the picture where one could be made, else ``None``.
    """

    path: str
    stage: str
    code: str
    detail: str
    size_bytes: int | None
    thumbnail: bytes | None


@dataclass(frozen=True)
class Scree:
    """How the variance spreads over the principal components.

    Attributes:
        explained_variance_ratio: float64 (d,), each component's share of the variance, descending: of all of them,
            or of the first d where a sketch knows no more.
        components: how many were kept, 1 to d.
        variance_target: the share that was asked for, 0 to 1, or ``None`` when the number itself was asked for.
        rows: how many images the components were fitted on.
        available: how many components there are, d or more; ``None``: d.

    Raises:
        ValueError: the ratios are not one-dimensional, or ``components`` is not among them.
    """

    explained_variance_ratio: npt.NDArray[np.float64]
    components: int
    variance_target: float | None
    rows: int
    available: int | None = None

    @property
    def dimension(self) -> int:
        """How many components there are."""
        return self.available or len(self.explained_variance_ratio)

    def __post_init__(self) -> None:
        if self.explained_variance_ratio.ndim != 1:
            raise ValueError(f"explained_variance_ratio has shape {self.explained_variance_ratio.shape}, not (d,)")
        if not 1 <= self.components <= len(self.explained_variance_ratio):
            raise ValueError(f"{self.components} components kept of {len(self.explained_variance_ratio)}")


@dataclass(frozen=True)
class Scatter:
    """A sample of images on the plane of the first two principal components.

    Attributes:
        pictures: the n sampled images; n up to about 2,000.
        coordinates: float (n, 2), PC1 and PC2; rows that are not finite are left out of the chart.
        split: n names such as ``train`` and ``test``, or ``None`` where there is none.
        total: how many images there are in all, n or more; the page says so when it is more.

    Raises:
        ValueError: the three do not go together.
    """

    pictures: Sequence[Picture]
    coordinates: npt.NDArray[np.floating[Any]]
    split: Sequence[str | None]
    total: int

    def __post_init__(self) -> None:
        shape, wanted = self.coordinates.shape, (len(self.pictures), 2)
        if shape != wanted or len(self.split) != wanted[0]:
            raise ValueError(f"coordinates {shape} and {len(self.split)} splits for {wanted[0]} pictures")


@dataclass(frozen=True)
class Neighbours:
    """One image and those nearest to it.

    Attributes:
        query: the image asked about.
        nearest: its neighbours and their cosine similarity (-1 to 1), nearest first, the query itself left out.
    """

    query: Picture
    nearest: Sequence[tuple[Picture, float]]


@dataclass(frozen=True)
class Views:
    """One image and the ways in which a network was shown it.

    Attributes:
        picture: as it is.
        versions: encoded pictures.
    """

    picture: Picture
    versions: Sequence[bytes]


@dataclass(frozen=True)
class Looked:
    """One image and where a network looked to judge it.

    Attributes:
        picture: the image, its true label with it.
        overlay: the same, encoded, coloured where the answer comes from.
        predicted: the answer.
        probability: of it, 0 to 1.
    """

    picture: Picture
    overlay: bytes
    predicted: str
    probability: float


@dataclass(frozen=True)
class Learning:
    """How a network was taught.

    Attributes:
        rounds: one mapping each, ``epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds``.
        best: number of the round whose weights were kept.
        parameters: of the network.
        trainable: how many of them learnt.
        views: an image as it was shown, or ``None`` where all were shown as they are.
        looked: images that it was judged on, those that it got wrong first.
    """

    rounds: Sequence[Mapping[str, Any]]
    best: int
    parameters: int
    trainable: int
    views: Views | None
    looked: Sequence[Looked]


@dataclass(frozen=True)
class ReportContents:
    """Everything a page shows. A part that is ``None`` or empty is said to be absent, and why.

    Attributes:
        title: the heading.
        manifest: the run's manifest, JSON-like; any key may be absent.
        rejects: the rejects to list, as many as are worth reading; the page shows at most 200.
        rejects_total: how many rejects there are in all.
        scree: the spread of variance, or ``None`` when no PCA has been fitted.
        scatter: the map of images, or ``None`` when no PCA has been fitted.
        neighbours: a few images with those nearest to them.
        evaluation: how the classifier did, or ``None`` when none has been trained.
        confused: the pairs of labels most often confused, worst first.
        notes: warnings to show at the top, one sentence each.
        learning: how a network was taught, where the page is of one: it has no components, no map and no neighbours.
        compared: this output's classifiers beside each other, where there are several.
        chained: how a chain of two did, where the classifier is one.
        certified: what speed cost, where a certificate tells.
    """

    title: str
    manifest: Mapping[str, Any]
    rejects: Sequence[Reject]
    rejects_total: int
    scree: Scree | None
    scatter: Scatter | None
    neighbours: Sequence[Neighbours]
    evaluation: Evaluation | None
    confused: Sequence[ConfusedPair]
    notes: Sequence[str]
    learning: Learning | None = None
    compared: Compared | None = None
    chained: Chained | None = None
    certified: Certified | None = None
