#!/usr/bin/env python3
"""Draw a small set of pictures laid out like Fruits-360, so that the demo and the tests need no download.

Every kind is a cloud of surface elements ("surfels": point, normal, colour, shine), built once from surfaces of
revolution, tubes and leaves, with the skin painted on in the fruit's own coordinates. A view turns the cloud, keeps the
nearest surfel of each sub-pixel, lights it and scales it down: the shape is worked out once a kind, not once a picture.

Needs numpy and Pillow alone, runs in one process, writes only below OUT. It is longer than house style likes because
it stays one file that can be copied and run anywhere; a third of it is the fruits' looks.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # three-row products: more threads only wait for one another

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]  # float32 wherever it is as large as a cloud
Point = tuple[float, float, float]
Shine = tuple[float, float, float]

MARKER = ".rendered.json"
RECIPE = 1  # raise when a change makes other pictures from the same options, so that old sets are drawn anew
SUPERSAMPLE = 2  # sub-pixels a side; the four of a pixel are averaged
SPACING = 0.66  # distance of neighbouring surfels in sub-pixels: under 0.7 leaves no holes, even on the diagonal
FILL = 0.97  # share of the frame's half width that the fruit's farthest point reaches
LIGHT = np.array([-0.46, 0.62, 0.64], np.float32)  # towards the lamp in camera axes: left, above, in front; length 1
HALFWAY = (LIGHT + np.array([0, 0, 1], np.float32)) / np.linalg.norm(LIGHT + np.array([0, 0, 1], np.float32))


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


@dataclass(frozen=True)
class Surfels:
    """n surface elements: points and unit normals (3, n), linear-light colour (3, n) in 0..1, and shine (3, n).

    The rows of `shine` are the highlight's strength, its Blinn-Phong exponent and how far light creeps past the edge of
    the shade (0 = hard like an apple, 0.5 = soft like a grape that light shines through).
    """

    points: Floats
    normals: Floats
    colour: Floats
    shine: Floats


@dataclass(frozen=True)
class View:
    """One picture to take: where it goes and how the fruit stands."""

    path: str
    turn_degrees: float
    elevation_degrees: float


# --- the brush: noise, surfaces and colours ---------------------------------------------------------------------------


def rgb(code: str) -> Floats:
    """A colour such as "c81e2a" as linear light, shape (3, 1, 1)."""
    parts = np.frombuffer(bytes.fromhex(code), np.uint8).astype(np.float32) / 255
    return np.asarray(parts**2.2, np.float32).reshape(3, 1, 1)


def mix(first: Floats, second: Floats, share: Floats) -> Floats:
    """`first` where share is 0, `second` where it is 1; values outside are clipped."""
    weight = np.clip(share, 0, 1).astype(np.float32)
    return np.asarray(first + (second - first) * weight, np.float32)


def ramp(values: Floats, low: float, high: float) -> Floats:
    """A smooth step from 0 at `low` to 1 at `high` (either way round)."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def bell(values: Floats, width: float) -> Floats:
    """1 at 0, falling off as a Gaussian of that width."""
    return np.asarray(np.exp(-((values / width) ** 2)), np.float32)


@dataclass(frozen=True)
class Brush:
    """Builds the surfels of one kind, so far apart in the kind's own units; `rng` is its chance."""

    spacing: float
    rng: np.random.Generator

    def count(self, length: float) -> int:
        """How many samples a line of that length needs."""
        return max(4, math.ceil(length / self.spacing))

    def noise(self, xyz: Floats, wavelength: float, waves: int = 18) -> Floats:
        """A smooth random field over points (3, ...), about zero with deviation 1: a sum of plane waves."""
        total = np.zeros(xyz.shape[1:], np.float32)
        for _ in range(waves):
            direction = self.rng.normal(size=3)
            direction *= math.tau / wavelength * self.rng.uniform(0.6, 1.5) / np.linalg.norm(direction)
            k, phase = direction.astype(np.float32), np.float32(self.rng.uniform(0, math.tau))
            total += np.sin(k[0] * xyz[0] + k[1] * xyz[1] + k[2] * xyz[2] + phase)
        return np.asarray(total / np.float32(math.sqrt(waves / 2)), np.float32)

    def globe(self, radius: float = 1.0) -> tuple[Floats, Floats, Floats]:
        """Polar angle (rows, 1) from the stem's pole, azimuth (1, columns), and unit directions (3, rows, columns)."""
        rows, columns = self.count(math.pi * radius), self.count(math.tau * radius)
        polar = ((np.arange(rows, dtype=np.float32) + 0.5) * (math.pi / rows))[:, None]
        azimuth = (np.arange(columns, dtype=np.float32) * (math.tau / columns))[None, :]
        ring = np.sin(polar)
        unit = np.stack(np.broadcast_arrays(ring * np.cos(azimuth), ring * np.sin(azimuth), np.cos(polar)))
        return polar, azimuth, np.asarray(unit, np.float32)

    def skin(self, xyz: Floats, colour: Floats, shine: Shine) -> Surfels:
        """Surfels of a closed surface (3, rows, columns): columns run round it, rows from one pole to the other."""
        around = np.roll(xyz, -1, axis=2) - np.roll(xyz, 1, axis=2)
        normals = _cross(np.asarray(np.gradient(xyz, axis=1), np.float32), around)
        core = xyz.mean(axis=2, keepdims=True)
        if float(((xyz - core) * normals).sum()) < 0:
            normals = -normals
        # Near a pole the columns crowd together; every k-th is enough there.
        gap = np.sqrt((around**2).sum(axis=0)).mean(axis=1) / 2
        every = np.clip(self.spacing / np.maximum(gap, 1e-9), 1, xyz.shape[2] / 8).astype(int)
        keep = np.arange(xyz.shape[2])[None, :] % every[:, None] == 0
        full = np.asarray(np.broadcast_to(colour, xyz.shape), np.float32)
        return _surfels(xyz[:, keep], normals[:, keep], full[:, keep], shine)

    def tube(self, path: Floats, radius: Floats, colour: Floats, shine: Shine) -> Surfels:
        """A round tube along path (3, rows) of radius (rows,); colour is (3, rows, 1)."""
        xyz, cap = self.sweep(path, radius, np.ones(self.count(math.tau * float(radius.max())), np.float32))
        return self.skin(xyz, np.pad(colour, [(0, 0), (cap, cap), (0, 0)], mode="edge"), shine)

    def sweep(self, path: Floats, radius: Floats, outline: Floats) -> tuple[Floats, int]:
        """A closed tube (3, rows, columns) whose cross-section is `radius` (rows,) times `outline` (columns,).

        Also returns how many rows were added at each end to close it.
        """
        cap = self.count(float(max(radius[0], radius[-1])))
        closing = np.linspace(0.02, 1, cap, endpoint=False, dtype=np.float32)
        radius = np.concatenate([radius[0] * closing, radius, radius[-1] * closing[::-1]])
        centre, side, other = (
            np.pad(part, [(0, 0), (cap, cap)], mode="edge")[:, :, None] for part in (path, *_frame(path))
        )
        angle = np.linspace(0, math.tau, len(outline), endpoint=False, dtype=np.float32)
        ring = side * np.cos(angle) + other * np.sin(angle)
        return np.asarray(centre + radius[None, :, None] * outline * ring, np.float32), cap

    def stem(self, points: list[Point], thick: float, tints: tuple[str, str]) -> Surfels:
        """A stalk through three control points, from the first tint to the second, a little wider at its end."""
        length = sum(math.dist(a, b) for a, b in pairwise(points))
        s = np.linspace(0, 1, self.count(length), dtype=np.float32)
        path = _bezier(points, s)
        radius = thick * (1 + 0.6 * ramp(s, 0.8, 1))
        tone = mix(rgb(tints[0]), rgb(tints[1]), s[None, :, None])
        return self.tube(path, np.asarray(radius, np.float32), tone, (0.1, 12, 0.1))

    def leaf(self, points: list[Point], width: float, tints: tuple[str, str], fold: float) -> Surfels:
        """A pointed blade along three control points, folded along its middle; seen from both sides."""
        length = sum(math.dist(a, b) for a, b in pairwise(points))
        s = np.linspace(0, 1, self.count(length), dtype=np.float32)
        across = np.linspace(-1, 1, self.count(2 * width), dtype=np.float32)
        path = _bezier(points, s)
        side, other = _frame(path)
        half = width * np.sqrt(np.clip(s * 8, 0, 1)) * (1 - s**1.6)
        xyz = path[:, :, None] + half[None, :, None] * (
            side[:, :, None] * across + other[:, :, None] * (fold * np.abs(across))
        )
        normals = _cross(np.asarray(np.gradient(xyz, axis=1)), np.asarray(np.gradient(xyz, axis=2)))
        veins = 0.5 + 0.5 * np.cos(across * 9)[None, :] * np.ones_like(s)[:, None]
        tone = mix(rgb(tints[0]), rgb(tints[1]), np.asarray(0.75 * s[:, None] + 0.25 * veins, np.float32))
        flat = _surfels(xyz.reshape(3, -1), normals.reshape(3, -1), tone.reshape(3, -1), (0.12, 14, 0.25))
        return join([flat, Surfels(flat.points, -flat.normals, flat.colour * np.float32(0.8), flat.shine)])


def _cross(first: Floats, second: Floats) -> Floats:
    return np.asarray(
        np.stack(
            [
                first[1] * second[2] - first[2] * second[1],
                first[2] * second[0] - first[0] * second[2],
                first[0] * second[1] - first[1] * second[0],
            ]
        ),
        np.float32,
    )


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.sqrt((vectors**2).sum(axis=0)), 1e-12), np.float32)


def _bezier(points: list[Point], s: Floats) -> Floats:
    a, b, c = (np.array(point, np.float32)[:, None] for point in points)
    return np.asarray((1 - s) ** 2 * a + 2 * s * (1 - s) * b + s**2 * c, np.float32)


def _frame(path: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors across a path (3, rows) at each of its points."""
    along = _unit(np.asarray(np.gradient(path, axis=1), np.float32))
    chord = np.abs(path[:, -1] - path[:, 0])
    steady = np.zeros((3, 1), np.float32)
    steady[int(np.argmin(chord))] = 1  # the axis the path keeps away from never runs along it
    side = _unit(_cross(along, np.broadcast_to(steady, along.shape)))
    return side, _cross(along, side)


def _surfels(points: Floats, normals: Floats, colour: Floats, shine: Shine) -> Surfels:
    gloss = np.repeat(np.array(shine, np.float32)[:, None], points.shape[1], axis=1)
    return Surfels(points.astype(np.float32), _unit(normals), colour.astype(np.float32), gloss)


def join(parts: list[Surfels]) -> Surfels:
    """One cloud of several."""
    return Surfels(
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in Surfels.__dataclass_fields__)
    )


# --- the fruits -------------------------------------------------------------------------------------------------------
# Each is about one unit in radius, its axis along z with the stem up. Lengths are in that unit, colours are sRGB.


def apple_red(brush: Brush) -> list[Surfels]:
    """Red over yellow, streaked from the stem down, with pale dots."""
    polar, azimuth, unit = brush.globe()
    ribs = 1 + 0.025 * np.cos(5 * azimuth + 0.6) * ramp(polar, 1.2, 3.0)
    ring = np.sin(polar) * (1 + 0.09 * np.cos(polar)) * ribs
    height = 0.90 * np.cos(polar) - 0.46 * bell(polar, 0.40) + 0.26 * bell(math.pi - polar, 0.30)
    xyz = _turned(ring, azimuth, height)
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
    xyz = _turned(ring, azimuth, height)
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
    crease = bell(_wrapped(azimuth - 1.1), 0.12) * np.sin(polar)
    ring = np.sin(polar) * (1 + 0.07 * np.cos(polar)) * heart * (1 - 0.035 * crease)
    height = 0.90 * np.cos(polar) - 0.34 * bell(polar, 0.36) + 0.05 * bell(math.pi - polar, 0.2)
    xyz = _turned(ring, azimuth, height)
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
        pole = _turn_pole(unit, away)
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
        parts.append(_only(berry, seen))
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
    xyz = _turned(ring, azimuth, height)
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
    xyz = _turned(ring, azimuth, height)
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
    crease = bell(_wrapped(azimuth), 0.17) * ramp(np.sin(polar), 0, 0.5)
    ring = np.sin(polar) * (1 - 0.085 * crease) * (1 + 0.03 * np.cos(azimuth))
    height = 0.94 * np.cos(polar) - 0.30 * bell(polar, 0.34) - 0.06 * bell(math.pi - polar, 0.16)
    xyz = _turned(ring, azimuth, height)
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
    xyz = _turned(ring, azimuth, height)
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
    xyz = _turned(np.asarray(ring, np.float32), azimuth, np.asarray(height, np.float32))
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
    seeds = _seeds(unit, 150)
    ring = np.sin(polar) * taper * lumps
    height = 0.98 * np.cos(polar) - 0.16 * bell(polar, 0.5)
    xyz = _turned(ring, azimuth, height)
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


def _turned(ring: Floats, azimuth: Floats, height: Floats) -> Floats:
    """The surface of revolution (3, rows, columns) of radius `ring` at `height`."""
    return np.stack(np.broadcast_arrays(ring * np.cos(azimuth), ring * np.sin(azimuth), height)).astype(np.float32)


def _wrapped(angle: Floats) -> Floats:
    return np.asarray((angle + math.pi) % math.tau - math.pi, np.float32)


def _turn_pole(unit: Floats, away: NDArray[np.float64]) -> Floats:
    """Directions (3, ...) turned so that the pole +z points `away`."""
    pole = away / np.linalg.norm(away)
    side = np.cross(pole, [0.31, 0.94, 0.12])
    side /= np.linalg.norm(side)
    basis = np.stack([side, np.cross(pole, side), pole], axis=1).astype(np.float32)
    return np.asarray(np.einsum("ij,jrc->irc", basis, unit), np.float32)


def _only(cloud: Surfels, keep: NDArray[np.bool_]) -> Surfels:
    return Surfels(*(getattr(cloud, name)[:, keep] for name in Surfels.__dataclass_fields__))


def _seeds(unit: Floats, count: int) -> Floats:
    """Radians from each direction (3, rows, columns) to the nearest of `count` points of a Fibonacci lattice."""
    i = np.arange(count) + 0.5
    height, turn = 1 - 2 * i / count, i * 2.399963
    ring = np.sqrt(1 - height**2)
    lattice = np.stack([ring * np.cos(turn), ring * np.sin(turn), height]).astype(np.float32)
    nearest = np.full(unit.shape[1:], -1, np.float32)
    for x, y, z in lattice.T:
        np.maximum(nearest, x * unit[0] + y * unit[1] + z * unit[2], out=nearest)
    return np.asarray(np.arccos(np.clip(nearest, -1, 1)), np.float32)


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


# --- taking the pictures ----------------------------------------------------------------------------------------------


def grow(name: str, settings: Settings) -> Surfels:
    """The specimen of a kind for a seed, centred, its farthest point at distance 1."""
    kind = KINDS[name]
    step = kind.reach / (settings.size * SUPERSAMPLE / 2 * FILL)
    rng = np.random.default_rng([settings.seed, sorted(KINDS).index(name)])
    cloud = join(kind.build(Brush(step * SPACING, rng)))
    points = cloud.points - (cloud.points.max(axis=1, keepdims=True) + cloud.points.min(axis=1, keepdims=True)) / 2
    points /= np.sqrt((points**2).sum(axis=0)).max()
    return Surfels(np.ascontiguousarray(points), cloud.normals, cloud.colour, cloud.shine)


def pose(view: View, lean_degrees: float) -> Floats:
    """The rotation (3, 3) from fruit axes (z along its stem) to camera axes (x right, y up, z to the viewer)."""
    lean, turn, lift = (math.radians(v) for v in (lean_degrees, view.turn_degrees, view.elevation_degrees))
    leaning = np.array([[math.cos(lean), 0, math.sin(lean)], [0, 1, 0], [-math.sin(lean), 0, math.cos(lean)]])
    turning = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    tilting = np.array([[1, 0, 0], [0, math.cos(lift), -math.sin(lift)], [0, math.sin(lift), math.cos(lift)]])
    return np.asarray(tilting @ upright @ turning @ leaning, np.float32)


def photograph(cloud: Surfels, rotation: Floats, size: int, rng: np.random.Generator) -> Image.Image:
    """The picture (size x size, RGB, on white) of a cloud turned by `rotation`."""
    side = size * SUPERSAMPLE
    nearest = _nearest(cloud, rotation, side)
    shown = nearest >= 0
    where = np.flatnonzero(shown)
    which = nearest.ravel()[where]
    points, normals, colour, shine = (
        np.take(part, which, axis=1) for part in (cloud.points, cloud.normals, cloud.colour, cloud.shine)
    )
    depth = np.full((side, side), -9, np.float32)
    depth.ravel()[where] = rotation[2] @ points
    shadow, hollow = _shadow(depth).ravel()[where], _hollow(depth, shown).ravel()[where]
    light = _lit(rotation @ normals, colour, shine, shadow, hollow) * np.float32(1 + rng.normal() * 0.015)
    frame = np.ones((3, side * side), np.float32)
    for channel, value in zip(frame, np.clip(light, 0, 1) ** np.float32(1 / 2.2), strict=True):
        channel[where] = value
    small = _averaged(frame.reshape(3, side, side))
    grain = rng.standard_normal(small.shape, np.float32) * np.float32(0.006)  # the sensor's, none on the white
    small += grain * _averaged(shown[None].astype(np.float32))
    return Image.fromarray((np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy())


def _averaged(frame: Floats) -> Floats:
    """Each pixel's mean over its sub-pixels, (n, side, side) to (n, size, size)."""
    steps = range(SUPERSAMPLE)
    parts = [frame[:, i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps]
    return np.asarray(sum(parts[1:], parts[0]) / np.float32(len(parts)), np.float32)


def _nearest(cloud: Surfels, rotation: Floats, side: int) -> NDArray[np.int64]:
    """For each sub-pixel (side, side) the number of the surfel nearest the camera, -1 for none."""
    facing = np.flatnonzero(rotation[2] @ cloud.normals > 0)
    x, y, z = rotation @ cloud.points[:, facing]
    middle, scale = side / 2, side / 2 * FILL
    pixel = (middle - y * scale).astype(np.int64) * side + (middle + x * scale).astype(np.int64)
    # Depth in the high bits, the surfel's number in the low ones: the greatest key of a pixel is its nearest surfel.
    keys = (((z + 2) * (1 << 18)).astype(np.int64) << 24) | facing
    buffer = np.full(side * side, -1, np.int64)
    np.maximum.at(buffer, pixel, keys)
    grid = buffer.reshape(side, side)
    for first, second in ((grid[1:-1, :-2], grid[1:-1, 2:]), (grid[:-2, 1:-1], grid[2:, 1:-1])):  # close pinholes
        inner = grid[1:-1, 1:-1]
        hole = (inner < 0) & (first >= 0) & (second >= 0)
        inner[hole] = first[hole]
    return np.where(grid >= 0, grid & ((1 << 24) - 1), -1)


def _shadow(depth: Floats) -> Floats:
    """1 where the lamp is hidden behind a nearer part (side, side), walked along the light in the depth picture."""
    side = depth.shape[0]
    flat = math.hypot(float(LIGHT[0]), float(LIGHT[1]))
    rise = float(LIGHT[2]) / flat * 2 / side
    reach = side // 4
    padded = np.pad(depth, reach, constant_values=-9)
    hidden = np.zeros(depth.shape, np.float32)
    for step in (1.5, 3, 5, 7.5, 11, 15, 20, 26, 33, 40):
        pace = step * side / 200
        dx, dy = round(pace * float(LIGHT[0]) / flat), round(-pace * float(LIGHT[1]) / flat)
        over = padded[reach + dy : reach + dy + side, reach + dx : reach + dx + side] - depth - pace * rise
        np.maximum(hidden, np.clip((over - 0.015) * 25, 0, 1), out=hidden)
    return _blurred(hidden, max(1, side // 200))


def _hollow(depth: Floats, shown: NDArray[np.bool_]) -> Floats:
    """How far each place lies behind its surroundings (side, side), 0..1: corners and gaps get less of the sky."""
    radius = max(1, depth.shape[0] // 22)
    share = _blurred(shown.astype(np.float32), radius)
    around = _blurred(np.where(shown, depth, np.float32(0)), radius) / np.maximum(share, 1e-3)
    return np.asarray(np.clip((around - depth) * 4.5, 0, 1), np.float32)


def _blurred(field: Floats, radius: int) -> Floats:
    """The mean over a square of that radius, by running sums."""
    width = 2 * radius + 1
    for axis in (0, 1):
        padded = np.pad(field, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        sums = np.cumsum(padded, axis=axis, dtype=np.float64)
        field = ((sums[width:] - sums[:-width]) if axis == 0 else (sums[:, width:] - sums[:, :-width])) / width
    return np.asarray(field, np.float32)


def _lit(normals: Floats, colour: Floats, shine: Floats, shadow: Floats, hollow: Floats) -> Floats:
    """Linear light (3, n) of surfels seen from the front: lamp, sky, the white table's reflection and the highlight."""
    gloss, exponent, creep = shine
    toward = LIGHT @ normals
    lamp = np.clip((toward + creep) / (1 + creep), 0, 1) - 0.75 * shadow * np.clip(toward, 0, 1)
    sky = (0.20 + 0.10 * normals[1] + 0.10 * normals[2]) * (1 - 0.75 * hollow)
    table = 0.14 * np.clip(-normals[1], 0, 1) * (1 - hollow)
    spot = gloss * np.clip(HALFWAY @ normals, 0, 1) ** exponent * (1 - shadow)
    edge = gloss * 0.12 * np.clip(1 - normals[2], 0, 1) ** 4
    return np.asarray(colour * (1.02 * np.clip(lamp, 0, 1) + sky + table) + (spot + edge), np.float32)


# --- the set ----------------------------------------------------------------------------------------------------------


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
