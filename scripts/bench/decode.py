"""What a picture costs between its bytes and the tensor, by decoder: core-milliseconds, and how far its pixels are off.

Decoders take turns on one thread of a process, over the same files held in memory; their time is the process's CPU
time. A decoder that scales does so while it decodes, to no less than the tensor's side. Those from outside Mirabelle's
environment run under another Python; this file needs nothing but NumPy and Pillow beside them.

    python scripts/bench/decode.py --pictures FOLDER --decoder Pillow --decoder simplejpeg
    python scripts/bench/decode.py --pictures FOLDER --engine-ms 17.3

Without ``--decoder`` it is all that are here, on the files as they are and written anew in other ways, and a table
comes of it, with the least that any can take: undoing JPEG's Huffman coding.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE_PX = 224
HUFFMAN = "Huffman decoding alone"
# How files are written anew, for the table: Pillow's format and its options; None leaves them as they are.
WAYS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "as they are": None,
    "JPEG 4:4:4": ("JPEG", {"quality": 90, "subsampling": "4:4:4"}),
    "JPEG progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"quality": 85}),
}
# What a worker's engine has freed by the time that pictures come: malloc has learnt from it to keep what is freed, and
# no picture's memory is asked of the system anew, which would take up to a quarter of its time.
FREED_BYTES = 31 * 2**20
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


def huffman() -> Decoder:
    """libjpeg-turbo's Huffman decoding and next to nothing else: brightness alone, one pixel of each block."""

    def read(content: bytes) -> None:
        picture = Image.open(io.BytesIO(content))
        if picture.format not in ("JPEG", "MPO"):
            raise ValueError("only JPEG is coded so")
        picture.decodermaxblock = len(content)
        picture.draft("L", (1, 1))
        picture.load()

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
    HUFFMAN: (huffman, True),
    "Pillow": (pillow, True),
    "Pillow, draft mode": (pillow_draft, True),
    "simplejpeg": (simplejpeg, False),
    "simplejpeg, scaled": (simplejpeg_scaled, False),
    "OpenCV": (opencv, False),
    "OpenCV, scaled": (opencv_reduced, False),
}


def measure(decoder: Decoder, contents: list[bytes], seconds: float) -> float:
    """Core-milliseconds a picture."""
    began, before, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - began < seconds:
        for content in contents:
            decoder(content)
        count += len(contents)
    return 1000 * (time.process_time() - before) / count


def distance(decoder: Decoder, contents: list[bytes]) -> float | None:
    """The mean distance from Pillow's pixels, of 255, over the first few; None for what gives no pixels."""
    reference, apart = pillow(), []
    for content in contents[:4]:
        if (pixels := decoder(content)) is None:
            return None
        apart.append(float(np.abs(np.asarray(pixels, np.int16) - np.asarray(reference(content), np.int16)).mean()))
    return round(statistics.mean(apart), 3)


def written(contents: list[bytes], way: tuple[str, dict[str, Any]] | None) -> list[bytes]:
    """The same pictures in another format."""
    if way is None:
        return contents
    files = []
    for content in contents:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").save(buffer, way[0], **way[1])
        files.append(buffer.getvalue())
    return files


def told(name: str, contents: list[bytes], seconds: float) -> dict[str, Any]:
    """A decoder's figure and how far its pixels are off; or why it has none."""
    try:
        decoder = DECODERS[name][0]()
    except (ImportError, OSError, RuntimeError) as error:  # a wrapper without its library raises the latter two
        return {"not_run": f"{name} can't be imported: {error}"}
    apart = distance(decoder, contents)
    return {"core_ms": round(measure(decoder, contents, seconds), 3), "apart": apart, "pictures": len(contents)}


def compare(contents: list[bytes], options: argparse.Namespace) -> None:
    """Print what all decoders that are here take, by turns, beside the least that any can."""
    import machine

    decoders: dict[str, Decoder] = {}
    for name, (make, _) in DECODERS.items():
        try:
            decoders[name] = make()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{name} can't be imported: {error}", file=sys.stderr)
    ways, rounds, engine_ms = dict.fromkeys(["as they are", *options.ways]), options.rounds, options.engine_ms
    found = {way: taken(decoders, written(contents, WAYS[way]), rounds, options.seconds) for way in ways}
    head, rows = ["decoder", *(f"{way}, core-ms" for way in ways)], []
    for name in decoders:
        cells = [f"{found[way][name]:.2f}" if name in found[way] else "" for way in ways]
        if engine_ms is not None:
            least, own = found["as they are"][HUFFMAN], found["as they are"][name]
            cells.append(f"{(engine_ms + least) / (engine_ms + own):.2f}")
        rows.append([name, *cells])
    if engine_ms is not None:
        head.append(f"as they are, beside an engine of {engine_ms:g}: of what engine and Huffman decoding leave")
    facts = machine.facts()
    size_bytes = statistics.mean(map(len, contents))
    print(f"{facts['CPU']}; {facts['versions']}; revision {facts['git revision']}")
    print(f"{len(contents)} pictures of {size_bytes:,.0f} bytes, {rounds} rounds, medians\n")
    for row in (head, ["---"] * len(head), *rows):  # not by table.py, which wants all of Mirabelle's environment
        print(f"| {' | '.join(row)} |")


def taken(decoders: dict[str, Decoder], contents: list[bytes], rounds: int, seconds: float) -> dict[str, float]:
    """The median over the rounds, of each that can read these files."""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, decoder in list(decoders.items())[:: -1 if number % 2 else 1]:
            try:
                found.setdefault(name, []).append(measure(decoder, contents, seconds))
            except (ValueError, TypeError):  # not of this format
                found.pop(name, None)
    return {name: statistics.median(figures) for name, figures in found.items() if figures}


def main() -> int:
    """Measure some decoders, or all that are here, and print it; 2 where there is no picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of JPEG files, all of them read")
    parser.add_argument("--decoder", choices=DECODERS, action="append", help="this one, as JSON; may be repeated")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each figure (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the table (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of writing the files anew (all)")
    parser.add_argument("--engine-ms", type=float, help="core-milliseconds of the network a picture, for the bound")
    options = parser.parse_args()
    contents = [path.read_bytes() for path in sorted(options.pictures.rglob("*.jp*g"))]
    if not contents:
        print(f"there is no JPEG file in {options.pictures}; --pictures takes a folder of them", file=sys.stderr)
        return 2
    np.empty(FREED_BYTES, np.uint8)
    # As on a worker, where the thread that decodes is not the first one.
    with ThreadPoolExecutor(1) as pool:
        if options.decoder is None:
            pool.submit(compare, contents, options).result()
        else:
            found = {name: pool.submit(told, name, contents, options.seconds).result() for name in options.decoder}
            print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
