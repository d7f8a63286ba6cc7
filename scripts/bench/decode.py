"""What a picture costs between its bytes and the tensor, by decoder: core-milliseconds, and how far its pixels are off.

Each decoder runs in a process of its own, on one thread, over the same files held in memory; its time is the process's
CPU time. A decoder that scales does so while it decodes, to no less than the tensor's side. Those from outside
Mirabelle's environment run under another Python; this file needs nothing but NumPy and Pillow beside them.

    python scripts/bench/decode.py --pictures FOLDER --decoder pillow
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE_PX = 224
Decoder = Callable[[bytes], Any]


def mirabelle(*, exact: bool = True) -> Decoder:
    """Ours, with all its checks; ``exact`` as ``decode.exact`` has it with float32, and not with bf16."""
    from mirabelle.decode import DecodeOptions, decode

    options = DecodeOptions(exact=exact)
    return lambda content: decode(content, SIDE_PX, options).pixels


def pillow() -> Decoder:
    """The whole picture, then a bilinear resize, as Keras does it."""
    return lambda content: fit(Image.open(io.BytesIO(content)).convert("RGB"))


def pillow_draft() -> Decoder:
    """Pillow's draft mode: libjpeg decodes at an eighth, a quarter or a half."""

    def read(content: bytes) -> Any:
        picture = Image.open(io.BytesIO(content))
        picture.draft("RGB", (SIDE_PX, SIDE_PX))
        return fit(picture.convert("RGB"))

    return read


def simplejpeg() -> Decoder:
    """The whole picture by libjpeg-turbo, straight into an array."""
    import simplejpeg as library

    return lambda content: fit(Image.fromarray(library.decode_jpeg(content)))


def simplejpeg_scaled() -> Decoder:
    """The same, scaled while it decodes."""
    import simplejpeg as library

    return lambda content: fit(
        Image.fromarray(library.decode_jpeg(content, min_height=SIDE_PX, min_width=SIDE_PX, min_factor=1))
    )


def opencv() -> Decoder:
    """OpenCV: the whole picture, then its own bilinear resize, which skips pixels where it shrinks."""
    return opencv_at(lambda shortest: 1)


def opencv_reduced() -> Decoder:
    """OpenCV, scaled while it decodes."""
    return opencv_at(lambda shortest: next((s for s in (8, 4, 2) if shortest >= SIDE_PX * s), 1))


def opencv_at(scale_for: Callable[[int], int]) -> Decoder:
    """OpenCV at the scale that ``scale_for`` says for a picture's shorter side."""
    import cv2

    cv2.setNumThreads(1)
    flags = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }

    def read(content: bytes) -> Any:
        shortest = min(Image.open(io.BytesIO(content)).size)
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags[scale_for(shortest)])
        return cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), (SIDE_PX, SIDE_PX))

    return read


def fit(picture: Image.Image) -> Any:
    """The picture stretched to the tensor's square."""
    return np.asarray(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))


# What it is called, what makes it, and whether it is in Mirabelle's own environment.
DECODERS: dict[str, tuple[Callable[[], Decoder], bool]] = {
    "Mirabelle": (mirabelle, True),
    "Mirabelle, not exact": (functools.partial(mirabelle, exact=False), True),
    "Pillow": (pillow, True),
    "Pillow, draft mode": (pillow_draft, True),
    "simplejpeg": (simplejpeg, False),
    "simplejpeg, scaled": (simplejpeg_scaled, False),
    "OpenCV": (opencv, False),
    "OpenCV, scaled": (opencv_reduced, False),
}


def measure(decoder: Decoder, contents: list[bytes], seconds: float) -> tuple[float, float]:
    """Core-milliseconds a picture, and the mean distance from Pillow's pixels, of 255, over the first few."""
    reference = pillow()
    apart = [
        float(np.abs(np.asarray(decoder(content), np.int16) - np.asarray(reference(content), np.int16)).mean())
        for content in contents[:4]
    ]
    began, before, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - began < seconds:
        for content in contents:
            decoder(content)
        count += len(contents)
    return 1000 * (time.process_time() - before) / count, sum(apart) / len(apart)


def main() -> int:
    """Measure one decoder and print it; 2 where it is not installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of JPEG files, all of them read")
    parser.add_argument("--decoder", choices=DECODERS, required=True)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    try:
        decoder = DECODERS[options.decoder][0]()
    except (ImportError, OSError, RuntimeError) as error:  # a wrapper without its library raises the latter two
        print(f"{options.decoder} can't be imported: {error}", file=sys.stderr)
        return 2
    contents = [path.read_bytes() for path in sorted(options.pictures.rglob("*.jp*g"))]
    core_ms, apart = measure(decoder, contents, options.seconds)
    print(json.dumps({"core_ms": round(core_ms, 3), "apart": round(apart, 3), "pictures": len(contents)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
