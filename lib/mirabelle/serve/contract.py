"""What the server asks of a bundle; ``mirabelle.bundle`` has it. Touches nothing."""

# ruff: noqa: D102  # what they are, mirabelle.bundle says
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]


class Info(Protocol):
    """What a bundle says of itself."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def input_px(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def components(self) -> int: ...


class Decoded(Protocol):
    """A picture as the network takes it: uint8 (input_px, input_px, 3), and its own size."""

    @property
    def pixels(self) -> Pixels: ...
    @property
    def width_px(self) -> int: ...
    @property
    def height_px(self) -> int: ...


class Outputs(Protocol):
    """What the network says of n pictures: float32 (n, width), (n, components) or None, (n, classes)."""

    @property
    def features(self) -> Numbers: ...
    @property
    def reduced(self) -> Numbers | None: ...
    @property
    def probabilities(self) -> Numbers: ...


class Neighbour(Protocol):
    """One of the pictures that were learnt from."""

    @property
    def path(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def cosine(self) -> float: ...
    @property
    def thumbnail(self) -> bytes | None: ...


class Bundle(Protocol):
    """An open bundle. ``decode`` and ``infer`` may be called by several threads at once."""

    @property
    def info(self) -> Info: ...

    def decode(self, data: bytes) -> Decoded: ...
    def infer(self, pixels: Pixels) -> Outputs: ...
    def answer(self, outputs: Any, top: int | None = None) -> Sequence[Any]: ...
    def explain(self, pixels: Pixels) -> npt.NDArray[Any]: ...
    def neighbours(self, features: Numbers, k: int) -> Sequence[Neighbour]: ...
