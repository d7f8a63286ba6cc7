"""The dozen kinds of fruit, and how each is built.

Each is about one unit in radius, its axis along z with the stem up. Lengths are in that unit, colours are sRGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fruits.brush import Brush, Surfels, bell, lattice_distance, mix, only, ramp, rgb, turn_pole, turned, wrapped


def apple_red(brush: Brush) -> list[Surfels]:
    """Red over yellow, streaked from the stem down, with pale dots."""
    polar, azimuth, unit = brush.globe()
    ribs = 1 + 0.025 * np.cos(5 * azimuth + 0.6) * ramp(polar, 1.2, 3.0)
    ring = np.sin(polar) * (1 + 0.09 * np.cos(polar)) * ribs
    height = 0.90 * np.cos(polar) - 0.46 * bell(polar, 0.40) + 0.26 * bell(math.pi - polar, 0.30)
    xyz = turned(ring, azimuth, height)
    streaks = brush.noise(np.stack([unit[0] * 2.6, unit[1] * 2.6, unit[2] * 0.3]), 0.36)
    patches = brush.noise(xyz, 2.2)
    red = mix(rgb("b81e26"), rgb("860d1b"), 0.4 + 0.25 * streaks + 0.3 * patches)
    bare = 0.9 * bell(polar, 0.50) + 0.2 * bell(math.pi - polar, 0.5)  # where the sun didn't reach
    colour = mix(rgb("d9a63e"), red, 1.12 + 0.24 * patches + 0.10 * streaks - bare)
    colour = mix(colour, rgb("e5b878"), 0.55 * ramp(brush.noise(xyz, 0.11), 1.8, 2.4))
    colour = mix(colour, rgb("5e4a22"), 0.8 * bell(polar, 0.20) + 0.9 * bell(math.pi - polar, 0.13))
    stalk = brush.stem([(0, 0, 0.42), (0.02, 0.0, 0.80), (0.16, 0.05, 1.06)], 0.045, ("6b5a2c", "4a3218"))
    return [brush.skin(xyz, colour, (0.42, 42, 0.12)), stalk]


def banana(brush: Brush) -> list[Surfels]:
    """A bent, ribbed tube with a stalk, lying with its back down."""
    s = np.linspace(0, 1, brush.count(2.9), dtype=np.float32)
    bend = (s - 0.5) * 2.3
    path = np.stack([1.15 * np.sin(bend), 0 * bend, -1.15 * np.cos(bend)]).astype(np.float32)
    body = 0.19 * ramp(s, -0.04, 0.30) * ramp(s, 1.0, 0.70)
    thick = 0.062 + body + 0.016 * ramp(s, 0.97, 0.995) - 0.018 * ramp(s, 0.05, 0)
    ribs = np.cos(5 * np.linspace(0, math.tau, brush.count(math.tau * 0.26), endpoint=False, dtype=np.float32))
    xyz, cap = brush.sweep(path, thick, 1 + 0.03 * ribs)
    s = np.pad(s, cap, mode="edge")
    along = s[:, None]
    colour = mix(rgb("e8bf2c"), rgb("f2d65a"), 0.4 + 0.3 * brush.noise(xyz, 0.8))
    colour = mix(colour, rgb("b98f22"), 0.4 * ramp(ribs[None, :] + 0 * along, 0.80, 1.0))
    colour = mix(colour, rgb("9fae3c"), 0.7 * (ramp(along, 0.20, 0.02) + ramp(along, 0.76, 0.96)))
    flecks = np.stack([xyz[0] * 0.6, xyz[1], xyz[2]])
    colour = mix(colour, rgb("5a3613"), 0.9 * ramp(brush.noise(flecks, 0.20), 1.75, 2.1) * ramp(along, 0.08, 0.3))
    colour = mix(colour, rgb("3a2a14"), ramp(along, 0.975, 0.995) + ramp(along, 0.028, 0.012))
    return [brush.skin(xyz, colour, (0.16, 20, 0.22))]


def blueberry(brush: Brush) -> list[Surfels]:
    """Blue under wax, with a five-pointed crown."""
    polar, azimuth, _ = brush.globe()
    lobes = 0.5 + 0.5 * np.cos(5 * azimuth + 0.4 * np.sin(2 * azimuth))
    rim = bell(polar - 0.40, 0.085) * (0.45 + 0.55 * lobes)
    ring = np.sin(polar) * (1 + 0.10 * rim)
    height = 0.80 * np.cos(polar) + 0.16 * rim - 0.20 * ramp(polar, 0.40, 0.20)
    xyz = turned(ring, azimuth, height)
    bloom = 0.48 + 0.22 * brush.noise(xyz, 1.2) + 0.10 * brush.noise(xyz, 0.3) + 0.07 * brush.noise(xyz, 0.07)
    colour = mix(rgb("1f2642"), rgb("576b96"), bloom)
    rubbed = brush.noise(np.stack([xyz[0] * 0.7, xyz[1] * 1.3, xyz[2]]), 0.55)  # where the wax came off
    colour = mix(colour, rgb("171833"), 0.55 * ramp(rubbed, 0.7, 2.2))
    colour = mix(colour, rgb("2c2233"), 0.8 * rim * lobes)
    colour = mix(colour, rgb("20140f"), 0.85 * ramp(polar, 0.36, 0.26))
    colour = mix(colour, rgb("806a4a"), 0.9 * bell(polar, 0.07) + bell(math.pi - polar, 0.09))
    return [brush.skin(xyz, colour, (0.10, 9, 0.2))]


def cherry(brush: Brush) -> list[Surfels]:
    """Very dark, very glossy, heart-shaped, on a long stalk."""
    polar, azimuth, _ = brush.globe()
    heart = 1 + 0.05 * np.cos(2 * azimuth) * np.sin(polar)
    crease = bell(wrapped(azimuth - 1.1), 0.12) * np.sin(polar)
    ring = np.sin(polar) * (1 + 0.07 * np.cos(polar)) * heart * (1 - 0.035 * crease)
    height = 0.90 * np.cos(polar) - 0.34 * bell(polar, 0.36) + 0.05 * bell(math.pi - polar, 0.2)
    xyz = turned(ring, azimuth, height)
    colour = mix(rgb("8e0f20"), rgb("3c0512"), 0.5 + 0.32 * brush.noise(xyz, 1.6) + 0.10 * brush.noise(xyz, 0.2))
    colour = mix(colour, rgb("2a0409"), 0.7 * bell(polar, 0.22) + 0.5 * crease)
    colour = mix(colour, rgb("b58a6a"), 0.9 * bell(math.pi - polar, 0.07))
    colour = mix(colour, rgb("c0564e"), 0.4 * ramp(brush.noise(xyz, 0.09), 2.0, 2.6))
    stalk = brush.stem([(0, 0, 0.50), (0.05, 0.0, 1.15), (0.50, 0.12, 1.75)], 0.050, ("7d8c3a", "6d5a2a"))
    return [brush.skin(xyz, colour, (0.85, 90, 0.08)), stalk]


def grape_white(brush: Brush) -> list[Surfels]:
    """A bunch of some thirty berries that let light through."""
    centres: list[NDArray[np.float64]] = []
    # Rows of berries on a cone, wide above and a single one at the tip, each a little off its place.
    rows = [(5, 0.40), (8, 0.62), (7, 0.56), (6, 0.46), (4, 0.32), (3, 0.18), (1, 0.0)]
    for level, (around, ring) in enumerate(rows):
        for i in range(around):
            angle = math.tau * (i + 0.5 * (level % 2)) / around + brush.rng.normal() * 0.10
            height = 0.78 - 0.30 * level + brush.rng.normal() * 0.035
            out = ring + brush.rng.normal() * 0.03
            centres.append(np.array([out * math.cos(angle), out * math.sin(angle), height]))
    parts = [brush.stem([(0, 0, 0.2), (0.0, 0.02, 1.0), (0.20, 0.05, 1.34)], 0.05, ("8fa03c", "7a6a30"))]
    radii = brush.rng.uniform(0.235, 0.29, len(centres))
    polar, _, unit = brush.globe(0.28)
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        away = centre / (np.linalg.norm(centre) + 1e-9) + brush.rng.normal(size=3) * 0.25
        pole = turn_pole(unit, away)
        xyz = (pole * radius).astype(np.float32) + centre.astype(np.float32).reshape(3, 1, 1)
        tint = mix(rgb("c0c653"), rgb("dccb66"), np.full((1, 1), brush.rng.uniform(0, 1), np.float32))
        colour = mix(tint, rgb("8da33c"), 0.3 + 0.3 * brush.noise(xyz, 0.5, 6))
        colour = mix(colour, rgb("5b4420"), 0.95 * bell(polar, 0.13))
        berry = brush.skin(xyz, colour, (0.5, 60, 0.45))
        seen = np.ones(berry.points.shape[1], bool)
        for j, (other, other_radius) in enumerate(zip(centres, radii, strict=True)):
            if j != i:
                offset = berry.points - other.astype(np.float32)[:, None]
                seen &= (offset**2).sum(axis=0) > (0.97 * other_radius) ** 2
        parts.append(only(berry, seen))
    return parts


def lemon(brush: Brush) -> list[Surfels]:
    """Yellow, with a point at each end."""
    return _citrus_long(brush, length=1.16, nipple=0.24, tints=("f0c318", "f7db48", "c9b23a"), scar="7d7a35")


def lime(brush: Brush) -> list[Surfels]:
    """A lemon's shape, rounder and green."""
    return _citrus_long(brush, length=1.0, nipple=0.11, tints=("4d8022", "8dab3c", "b4ae4a"), scar="a58d55")


def _citrus_long(brush: Brush, length: float, nipple: float, tints: tuple[str, str, str], scar: str) -> list[Surfels]:
    polar, azimuth, unit = brush.globe(1.1)
    pores = brush.noise(unit, 0.075, 30)
    ring = np.sin(polar) ** 0.92 * (0.86 + 0.012 * np.cos(6 * azimuth)) * (1 + 0.0028 * pores)
    height = length * np.cos(polar) + nipple * (0.75 * bell(polar, 0.26) - bell(math.pi - polar, 0.26))
    xyz = turned(ring, azimuth, height)
    ripe = 0.5 + 0.30 * brush.noise(xyz, 1.6) + 0.14 * brush.noise(xyz, 0.4)
    colour = mix(rgb(tints[0]), rgb(tints[1]), ripe)
    colour = mix(colour, rgb(tints[2]), 0.55 * ramp(brush.noise(xyz, 0.8), 0.7, 1.9) + 0.5 * bell(math.pi - polar, 0.3))
    colour = mix(colour, rgb(tints[2]) * np.float32(0.6), 0.25 * ramp(pores, 1.0, 2.2))
    colour = mix(colour, rgb("6e5a26"), 0.8 * ramp(brush.noise(xyz, 0.22), 2.15, 2.6))
    colour = mix(colour, rgb(scar), bell(polar, 0.11))
    return [brush.skin(xyz, colour, (0.34, 26, 0.18))]


def orange(brush: Brush) -> list[Surfels]:
    """A pored globe with a green star where it hung."""
    polar, azimuth, unit = brush.globe()
    pores = brush.noise(unit, 0.065, 30)
    ring = np.sin(polar) * (1 + 0.0024 * pores)
    height = 0.95 * np.cos(polar) - 0.07 * bell(polar, 0.22) + 0.05 * bell(math.pi - polar, 0.2)
    xyz = turned(ring, azimuth, height)
    colour = mix(rgb("e0700c"), rgb("f08f1c"), 0.5 + 0.28 * brush.noise(xyz, 1.5) + 0.12 * brush.noise(xyz, 0.3))
    colour = mix(colour, rgb("b4520a"), 0.4 * ramp(pores, 0.9, 2.2))
    colour = mix(colour, rgb("c2a03c"), 0.5 * bell(polar, 0.35))
    colour = mix(colour, rgb("8a5a1e"), 0.85 * ramp(brush.noise(xyz, 0.3), 2.1, 2.5))
    star = bell(polar, 0.15) * (0.75 + 0.25 * np.cos(5 * azimuth))
    colour = mix(colour, rgb("6d7a34"), 1.6 * ramp(star, 0.25, 0.6))
    colour = mix(colour, rgb("c9b183"), bell(polar, 0.05))
    colour = mix(colour, rgb("5c3c14"), 0.9 * bell(math.pi - polar, 0.06))
    return [brush.skin(xyz, colour, (0.30, 24, 0.15))]


def peach(brush: Brush) -> list[Surfels]:
    """Matt, with a crease down one side and a blush on the other."""
    polar, azimuth, unit = brush.globe()
    crease = bell(wrapped(azimuth), 0.17) * ramp(np.sin(polar), 0, 0.5)
    ring = np.sin(polar) * (1 - 0.085 * crease) * (1 + 0.03 * np.cos(azimuth))
    height = 0.94 * np.cos(polar) - 0.30 * bell(polar, 0.34) - 0.06 * bell(math.pi - polar, 0.16)
    xyz = turned(ring, azimuth, height)
    sunny = unit[0] * 0.25 - unit[1] * 0.75 + 0.28 * brush.noise(xyz, 1.3) + 0.06 * brush.noise(xyz, 0.25)
    colour = mix(rgb("eba544"), rgb("f2c06a"), 0.5 + 0.3 * brush.noise(xyz, 0.7))
    colour = mix(colour, rgb("c2372c"), 0.90 * ramp(sunny, -0.95, 0.75))
    colour = mix(colour, rgb("8a1f28"), 0.8 * ramp(sunny, 0.35, 1.3))
    colour = mix(colour, rgb("a84f2a"), 0.35 * crease)
    down = 0.03 * brush.noise(xyz, 0.05)  # the fuzz catches light in a fine grain
    colour = mix(colour, rgb("f6dcb4"), 0.07 + down)
    colour = mix(colour, rgb("5b3a1c"), 0.9 * bell(polar, 0.13))
    return [brush.skin(xyz, colour, (0.07, 4, 0.35))]


def pear(brush: Brush) -> list[Surfels]:
    """Speckled, russet at both ends."""
    polar, azimuth, unit = brush.globe(1.15)
    belly = 0.70 - 0.24 * np.cos(polar) - 0.07 * np.cos(2 * polar)
    ring = np.sin(polar) * belly * (1 + 0.02 * np.cos(2 * azimuth + 1))
    height = 1.12 * np.cos(polar) - 0.07 * bell(polar, 0.25) + 0.14 * bell(math.pi - polar, 0.22)
    neck = ramp(height, 0.0, 1.2)
    xyz = turned(ring, azimuth, height)
    xyz[0] += 0.10 * neck  # necks lean a little
    colour = mix(rgb("a8b13a"), rgb("d2c455"), 0.5 + 0.32 * brush.noise(xyz, 1.3) + 0.12 * brush.noise(xyz, 0.3))
    blush = unit[0] * 0.8 + 0.4 * brush.noise(xyz, 0.9)
    colour = mix(colour, rgb("c26a34"), 0.55 * ramp(blush, 0.45, 1.4))
    colour = mix(colour, rgb("6e5a22"), 0.75 * ramp(brush.noise(xyz, 0.085), 1.45, 2.0))
    russet = bell(polar, 0.42) + 0.9 * bell(math.pi - polar, 0.30)
    colour = mix(colour, rgb("8f6a30"), 0.8 * russet * (1 + 0.4 * brush.noise(xyz, 0.12)))
    colour = mix(colour, rgb("2f2414"), 0.95 * bell(math.pi - polar, 0.10))
    stalk = brush.stem([(0.10, 0, 0.95), (0.12, 0.02, 1.25), (0.28, 0.08, 1.45)], 0.042, ("6b4d22", "3b2813"))
    return [brush.skin(xyz, colour, (0.22, 22, 0.18)), stalk]


def pineapple(brush: Brush) -> list[Surfels]:
    """Diamond eyes in two spirals under a crown of leaves."""
    polar, azimuth, _ = brush.globe(0.85)
    level = 11 * polar / math.pi
    first, second = 8 * azimuth / math.tau + level / 2, 8 * azimuth / math.tau - level / 2
    a, b = first % 1 - 0.5, second % 1 - 0.5
    eye = np.clip(1 - 2 * np.maximum(np.abs(a), np.abs(b)), 0, 1)  # 0 on the seams, 1 in the middle of an eye
    flat = ramp(np.sin(polar), 0.0, 0.35)
    thorn = bell(a + 0.05, 0.14) * bell(b - 0.05, 0.14)
    relief = 1 + flat * (0.10 * np.sqrt(eye) + 0.07 * thorn)
    ring = 0.60 * np.sin(polar) ** 0.72 * relief
    height = 0.78 * np.cos(polar) * (1 + 0.04 * flat * np.sqrt(eye))
    xyz = turned(np.asarray(ring, np.float32), azimuth, np.asarray(height, np.float32))
    colour = mix(rgb("c97f1c"), rgb("e3a93a"), 0.5 + 0.4 * brush.noise(xyz, 0.6))
    colour = mix(colour, rgb("8f8a34"), 0.5 * ramp(np.cos(polar) + 0.25 * brush.noise(xyz, 0.5), 0.1, 1.1))
    colour = mix(colour, rgb("4b3012"), 0.9 * ramp(eye, 0.22, 0.02))
    colour = mix(colour, rgb("5d3c18"), 0.9 * ramp(thorn, 0.25, 0.8))
    colour = mix(colour, rgb("e8d6a2"), 0.9 * bell(a - 0.10, 0.08) * bell(b + 0.10, 0.08))
    parts = [brush.skin(xyz, colour, (0.10, 14, 0.15))]
    for i in range(34):
        spread = ((i + 0.5) / 34) ** 0.8  # 0 in the heart of the crown, 1 outside
        angle = i * 2.39996 + brush.rng.normal() * 0.12
        x, y = math.cos(angle), math.sin(angle)
        reach, rise = 0.08 + 0.62 * spread, 1.05 - 0.62 * spread + brush.rng.normal() * 0.04
        root = (0.17 * spread * x, 0.17 * spread * y, 0.74)
        knee = ((0.12 + 0.30 * spread) * x, (0.12 + 0.30 * spread) * y, 0.80 + rise * 0.75)
        tip = (reach * x, reach * y, 0.74 + rise * (1 - 0.30 * spread))
        parts.append(brush.leaf([root, knee, tip], 0.085, ("39602a", "7d9a4a"), 0.45))
    return parts


def strawberry(brush: Brush) -> list[Surfels]:
    """A glossy cone with seeds sunk into it and a ruff of leaves."""
    polar, azimuth, unit = brush.globe()
    lumps = 1 + 0.06 * np.cos(2 * azimuth + 0.5) + 0.03 * np.cos(3 * azimuth)
    taper = 0.80 + 0.22 * np.cos(polar) - 0.10 * np.cos(2 * polar)
    seeds = lattice_distance(unit, 150)
    ring = np.sin(polar) * taper * lumps
    height = 0.98 * np.cos(polar) - 0.16 * bell(polar, 0.5)
    xyz = turned(ring, azimuth, height)
    xyz *= 1 - 0.030 * bell(seeds, 0.085) + 0.016 * bell(seeds, 0.030)
    colour = mix(rgb("cf1a22"), rgb("9d0c18"), 0.4 + 0.35 * brush.noise(xyz, 1.0))
    colour = mix(colour, rgb("e9a77c"), 0.75 * ramp(polar + 0.10 * brush.noise(xyz, 0.5), 0.80, 0.40))
    colour = mix(colour, rgb("7e0a12"), 0.5 * bell(seeds - 0.055, 0.022))
    colour = mix(colour, rgb("e2b54a"), ramp(seeds, 0.042, 0.028))
    parts = [brush.skin(xyz, colour, (0.55, 46, 0.16))]
    parts.append(brush.stem([(0, 0, 0.75), (0.02, 0, 1.0), (0.10, 0.04, 1.16)], 0.045, ("7da03c", "5f7a2c")))
    for i in range(11):
        angle = math.tau * i / 11 + brush.rng.normal() * 0.12
        x, y = math.cos(angle), math.sin(angle)
        reach = brush.rng.uniform(0.60, 0.78)
        lift = brush.rng.uniform(-0.06, 0.16)
        knee = (0.42 * x, 0.42 * y, 1.02 + lift)
        tip = (reach * x, reach * y, 0.78 + 1.3 * lift)
        parts.append(brush.leaf([(0.02 * x, 0.02 * y, 0.80), knee, tip], 0.155, ("4f7f2a", "79a544"), 0.25))
    return parts


@dataclass(frozen=True)
class Kind:
    """How to build a fruit, how far it reaches in its own units, and how far its axis leans on the turntable."""

    build: Callable[[Brush], list[Surfels]]
    reach: float
    lean_degrees: float


KINDS = {
    "Apple Red": Kind(apple_red, 1.0, 32),
    "Banana": Kind(banana, 1.15, 14),
    "Blueberry": Kind(blueberry, 1.0, 42),
    "Cherry Dark": Kind(cherry, 1.35, 26),
    "Grape White": Kind(grape_white, 1.3, 12),
    "Lemon": Kind(lemon, 1.35, 58),
    "Lime": Kind(lime, 1.1, 58),
    "Orange": Kind(orange, 1.0, 45),
    "Peach": Kind(peach, 1.0, 38),
    "Pear": Kind(pear, 1.3, 24),
    "Pineapple Mini": Kind(pineapple, 1.25, 20),
    "Strawberry": Kind(strawberry, 1.1, 34),
}
