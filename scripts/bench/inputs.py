"""The pictures that everything is measured on, made once and kept: (a) small, (b) photographs, (c) large photographs.

(a) comes from a folder where one is given, else from `scripts/render_fruits.py`. (b) and (c) come from folders too,
else they are cut out of the two photographs that scikit-learn carries: parts of them, mirrored or not, enlarged, with
fine grain as a sensor has it, so that a file weighs what a camera's does. Writes below the work folder alone.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RENDER = Path(__file__).parents[1] / "render_fruits.py"
MARKER = ".made.json"
RECIPE = 1  # raised when the same settings would give other pictures
SUFFIXES = (".jpg", ".jpeg")


class InputError(Exception):
    """There are no such pictures; its text is one sentence for the terminal."""


@dataclass(frozen=True)
class Kind:
    """One of the three inputs: what it stands for, and what a made file of it is like."""

    letter: str
    told: str
    width_px: int
    height_px: int
    size_bytes: int


KINDS = {
    "a": Kind("a", "pictures of about 100x100, 5 KB", 100, 100, 5_000),
    "b": Kind("b", "photographs of about 1600x1000, 300 KB", 1600, 1000, 300_000),
    "c": Kind("c", "photographs of 24 megapixels, 8 MB", 6000, 4000, 8_000_000),
}


@dataclass(frozen=True)
class Pictures:
    """So many pictures of a kind, in the order that every side takes them."""

    kind: Kind
    root: Path
    paths: tuple[Path, ...]
    source: str

    def spread(self, count: int) -> Pictures:
        """``count`` of them, evenly from all, so that few are like many."""
        count = min(count, len(self.paths))
        chosen = [self.paths[i * len(self.paths) // count] for i in range(count)]
        return Pictures(self.kind, self.root, tuple(chosen), self.source)

    def link(self, folder: Path) -> Path:
        """A folder that holds these and nothing else, as links."""
        for path in self.paths:
            target = folder / path.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
        return folder


def prepare(letter: str, count: int, given: Path | None, work: Path) -> Pictures:
    """At least one and at most ``count`` pictures of a kind.

    Args:
        letter: of the kind.
        count: how many are wanted; a given folder may hold fewer.
        given: folder of JPEG files, of any depth, to take them from.
        work: where made ones are kept.

    Raises:
        InputError: the folder is not there or holds none, or none could be made.
    """
    kind = KINDS[letter]
    if given is not None:
        root, source = given.resolve(), "given"
        if not root.is_dir():
            raise InputError(f"there is no folder {given} to take pictures from")
    else:
        root = (work / "inputs" / letter).resolve()
        source = render(root, count) if letter == "a" else photograph(kind, root, count)
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"there is no JPEG file below {root}")
    return Pictures(kind, root, tuple(paths), source).spread(count)


def render(root: Path, count: int) -> str:
    """Have `render_fruits.py` draw at least ``count`` different views of its dozen kinds, if it has not yet."""
    views = -(-count // 12)
    held_out = views // 4
    command = [sys.executable, str(RENDER), str(root), "--broken", "0"]
    if (root / ".rendered.json").exists() and len(list(root.rglob("*.jpg"))) >= count:
        return "rendered"
    command += ["--views", str(max(1, views - held_out)), "--test-views", str(held_out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"the pictures could not be rendered: {done.stderr.strip()}")
    return "rendered"


def photograph(kind: Kind, root: Path, count: int) -> str:
    """Write photographs until there are ``count``; those that are there already are kept."""
    told = "made from scikit-learn's sample photographs"
    wanted = {"recipe": RECIPE, **asdict(kind)}
    marker = root / MARKER
    before = json.loads(marker.read_text()) if marker.is_file() else {}
    quality = before["quality"] if before.get("settings") == wanted else best_quality(kind)
    root.mkdir(parents=True, exist_ok=True)
    if before.get("settings") != wanted:
        for old in root.glob("*.jpg"):
            old.unlink()
        marker.write_text(json.dumps({"settings": wanted, "quality": quality}))
    missing = [number for number in range(count) if not (root / name(number)).is_file()]
    if missing:
        # Not forked: whoever calls may have the engine's threads.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), spawn) as pool:
            list(pool.map(partial(write_photograph, kind, root, quality), missing))
    return told


def name(number: int) -> str:
    """Of a made photograph's file."""
    return f"photograph-{number:05}.jpg"


def write_photograph(kind: Kind, root: Path, quality: int, number: int) -> None:
    """Make one and put it there whole."""
    partial_file = root / f".{name(number)}.partial"
    partial_file.write_bytes(encode(compose(kind, number), quality))
    partial_file.rename(root / name(number))


def compose(kind: Kind, number: int) -> Image.Image:
    """A part of a real photograph, enlarged to the kind's size, with grain; the same for the same number."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng([RECIPE, kind.width_px, number])
    source = Image.fromarray(load_sample_images().images[number % 2])
    width, height = source.size
    share = rng.uniform(0.5, 0.9)
    cut_width = int(width * share)
    cut_height = min(height, cut_width * kind.height_px // kind.width_px)
    left, top = int(rng.integers(0, width - cut_width + 1)), int(rng.integers(0, height - cut_height + 1))
    part = source.crop((left, top, left + cut_width, top + cut_height))
    if rng.integers(2):
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    large = np.asarray(part.resize((kind.width_px, kind.height_px), Image.Resampling.BICUBIC), np.int16)
    grained = large + grain(rng, kind)[..., None]
    return Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8))


def grain(rng: np.random.Generator, kind: Kind) -> NDArray[np.int16]:
    """Noise in brightness, int16 (height, width); a tile repeated, as 24 million draws would take a second."""
    tile = np.round(rng.normal(0, 5, (500, 500))).astype(np.int16)
    return np.tile(tile, (-(-kind.height_px // 500), -(-kind.width_px // 500)))[: kind.height_px, : kind.width_px]


def encode(picture: Image.Image, quality: int) -> bytes:
    """As cameras write them: baseline, colour at half the width and height."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def best_quality(kind: Kind) -> int:
    """The JPEG quality at which the first two photographs weigh, on average, nearest to what the kind's should."""
    samples = [compose(kind, number) for number in range(2)]
    low, high = 40, 97
    while low < high:
        middle = (low + high) // 2
        if sum(len(encode(sample, middle)) for sample in samples) / len(samples) < kind.size_bytes:
            low = middle + 1
        else:
            high = middle
    return low
