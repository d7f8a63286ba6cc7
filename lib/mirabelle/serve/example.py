"""A picture to try the API with, drawn here, so that examples work anywhere. Pure."""

from __future__ import annotations

import base64
import functools
import io
from typing import Any

import numpy as np
from PIL import Image


@functools.cache
def example_picture() -> bytes:
    """A disc before a slope, as PNG."""
    down, across = np.mgrid[0:96, 0:128]
    picture = np.stack([across * 2, down * 2, 255 - across], axis=-1)
    picture[(down - 48) ** 2 + (across - 64) ** 2 < 30**2] = (200, 40, 30)
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@functools.cache
def example_inference() -> dict[str, Any]:
    """A body for ``/v2/models/{name}/infer`` that works."""
    encoded = base64.b64encode(example_picture()).decode()
    return {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}]}
