#!/usr/bin/env python3
"""Draw a small photo site of aeroplanes, serve it on loopback, and run a command that crawls it.

    scripts/photo_site.py FOLDER -- COMMAND...

The command finds the site's lists in MIRABELLE_CRAWL__START. Two makers, five liveries, two or three photographs of
each aeroplane, some files broken on purpose; no photograph is anyone's. Needs numpy and Pillow alone, and writes only
below FOLDER; what is drawn there already is served as it is.
"""

from __future__ import annotations

import argparse
import functools
import html
import http.server
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

MAKERS = {"Airbus": ("A320", "A330", "A350"), "Boeing": ("737", "767", "777")}
LIVERIES = {
    "Mirabelle Air": ("#f2c230", "#7a3b8f"),
    "Nordwind": ("#ffffff", "#1d5fa8"),
    "Azur Lines": ("#eef6fb", "#12a3a8"),
    "Terra Nova": ("#f4efe6", "#b5432a"),
    "Verdant": ("#ffffff", "#2f8f4e"),
}
PEOPLE = ("Ada", "Björn", "Chi-Ling", "Dídac")
AIRCRAFT = 70
PER_PAGE = 24
SIZE = (320, 214)
SCALE = 2
BROKEN = {17: "cut", 58: "page", 101: "empty"}


@dataclass(frozen=True)
class Photo:
    """A photograph, and what the site says of it."""

    number: int
    maker: str
    kind: str
    airline: str
    registration: str
    photographer: str


def photos() -> list[Photo]:
    """All of the site's, the newest first."""
    chance = np.random.default_rng(7)
    found: list[Photo] = []
    for aircraft in range(AIRCRAFT):
        maker = list(MAKERS)[int(chance.integers(2))]
        kind = MAKERS[maker][int(chance.integers(3))]
        airline = list(LIVERIES)[int(chance.integers(5))]
        for _ in range(int(chance.integers(2, 4))):
            person = PEOPLE[int(chance.integers(4))]
            found.append(Photo(len(found), maker, kind, airline, f"F-M{aircraft:03d}", person))
    order = chance.permutation(len(found))
    return [found[i] for i in order]


def drawn(photo: Photo) -> Image.Image:
    """An aeroplane against a sky: makers differ in nose, fin and wingtips, types in length and engines."""
    chance = np.random.default_rng(1000 + photo.number)
    width, height = SIZE[0] * SCALE, SIZE[1] * SCALE
    top, bottom = chance.integers(90, 150), chance.integers(170, 230)
    shade = np.linspace(top, bottom, height)[:, None, None] * np.ones((1, width, 1))
    sky = np.concatenate([shade * 0.72, shade * 0.9, np.minimum(255, shade * 1.12)], axis=2)
    sky += chance.normal(0, 5, sky.shape)
    image = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    plane = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(plane)
    body, paint = LIVERIES[photo.airline]
    length = width * (0.62 + 0.08 * MAKERS[photo.maker].index(photo.kind))
    thick, middle, left = width * 0.068, height * 0.5, (width - length) / 2
    right = left + length
    is_airbus = photo.maker == "Airbus"
    # The fin: a plain trapezium, or one that begins with a dorsal ramp.
    fin = [(left + thick, middle - thick * 0.5), (left - thick * 0.3, middle - thick * 2.4)]
    fin += [(left + thick * 0.9, middle - thick * 2.4), (left + thick * 2.2, middle - thick * 0.5)]
    draw.polygon(fin if is_airbus else [*fin, (left + thick * 4.4, middle - thick * 0.45)], fill=paint)
    draw.rounded_rectangle((left, middle - thick / 2, right, middle + thick / 2), thick / 2, fill=body)
    nose = thick * (1.0 if is_airbus else 1.9)
    draw.polygon(
        [
            (right - nose, middle - thick / 2),
            (right + nose * 0.4, middle + thick * 0.15),
            (right - nose, middle + thick / 2),
        ],
        fill=body,
    )
    draw.line((left + thick, middle + thick * 0.12, right - thick, middle + thick * 0.12), fill=paint, width=3 * SCALE)
    # The cockpit: a dark mask, or two small panes.
    if is_airbus:
        draw.ellipse(
            (right - thick * 0.9, middle - thick * 0.42, right - thick * 0.1, middle - thick * 0.02), fill="#15181c"
        )
    else:
        draw.line(
            (right - thick * 0.8, middle - thick * 0.2, right - thick * 0.2, middle - thick * 0.1),
            fill="#15181c",
            width=5,
        )
    for place in np.arange(left + thick * 2, right - thick * 2, thick * 0.42):
        draw.rectangle((place, middle - thick * 0.22, place + thick * 0.16, middle - thick * 0.06), fill="#3b4550")
    root = left + length * 0.52
    tip = root - length * 0.2
    wing = [(root, middle + thick * 0.2), (tip, middle + thick * 1.9), (tip - thick * 0.5, middle + thick * 1.9)]
    draw.polygon([*wing, (root - thick * 1.9, middle + thick * 0.2)], fill="#b9c0c7")
    if is_airbus:
        draw.polygon(
            [
                (tip, middle + thick * 1.9),
                (tip - thick * 0.7, middle + thick * 0.9),
                (tip - thick * 0.5, middle + thick * 1.9),
            ],
            fill=paint,
        )
    for place in (0.9, 2.1) if photo.kind in ("A350", "777") else (1.2,):
        spot = root - thick * place
        draw.ellipse((spot, middle + thick * 0.5, spot + thick * 1.1, middle + thick * 1.05), fill="#8d959d")
    plane = plane.rotate(float(chance.uniform(-14, 14)), Image.Resampling.BICUBIC)
    zoom = float(chance.uniform(0.75, 1.05))
    plane = plane.resize((int(width * zoom), int(height * zoom)), Image.Resampling.BILINEAR)
    if chance.integers(2):
        plane = plane.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    across, down = chance.integers(-20, 60, 2)
    image.paste(plane, (int(across), int(down)), plane)
    return image.filter(ImageFilter.GaussianBlur(SCALE * 0.4)).resize(SIZE, Image.Resampling.LANCZOS)


def draw_site(folder: Path) -> int:
    """Write the site's pages and pictures; how many list pages there are."""
    shown = photos()
    pages = -(-len(shown) // PER_PAGE)
    if (folder / f"page-{pages}.html").is_file():
        return pages
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for photo in shown:
        path = folder / "images" / f"{5000 + photo.number}.jpg"
        drawn(photo).save(path, quality=88)
        broken = BROKEN.get(photo.number)
        if broken:
            content = {"cut": path.read_bytes()[:3000], "page": b"<!doctype html><p>Sign in", "empty": b""}[broken]
            path.write_bytes(content)
    for page in range(pages):
        blocks = "".join(map(block, shown[page * PER_PAGE : (page + 1) * PER_PAGE]))
        text = f"<!doctype html><meta charset=utf-8><title>Aeroplanes</title><h1>Aeroplanes</h1>{blocks}"
        (folder / f"page-{page + 1}.html").write_text(text, encoding="utf-8")
    (folder / "robots.txt").write_text("User-agent: *\nCrawl-delay: 0.02\n", encoding="utf-8")
    return pages


def block(photo: Photo) -> str:
    """A photograph in a list, its links saying what it shows; of some the maker is not told."""
    maker = "" if photo.number % 40 == 39 else link(f"/photos/manufacturer/{photo.maker}", photo.maker)
    return (
        f'<div id="{5000 + photo.number}"><div class="photo__intrinsic_item">'
        f'<img src="/images/{5000 + photo.number}.jpg" alt=""></div>{maker}'
        f"{link(f'/photos/aircraft/{photo.maker}/{photo.kind}', photo.kind)}"
        f"{link(f'/airline/{photo.airline}', photo.airline)}"
        f"{link(f'/photos/reg/{photo.registration}', photo.registration)}"
        f"{link(f'/photographer/{photo.photographer}', photo.photographer)}</div>\n"
    )


def link(address: str, text: str) -> str:
    return f'<a href="{html.escape(address)}">{html.escape(text)}</a> '


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, *_: object) -> None:
        """Not this either."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs="+", help="what to run while the site is up")
    given = parser.parse_args()
    pages = draw_site(given.folder)
    handler = functools.partial(Quiet, directory=str(given.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        print(f"a photo site of {len(photos())} photographs on {pages} pages at {url}", flush=True)
        start = f"['{url}/page-{{page:1..{pages}}}.html']"
        done = subprocess.run(given.command, env={**os.environ, "MIRABELLE_CRAWL__START": start}, check=False)
        server.shutdown()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
