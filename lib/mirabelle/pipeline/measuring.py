"""Several embedders on the same pictures, in turn, so that what slows the machine slows all of them. Driver only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mirabelle.worker.embedder import Embedder, Tally

BLOCK = 32


@dataclass
class Side:
    """An embedder, and what it made of the pictures so far.

    Attributes:
        name: for people.
        embedder: not used by others meanwhile.
        rows: float32 (width,) of each picture, or None where it has none.
        seconds: by the clock, from files' bytes to features.
    """

    name: str
    embedder: Embedder
    rows: list[npt.NDArray[np.float32] | None] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def embedded(self) -> npt.NDArray[np.bool_]:
        """Which pictures have features, bool (n,)."""
        return np.array([row is not None for row in self.rows], np.bool_)

    def features(self, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Of some pictures, all of which have features, float32 (m, width)."""
        kept = [row for row, wanted in zip(self.rows, which, strict=True) if wanted and row is not None]
        return np.stack(kept) if kept else np.empty((0, self.embedder.spec.embedding.width), np.float32)


def embed_in_turn(sides: Sequence[Side], contents: Sequence[bytes]) -> Iterator[int]:
    """Embed all pictures by all sides, block by block, each block beginning with another side.

    Args:
        sides: changed: features and seconds are added.
        contents: files.

    Yields:
        How many pictures are done.
    """
    if contents:
        for side in sides:
            # Memory is got at the first batch.
            list(side.embedder.embed(contents[:BLOCK], Tally()))
    for number, start in enumerate(range(0, len(contents), BLOCK)):
        block = contents[start : start + BLOCK]
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            began = time.perf_counter()
            side.rows += [outcome.features for outcome in side.embedder.embed(block, Tally())]
            side.seconds += time.perf_counter() - began
        yield start + len(block)
