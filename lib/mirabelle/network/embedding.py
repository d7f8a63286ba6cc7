"""What makes two embeddings comparable: the parts of one, and their fingerprint.

Plain values; used on the driver and on executors; touches nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

Precision = Literal["float32", "bf16", "int8"]
EngineName = Literal["openvino", "keras"]
Pooling = Literal["avg", "max", "flatten"]


@dataclass(frozen=True)
class Normalisation:
    """What a network wants done to RGB values in 0..255 before its first layer: ``(x / scale - mean) / std``.

    The three published forms are those of ``keras.applications.imagenet_utils.preprocess_input``: ``caffe`` (BGR,
    minus the ImageNet means), ``tf`` (to -1..1), ``torch`` (0..1, then minus mean and over std); ``none`` is for
    networks that normalise inside themselves.

    Attributes:
        name: the published form's name; part of the fingerprint.
        reverse_channels: RGB becomes BGR first.
        scale: divisor of the raw values.
        mean: subtracted per channel, in the channels' order after any reversal.
        std: divisor per channel.
    """

    name: str
    reverse_channels: bool = False
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


NORMALISATIONS: dict[str, Normalisation] = {
    n.name: n
    for n in (
        Normalisation("caffe", reverse_channels=True, mean=(103.939, 116.779, 123.68)),
        Normalisation("tf", scale=127.5, mean=(1.0, 1.0, 1.0)),
        Normalisation("torch", scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Normalisation("none"),
    )
}


@dataclass(frozen=True)
class Embedding:
    """All that decides what features an image gets. Rows may be compared only if these are equal.

    Attributes:
        backbone: registry name, e.g. ``resnet50``.
        weights: how the user named them (``imagenet``, ``random:0`` or a file's name); for people, not in the
            fingerprint.
        weights_digest: sha256 of the tensors themselves.
        input_px: side of the square picture the network sees.
        layer: the layer whose output is taken.
        pooling: how its height and width are folded away.
        preprocessing: decoder's version, choices that change pixels, and the normalisation's name.
        precision: of the arithmetic.
        width: features a picture.
        calibration: of int8, by what it was quantised and on which pictures; empty: by and on none.
    """

    backbone: str
    weights: str
    weights_digest: str
    input_px: int
    layer: str
    pooling: Pooling
    preprocessing: str
    precision: Precision
    width: int
    calibration: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (64 hex digits) over every part that changes the features."""
        parts = {k: v for k, v in self._parts().items() if k not in ("weights", "width")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """The Hive partition value under ``features/``: ``<backbone>-<first 8 digits>``."""
        return f"{self.backbone}-{self.fingerprint[:8]}"

    @property
    def is_random(self) -> bool:
        """True when the weights were drawn, not learnt: good for tests and benchmarks alone."""
        return self.weights.startswith("random:")

    def to_json(self) -> dict[str, Any]:
        """All parts and the fingerprint, as they stand in footers, manifests and models."""
        return {**self._parts(), "fingerprint": self.fingerprint}

    def _parts(self) -> dict[str, Any]:
        """Without a calibration where there is none, as embeddings were told before there was int8."""
        return {k: v for k, v in asdict(self).items() if k != "calibration" or v}

    @classmethod
    def from_json(cls, parts: dict[str, Any]) -> Embedding:
        """The inverse of ``to_json``.

        Raises:
            ValueError: if the fingerprint in ``parts`` is not the one the other parts give.
        """
        given = dict(parts)
        fingerprint = given.pop("fingerprint")
        embedding = cls(**given)
        if embedding.fingerprint != fingerprint:
            raise ValueError(f"fingerprint {fingerprint[:8]} does not fit its parts ({embedding.fingerprint[:8]})")
        return embedding
