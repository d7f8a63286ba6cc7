"""The training set's pictures, and which of them are nearest. [numpy]

Every one is compared (a product of a matrix and a vector): of 100,000 pictures that is a few milliseconds after a PCA
and some tens on 2,048 features, which a structure for searching need not be carried along for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.bundle.answers import Neighbour
from mirabelle.errors import BundleError

Vectors = npt.NDArray[np.float32]

VECTORS, PICTURES, THUMBNAILS = "index/vectors.npy", "index/pictures.json", "index/thumbnails.bin"


@dataclass(frozen=True, eq=False)
class Index:
    """Pictures of the training set.

    Attributes:
        vectors: float32 (n, width), of length 1; 0 where there is no direction.
        paths, labels: of each.
        ends: where each one's thumbnail ends among ``thumbnails``; it begins where the one before it ends.
        thumbnails: WebP files behind each other.
    """

    vectors: Vectors
    paths: Sequence[str]
    labels: Sequence[str]
    ends: Sequence[int]
    thumbnails: bytes

    def nearest(self, row: Vectors, k: int) -> list[Neighbour]:
        """The ``k`` pictures with the largest cosine to float32 (width,), largest first, or all if there are fewer."""
        cosines = self.vectors @ unit(row[None])[0]
        k = max(0, min(k, len(cosines)))
        few = np.argpartition(-cosines, k - 1)[:k] if k else np.array([], np.int64)
        # Even ones in the order of the index, whatever the partition did with them.
        order = few[np.lexsort((few, -cosines[few]))]
        return [Neighbour(self.paths[i], self.labels[i], float(cosines[i]), self._thumbnail(i)) for i in order]

    def _thumbnail(self, number: int) -> bytes:
        first = self.ends[number - 1] if number else 0
        return self.thumbnails[first : self.ends[number]]

    def to_files(self) -> dict[str, bytes]:
        """As files of a bundle."""
        sink = io.BytesIO()
        np.save(sink, self.vectors)
        pictures = {"paths": list(self.paths), "labels": list(self.labels), "thumbnail_ends": list(self.ends)}
        return {
            VECTORS: sink.getvalue(),
            PICTURES: json.dumps(pictures).encode(),
            THUMBNAILS: self.thumbnails,
        }

    @classmethod
    def from_files(cls, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> Index:
        """The inverse of ``to_files``.

        Args:
            facts: of the index: how many ``pictures`` it has.
            files: of the bundle.

        Raises:
            BundleError: its parts do not fit together.
        """
        vectors = np.load(io.BytesIO(files[VECTORS]), allow_pickle=False)
        told = json.loads(files[PICTURES])
        found = cls(vectors, told["paths"], told["labels"], told["thumbnail_ends"], files[THUMBNAILS])
        if {len(found.vectors), len(found.paths), len(found.labels), len(found.ends)} != {facts["pictures"]}:
            raise BundleError("the bundle's index has parts of different lengths; bundle it again")
        return found


def unit(rows: Vectors) -> Vectors:
    """Rows of length 1, or 0 where they were; a new array."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros(rows.shape), where=lengths > 0), np.float32)
