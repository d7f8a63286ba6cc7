"""What a bundle says of pictures. Plain values; touches nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.errors import ImageError


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle is.

    Attributes:
        id: of the bundle, in its output.
        name: for people and for addresses: letters, digits, dots and hyphens.
        estimator: what kind of classifier, on what.
        labels: what it tells apart, in the order of ``Outputs.probabilities``; of a chain its ends, ``coarse / fine``.
        coarse_labels: of a chain its upper level's; else empty.
        fingerprint: of the embedding: features may be compared only where it is equal.
        embedding: its parts.
        input_px: side of the square that the network sees.
        pixels: shape of a picture as ``decode`` gives it and ``infer`` takes it: (input_px, input_px, 3), or of a chain
            whose networks see pictures differently a square for each, below each other.
        width: features a picture.
        components: of them after the PCA; 0: there is none.
        precision: of the network's arithmetic, float32, bf16 or int8.
        has_index: whether it knows its nearest pictures of the training set.
        created: when, ISO 8601.
        versions: of the packages that made it.
        checks: how it was held against the batch job before it was written.
        card: its model card, Markdown.
        sha256: of its manifest, which has those of all files.
    """

    id: str
    name: str
    estimator: str
    labels: tuple[str, ...]
    coarse_labels: tuple[str, ...]
    fingerprint: str
    embedding: dict[str, Any]
    input_px: int
    pixels: tuple[int, int, int]
    width: int
    components: int
    precision: str
    has_index: bool
    created: str
    versions: dict[str, str]
    checks: dict[str, Any]
    card: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Outputs:
    """What network, PCA and classifier give for n pictures.

    Attributes:
        features: float32 (n, width).
        reduced: float32 (n, components); None: the bundle has no PCA.
        probabilities: float32 (n, labels).
        predicted: int64 (n,), the label that wins, by the numbers before they were rounded to float32; of a chain the
            likeliest under the likeliest coarse one.
        finite: bool (n,), whether the network answered with numbers; where not, the rest of the row says nothing.
        coarse: float32 (n, coarse labels), of a chain's upper level; without a chain the same as ``probabilities``.
        coarse_predicted: int64 (n,), the coarse label that wins.
        sure: bool (n,), whether a chain's thresholds are reached by the label that wins; without a chain always.
        coarse_sure: bool (n,), or by its coarse label, at least.
    """

    features: npt.NDArray[np.float32]
    reduced: npt.NDArray[np.float32] | None
    probabilities: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.int64]
    finite: npt.NDArray[np.bool_]
    coarse: npt.NDArray[np.float32]
    coarse_predicted: npt.NDArray[np.int64]
    sure: npt.NDArray[np.bool_]
    coarse_sure: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Likely:
    """A label and how likely it is, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What is said of one picture.

    Attributes:
        label: the class that wins.
        probability: of it.
        probabilities: of the likeliest labels, likeliest first.
        sure: False where a chain's threshold was not reached.
        coarse: a chain's upper level, sure by a threshold of its own; None: there is one level.
    """

    label: str
    probability: float
    probabilities: tuple[Likely, ...]
    sure: bool = True
    coarse: Answer | None = None

    @property
    def given(self) -> str | None:
        """The answer as finely as it is sure enough; None: it is not sure at all."""
        if self.sure:
            return self.label
        return self.coarse.label if self.coarse and self.coarse.sure else None


@dataclass(frozen=True)
class Rejected:
    """Why nothing is said of one picture: as the batch job's ``rejects`` have it.

    Attributes:
        code: from the closed enumeration.
        detail: one line for a person.
        stage: fetch, decode or embed.
    """

    code: str
    detail: str
    stage: str

    @classmethod
    def of(cls, error: ImageError) -> Rejected:
        """The same, of an error."""
        return cls(error.code.value, error.detail, error.stage.value)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One picture's answer, and what it was made of; the latter None where it was rejected.

    Attributes:
        answer: or why there is none.
        width_px, height_px: of the picture.
        features, reduced, probabilities: float32, its row of ``Outputs``.
    """

    answer: Answer | Rejected
    width_px: int | None = None
    height_px: int | None = None
    features: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    reduced: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    probabilities: npt.NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Neighbour:
    """A picture of the training set.

    Attributes:
        path: where it was.
        label: it was learnt with.
        cosine: of its features to those asked about, -1 to 1.
        thumbnail: WebP; empty where none could be made.
    """

    path: str
    label: str
    cosine: float
    thumbnail: bytes = field(repr=False)
