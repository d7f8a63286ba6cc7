"""What is put on a network to teach it classes, and how a file of one that was taught is told. [disk]

A taught network is a backbone, its layers under their own names, and behind it layers whose names begin with ``head_``.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "head_"
FOLDED = f"{PREFIX}features"
ANSWER = f"{PREFIX}answer"


@dataclass(frozen=True)
class Head:
    """Of a taught network.

    Attributes:
        input_px: side of the square that it was taught on.
        layer: the last before its answer: what its features are taken from.
    """

    input_px: int
    layer: str


def hidden(number: int) -> str:
    """The name of a hidden layer, from 1."""
    return f"{PREFIX}hidden_{number}"


def head_of(path: Path | None) -> Head | None:
    """What a ``.keras`` file has behind its backbone; None: nothing of ours, or it is another file. No Keras needed."""
    if path is None or path.suffix != ".keras":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            config: dict[str, Any] = json.loads(archive.read("config.json"))["config"]
        layers = [layer["config"] for layer in config["layers"]]
        names = [layer["name"] for layer in layers]
        if ANSWER not in names:
            return None
        wide = [name for name in names if name == FOLDED or name.startswith(hidden(0)[:-1])]
        return Head(int(layers[0]["batch_shape"][1]), wide[-1])
    except (OSError, KeyError, TypeError, ValueError, IndexError, zipfile.BadZipFile):
        # Whoever opens it tells what is wrong with it.
        return None
