"""A real bundle that says what the stand-in of the server's tests says, so that they run against any server.

As a program it writes one: ``python tests/known_bundle.py FOLDER``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from bundles import colours, made, put
from mirabelle.bundle.chaining import Chain
from mirabelle.bundle.classifying import Classifier, linear
from mirabelle.bundle.index import Index, unit
from mirabelle.reduction import Projection
from stand_in_bundle import LABELS

# Of the training set's pictures; the first is what the tests ask about.
COLOURS = ((200, 100, 50), (50, 200, 100), (50, 100, 200))


def known() -> dict[str, bytes]:
    """Its files: shares of the mean colours, each and one, behind a PCA that leaves them as they are."""
    projection = Projection(np.zeros(3), np.eye(3), np.ones(3), 10, 3.0)
    chain = Chain(Classifier("linear", "shares", linear(np.eye(3), np.ones(3))), LABELS, {})
    parts = replace(colours(projection), chain=chain)
    names = [f"{label}.png" for label in LABELS]
    index = Index(unit(np.array(COLOURS, np.float32)), names, LABELS, [4, 8, 12], b"\x89PNG" * 3)
    return made(parts, files=index.to_files(), index={"pictures": 3, "of": "reduced"})


if __name__ == "__main__":
    put(Path(sys.argv[1]), known())
