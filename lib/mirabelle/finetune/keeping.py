"""What a lesson has come to, kept after every round, so that one that is killed goes on from there. [Store]

Under the lesson's own folder: ``<round>.npz``, weights and the optimizer's own numbers; ``best.npz`` and its number in
``state.json``, which is written last, and names what counts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirabelle.errors import FetchError
from mirabelle.storage import Store, join

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Kept:
    """A lesson's folder.

    Attributes:
        store, folder: where.
    """

    store: Store
    folder: str

    def put(self, history: Sequence[dict[str, Any]], best: int, now: Arrays, chosen: Arrays | None) -> None:
        """Keep a round.

        Args:
            history: of all rounds so far, the last the one that has ended.
            best: number of the best of them.
            now: weights and the optimizer's numbers.
            chosen: the best round's weights, if that is the last one.
        """
        number = len(history)
        self.store.write(self._round(number), _packed(now))
        if chosen is not None:
            self.store.write(self._best(best), _packed(chosen))
        state = {"history": list(history), "best": best}
        self.store.write(join(self.folder, "state.json"), json.dumps(state).encode())
        keep = {self._round(number), self._best(best)}
        for entry in list(self.store.walk(self.folder)):
            if entry.path.endswith(".npz") and entry.path not in keep:
                self.store.remove(entry.path)

    def get(self) -> tuple[list[dict[str, Any]], int, Arrays, Arrays] | None:
        """What ``put`` was given last: history, the best round, its numbers, the best round's; None: nothing yet."""
        try:
            state = json.loads(self._read(join(self.folder, "state.json")))
            history, best = state["history"], state["best"]
            now, chosen = self._read(self._round(len(history))), self._read(self._best(best))
        except (FetchError, ValueError, KeyError):
            return None
        return history, best, _unpacked(now), _unpacked(chosen)

    def remove(self) -> None:
        """The lesson has ended."""
        self.store.remove(self.folder)

    def _read(self, path: str) -> bytes:
        with self.store.open(path) as file:
            return file.read()

    def _round(self, number: int) -> str:
        return join(self.folder, f"{number:05d}.npz")

    def _best(self, number: int) -> str:
        return join(self.folder, f"best-{number:05d}.npz")


def _packed(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content)) as found:
        return [found[f"arr_{i}"] for i in range(len(found.files))]
