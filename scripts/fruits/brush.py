"""Surface elements ("surfels": point, normal, colour, shine), and the brush that lays them.

A kind's cloud is built once, from surfaces of revolution, tubes and leaves, with the skin painted on in the fruit's own
coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 wherever it is as large as a cloud
Point = tuple[float, float, float]
Shine = tuple[float, float, float]


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


def turned(ring: Floats, azimuth: Floats, height: Floats) -> Floats:
    """The surface of revolution (3, rows, columns) of radius `ring` at `height`."""
    return np.stack(np.broadcast_arrays(ring * np.cos(azimuth), ring * np.sin(azimuth), height)).astype(np.float32)


def wrapped(angle: Floats) -> Floats:
    """The same angles, from -pi to pi."""
    return np.asarray((angle + math.pi) % math.tau - math.pi, np.float32)


def turn_pole(unit: Floats, away: NDArray[np.float64]) -> Floats:
    """Directions (3, ...) turned so that the pole +z points `away`."""
    pole = away / np.linalg.norm(away)
    side = np.cross(pole, [0.31, 0.94, 0.12])
    side /= np.linalg.norm(side)
    basis = np.stack([side, np.cross(pole, side), pole], axis=1).astype(np.float32)
    return np.asarray(np.einsum("ij,jrc->irc", basis, unit), np.float32)


def only(cloud: Surfels, keep: NDArray[np.bool_]) -> Surfels:
    """The surfels (n,) that are to be kept."""
    return Surfels(*(getattr(cloud, name)[:, keep] for name in Surfels.__dataclass_fields__))


def lattice_distance(unit: Floats, count: int) -> Floats:
    """Radians from each direction (3, rows, columns) to the nearest of `count` points of a Fibonacci lattice."""
    i = np.arange(count) + 0.5
    height, turn = 1 - 2 * i / count, i * 2.399963
    ring = np.sqrt(1 - height**2)
    lattice = np.stack([ring * np.cos(turn), ring * np.sin(turn), height]).astype(np.float32)
    nearest = np.full(unit.shape[1:], -1, np.float32)
    for x, y, z in lattice.T:
        np.maximum(nearest, x * unit[0] + y * unit[1] + z * unit[2], out=nearest)
    return np.asarray(np.arccos(np.clip(nearest, -1, 1)), np.float32)
