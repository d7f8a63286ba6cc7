"""BentoML: the same network and classifier behind its HTTP server, with adaptive batching. `serve.py` starts it.

After BentoML's pages "Adaptive batching", "Input and output types" and "Concurrency", and its example of CLIP: one
service of one worker, whose method takes a list of PIL images and is batchable, so that BentoML's dispatcher gathers
requests; images come as files of a form. Pillow decodes in as many threads as there are cores, and OpenVINO has all of
them, at its latency hint as for one batch at a time. It shares no code with Mirabelle, and reads the bundle's files.
"""

# BentoML reads annotations as they are, which `from __future__ import annotations` would make strings of.

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import openvino
from PIL import Image

# As Mirabelle's server; larger ones gain nothing on a CPU, and the default of 100 keeps others waiting.
MAX_BATCH = 16
TOP = 5


def pixels(image: Image.Image, side: int) -> Any:
    """uint8 RGB (side, side, 3)."""
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


@bentoml.service(workers=1, traffic={"timeout": 60})
class Answering:
    """Says of pictures which label is how likely."""

    def __init__(self) -> None:
        bundle, self._threads = Path(os.environ["BENCH_BUNDLE"]), int(os.environ["BENCH_THREADS"])
        facts = json.loads((bundle / "bundle.json").read_text())
        self._labels = facts["classifiers"][0]["labels"]
        with np.load(bundle / "classifier.npz") as arrays:
            self._weights, self._intercepts = arrays["weights"], arrays["intercepts"]
        hint = openvino.Type.bf16 if facts["embedding"]["precision"] == "bf16" else openvino.Type.f32
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": hint,
        }
        core = openvino.Core()
        self._request = core.compile_model(core.read_model(bundle / "network" / "model.xml"), "CPU", settings)
        self._request = self._request.create_infer_request()
        self._side = facts["embedding"]["input_px"]
        self._pool = ThreadPoolExecutor(self._threads)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)  # type: ignore[untyped-decorator]  # none are here for mypy
    def predict(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        """The likeliest labels of each picture, likeliest first."""
        batch = np.stack(list(self._pool.map(lambda image: pixels(image, self._side), images)))
        self._request.infer([batch], share_inputs=True)
        scores = self._request.get_output_tensor(0).data @ self._weights.T + self._intercepts
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return [{self._labels[place]: float(row[place]) for place in np.argsort(-row)[:TOP]} for row in shares]
