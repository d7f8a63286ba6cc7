"""A bundle for tests of the server: a real network on OpenVINO, the real decoder, and labels by the mean colour.

As a program it serves itself: ``python tests/stand_in_bundle.py FOLDER name=value ...``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from mirabelle.bundle import Answer, BundleInfo, Likely, Neighbour, Outputs
from mirabelle.decode import DecodedImage, DecodeOptions, decode
from mirabelle.errors import OutputError

SIDE = 8
LABELS = ("red", "green", "blue")
# Batches that a server's self-test runs, on all cores and on each half of them.
SELF_TEST = 4


def info_of(id_: str) -> BundleInfo:
    return BundleInfo(
        id=id_,
        name="colours",
        estimator="the mean colour",
        labels=LABELS,
        coarse_labels=(),
        fingerprint="f" * 64,
        embedding={},
        input_px=SIDE,
        pixels=(SIDE, SIDE, 3),
        width=3,
        components=3,
        precision="float32",
        has_index=True,
        created="2026-01-01T00:00:00Z",
        versions={},
        checks={},
        card="# Colours",
        sha256="0" * 64,
    )


class StandIn:
    """Features are the mean red, green and blue; probabilities their shares of the sum.

    Args:
        id_: its name.
        seconds: that the network takes beside its own time, for tests of what happens meanwhile.
        broken: answers what is no number.
        index: whether it knows neighbours.
    """

    def __init__(self, id_: str = "one", seconds: float = 0.0, broken: bool = False, index: bool = True) -> None:
        self.info = info_of(id_)
        self.seconds, self.broken, self.index = seconds, broken, index
        self.batches: list[int] = []
        self.halves: list[int | None] = []
        pixels = ops.parameter([-1, SIDE, SIDE, 3], openvino.Type.u8, name="pixels")
        mean = ops.reduce_mean(ops.convert(pixels, "f32"), ops.constant(np.array([1, 2])), keep_dims=False)
        self._network = openvino.Core().compile_model(openvino.Model([mean], [pixels]), "CPU")

    def decode(self, data: bytes) -> DecodedImage:
        return decode(data, SIDE, DecodeOptions())

    def infer(self, pixels: np.ndarray, half: int | None = None) -> Outputs:
        self.batches.append(len(pixels))
        self.halves.append(half)
        time.sleep(self.seconds if len(self.batches) > SELF_TEST else 0)
        # A request of its own, as two halves may run at the same time.
        features = np.array(self._network.create_infer_request().infer([pixels])[0])
        if self.broken:
            features = features * np.float32(np.nan)
        # The pixel that pictures of `poison()` have all over; engines fail on what nobody thought of.
        if (pixels == 13).all(axis=(1, 2, 3)).any():
            raise RuntimeError("poisoned")
        shares = features + np.float32(1)
        found = shares / shares.sum(axis=1, keepdims=True)
        chosen, sure = found.argmax(axis=1), np.ones(len(found), np.bool_)
        finite = np.isfinite(found).all(axis=1)
        return Outputs(features, features, found, chosen, finite, found, chosen, sure, sure)

    def answer(self, outputs: Outputs, top: int | None = None) -> list[Answer]:
        return [self._answer(row, top) for row in outputs.probabilities]

    def _answer(self, row: np.ndarray, top: int | None) -> Answer:
        order = np.argsort(-row, kind="stable")[:top]
        likely = tuple(Likely(LABELS[i], float(row[i])) for i in order)
        return Answer(likely[0].label, likely[0].probability, likely)

    def explain(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[::2, ::2].mean(axis=-1).astype(np.float32) / 255

    def neighbours(self, features: np.ndarray, k: int) -> list[Neighbour]:
        if not self.index:
            raise OutputError("this bundle has no index; make one with --index")
        return [Neighbour(f"{label}.png", label, 1.0, b"\x89PNG") for label in LABELS[:k]]


def open_stand_in(address: str, threads: int) -> Any:
    """The opener: what the file ``stand-in.json`` in a folder says of it."""
    try:
        told = json.loads((Path(address) / "stand-in.json").read_text())
    except (OSError, ValueError) as error:
        raise OutputError(f"{address} is no bundle") from error
    return StandIn(**told)


def write_stand_in(folder: Path, **told: Any) -> str:
    """A folder that ``open_stand_in`` opens."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stand-in.json").write_text(json.dumps(told))
    return str(folder)


if __name__ == "__main__":
    from mirabelle.console import Console
    from mirabelle.serve import load_settings, serve

    serve(sys.argv[1], open_stand_in, load_settings(sys.argv[2:]), Console().say)
