#!/usr/bin/env python3
"""Draw a small set of pictures laid out like Fruits-360, so that the demo and the tests need no download.

Needs numpy and Pillow alone, runs in one process, writes only below OUT. What the fruits look like is in `fruits/`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # three-row products: more threads only wait for one another

import numpy as np
from PIL import Image

from fruits.brush import Brush, Surfels, join
from fruits.camera import FILL, SUPERSAMPLE, View, photograph, pose
from fruits.kinds import KINDS

MARKER = ".rendered.json"
RECIPE = 1  # raise when a change makes other pictures from the same options, so that old sets are drawn anew
SPACING = 0.66  # distance of neighbouring surfels in sub-pixels: under 0.7 leaves no holes, even on the diagonal


class SetError(Exception):
    """Something the caller can mend; its text is one sentence for the terminal."""


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a set."""

    views: int = 40
    test_views: int = 14
    size: int = 100
    seed: int = 0
    broken: int = 5
    kinds: tuple[str, ...] = ()


def grow(name: str, settings: Settings) -> Surfels:
    """The specimen of a kind for a seed, centred, its farthest point at distance 1."""
    kind = KINDS[name]
    step = kind.reach / (settings.size * SUPERSAMPLE / 2 * FILL)
    rng = np.random.default_rng([settings.seed, sorted(KINDS).index(name)])
    cloud = join(kind.build(Brush(step * SPACING, rng)))
    points = cloud.points - (cloud.points.max(axis=1, keepdims=True) + cloud.points.min(axis=1, keepdims=True)) / 2
    points /= np.sqrt((points**2).sum(axis=0)).max()
    return Surfels(np.ascontiguousarray(points), cloud.normals, cloud.colour, cloud.shine)


def plan_views(kind: str, settings: Settings) -> list[View]:
    """Training views at even angles of one turn and test views in the gaps between, numbered together as they pass."""
    train = [(k / settings.views, "Training") for k in range(settings.views)]
    gaps = [j * settings.views // settings.test_views for j in range(settings.test_views)]
    test = []
    for gap in sorted(set(gaps)):
        here = gaps.count(gap)
        test += [((gap + (rank + 1) / (here + 1)) / settings.views, "Test") for rank in range(here)]
    views = []
    for number, (turn, split) in enumerate(sorted(train + test)):
        nod = 16 + 9 * math.sin(math.tau * 2 * turn) + (5 if split == "Test" else 0)
        views.append(View(f"{split}/{kind}/{number}_{settings.size}.jpg", 360 * turn, nod))
    return views


def pictures(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """Path below OUT and bytes of every file of the set, the broken ones among them."""
    spoilt = plan_broken(settings)
    for name in settings.kinds:
        cloud = grow(name, settings)
        payload = b""
        for number, view in enumerate(plan_views(name, settings)):
            rng = np.random.default_rng([settings.seed, sorted(KINDS).index(name), number])
            buffer = io.BytesIO()
            rotation = pose(view, KINDS[name].lean_degrees)
            photograph(cloud, rotation, settings.size, rng).save(buffer, "JPEG", quality=90)
            payload = buffer.getvalue()
            yield view.path, payload
        for path, form in spoilt.items():
            if path.split("/")[1] == name:
                yield path, spoil(form, payload)


BROKEN_FORMS = ("truncated-jpeg", "empty-file", "plain-text", "corrupt-png", "html-error-page")


def plan_broken(settings: Settings) -> dict[str, str]:
    """Path below OUT of each broken file, and its form; they are spread over the kinds."""
    kinds, planned = settings.kinds, {}
    for i in range(settings.broken):
        form, again = BROKEN_FORMS[i % len(BROKEN_FORMS)], i // len(BROKEN_FORMS)
        kind = kinds[(i * max(1, len(kinds) // len(BROKEN_FORMS)) + again) % len(kinds)]
        planned[f"Training/{kind}/broken-{form}{f'-{again + 1}' if again else ''}_{settings.size}.jpg"] = form
    return planned


def spoil(form: str, jpeg: bytes) -> bytes:
    """Bytes that no decoder should take for a picture, made from a good JPEG where the form wants one."""
    if form == "truncated-jpeg":
        return jpeg[: len(jpeg) * 2 // 5]
    if form == "empty-file":
        return b""
    if form == "plain-text":
        return b"This is a note and not a picture, whatever its name says.\n"
    if form == "html-error-page":
        return b"<!DOCTYPE html>\n<html><title>503 Service Unavailable</title><body>Try again later.</body></html>\n"
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(buffer, "PNG")
    png = bytearray(buffer.getvalue())
    start = png.index(b"IDAT") + 4
    png[start : start + 400] = bytes(400)  # neither the compressed stream nor its checksum holds any more
    return bytes(png)


def check(settings: Settings) -> None:
    """Raise SetError where the options make no sense."""
    unknown = [name for name in settings.kinds if name not in KINDS]
    if unknown:
        raise SetError(f"there is no kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    if not settings.kinds or len(set(settings.kinds)) < len(settings.kinds):
        raise SetError("--kinds needs at least one kind, and each once")
    limits = {"views": (1, 720), "test_views": (0, 720), "size": (16, 256), "seed": (0, 2**31), "broken": (0, 1000)}
    for option, (low, high) in limits.items():
        value = getattr(settings, option)
        if not low <= value <= high:
            raise SetError(f"--{option.replace('_', '-')} must lie between {low} and {high}, not {value}")


def read_marker(out: Path) -> dict[str, Any]:
    """The marker of a finished set, empty where there is none that can be read."""
    try:
        marker = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) and isinstance(marker.get("files"), dict) else {}


def identity(settings: Settings) -> dict[str, object]:
    """What must be equal for an old set to stand for a new one, as JSON gives it back."""
    return {"recipe": RECIPE, **asdict(settings), "kinds": list(settings.kinds)}


def render_set(out: Path, settings: Settings) -> str:
    """Bring the set under `out` into being and return a one-line summary; does nothing where it is there already.

    Raises SetError where the options make no sense, where the folder can't be written, and where it holds pictures
    that this script didn't put there, for these would be mixed with the drawn ones.
    """
    check(settings)
    started = time.perf_counter()
    marker = read_marker(out)
    owned: dict[str, int] = marker.get("files", {})
    found = [path for split in ("Training", "Test") for path in (out / split).rglob("[!.]*") if path.is_file()]
    present = {path.relative_to(out).as_posix(): path.stat().st_size for path in found}
    if marker.get("settings") == identity(settings) and present == owned:
        return f"{out}: {len(owned)} files are there already, drawn with the same options; nothing to do"
    wanted = {v.path for kind in settings.kinds for v in plan_views(kind, settings)} | set(plan_broken(settings))
    foreign = sorted(set(present) - wanted - set(owned))
    if foreign:
        raise SetError(f"{out} holds files that aren't part of this set, such as {foreign[0]!r}; name an empty folder")
    (out / MARKER).unlink(missing_ok=True)
    for path in set(present) - wanted:
        (out / path).unlink()
        if not any((out / path).parent.iterdir()):
            (out / path).parent.rmdir()
    written: dict[str, int] = {}
    for path, payload in pictures(settings):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(payload)
        written[path] = len(payload)
    (out / MARKER).write_text(json.dumps({"settings": identity(settings), "files": written}, indent=1) + "\n")
    good, kinds, took = len(written) - settings.broken, len(settings.kinds), time.perf_counter() - started
    return (
        f"{out}: drew {good} pictures (kinds: {kinds}) and {settings.broken} broken files, "
        f"{sum(written.values()):,} bytes in {took:.1f} s"
    )


def parse(argv: list[str] | None) -> tuple[Path, Settings]:
    """The command line."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="render_fruits.py",
        description="Draw a set of fruit pictures on a turntable, laid out like Fruits-360: "
        "OUT/Training/<kind>/<n>_100.jpg and OUT/Test/<kind>/<n>_100.jpg. Training and Test show the same specimens "
        "from different sides. A few files are broken on purpose (their names begin with 'broken-'), to show what a "
        f"job does with them. Equal options give equal bytes; a finished set gets OUT/{MARKER} and isn't drawn again.",
        epilog="kinds: " + ", ".join(KINDS) + ". Example: render_fruits.py /tmp/fruits --views 20 --kinds 'Lemon,Lime'",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to fill; made if it isn't there")
    parser.add_argument("--views", type=int, default=default.views, help="training pictures of each (%(default)s)")
    parser.add_argument(
        "--test-views", type=int, default=default.test_views, help="test pictures of each (%(default)s)"
    )
    parser.add_argument("--size", type=int, default=default.size, help="width and height in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="which specimens grow (%(default)s)")
    parser.add_argument("--broken", type=int, default=default.broken, help="undecodable files to add (%(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated kinds to draw (all)", metavar="A,B")
    given = parser.parse_args(argv)
    kinds = tuple(sorted(name.strip() for name in given.kinds.split(",") if name.strip()))
    return given.out, Settings(given.views, given.test_views, given.size, given.seed, given.broken, kinds)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for what the caller can mend."""
    out, settings = parse(argv)
    try:
        print(render_set(out, settings))
    except SetError as error:
        print(f"render_fruits: {error}.", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"render_fruits: can't write {error.filename or out}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
